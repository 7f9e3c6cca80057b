"""The listening sockets that the supervisor holds for its children, so that an address outlives each of them.

Not the chassis's `listen`: that brings a web server along, and this process is to be there at once.
"""

import errno
import socket

HOST = "127.0.0.1"
# Connections waiting to be accepted, also while a child is started again.
_BACKLOG = 4096


class PortTaken(Exception):
    """The gateway's port cannot be had; one line that says what to do."""


def listening(port: int) -> socket.socket:
    """A listening socket of this machine's loopback; port 0 takes a free one.

    Raises:
        PortTaken: with what to do about it.
    """
    # The protocol is named because asyncio turns Nagle off only where it is.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortTaken(f"port {port} {why}; stop what listens there or choose another with --port N") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    port: int = listener.getsockname()[1]
    return f"http://{HOST}:{port}"
