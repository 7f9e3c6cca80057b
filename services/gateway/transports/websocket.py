"""The WebSocket's bytes: frames in, whole messages to the session; whole frames out.

Knows RFC 6455 and nothing of the protocol above it. Whole unfragmented text frames, which is what
clients send, are unmasked in place; for anything else a sans-IO `websockets` protocol is made, and
dropped again as soon as nothing is left in it, so that an idle client holds none.
"""

import asyncio
import sys
from collections.abc import Callable

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from contracts.errors import CloseCode, ErrorCode, Problem
from contracts.wire import LARGEST_CLIENT_MESSAGE_BYTES
from services.gateway.core.session import Session
from services.gateway.core.sink import Sink
from services.gateway.transports.takeover import SlimProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  # wheels without the extension have the same function in Python
    from websockets.utils import apply_mask

_WHOLE_TEXT = 0x81
# The transport is writable again once its buffer is down to this share of the high mark.
_LOW_SHARE = 4
_MESSAGES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_SMALL_FRAGMENT = 128
# Answers are joined with those beside them; what is larger is events, and goes at once.
_SMALL_WRITE = 1024
_FRAMES_AFTER_CLOSE = 64
_TOO_LARGE = Problem(ErrorCode.MESSAGE_TOO_LARGE, f"a message has at most {LARGEST_CLIENT_MESSAGE_BYTES} bytes")


class WebSocketTransport(SlimProtocol):
    """One WebSocket after its handshake; the session's sink."""

    __slots__ = ("_corked", "_held", "_message", "_parser", "_patience", "_rest", "_skip", "session", "transport")

    def __init__(
        self, transport: asyncio.Transport, head: bytes, make_session: Callable[[Sink], Session], write_high_bytes: int
    ) -> None:
        """`head`: the handshake's answer, which goes before anything else."""
        self.transport = transport
        # What is said while a read, or the handshake, is dealt with: it goes as one write.
        self._corked: list[bytes] | None = [head]
        # Bytes of a frame that is not here in whole, and of what follows while messages are held.
        self._rest: bytearray | None = None
        # Made for control frames, fragments and faults only.
        self._parser: Protocol | None = None
        # A message that comes in fragments: its first opcode and its bytes so far.
        self._message: tuple[Opcode, bytearray] | None = None
        # How many bytes to pass over: what is left of a frame that was refused for its size.
        self._skip = 0
        self._held = False
        # How many more frames are read after our close, to find the client's.
        self._patience = _FRAMES_AFTER_CLOSE
        transport.set_write_buffer_limits(write_high_bytes, write_high_bytes // _LOW_SHARE)
        self.session = make_session(self)
        self._uncork()

    # From the transport.

    def data_received(self, data: bytes) -> None:
        """Frames, cut anywhere."""
        self._corked = []
        try:
            self._take_in(data)
        finally:
            self._uncork()

    def _take_in(self, data: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._rest is not None:
            self._rest += data
            data = bytes(self._rest)
            self._rest = None
        if data:
            self._read(data)

    def _read(self, data: bytes) -> None:
        start, size = 0, len(data)
        while start < size and not self._held:
            if self.session.closed and not self._still_reads():
                return
            end, body = _frame_end(data, start)
            if body > LARGEST_CLIENT_MESSAGE_BYTES:
                self._skip = max(end - size, 0)
                start = min(end, size)
                self.session.answer_malformed(_TOO_LARGE)
                continue
            if end > size:
                break
            if data[start] == _WHOLE_TEXT and data[start + 1] & 0x80 and self._message is None:
                self.session.receive(apply_mask(data[end - body : end], data[end - body - 4 : end - body]))
            else:
                self._read_by_the_book(data[start:end])
                if self._skip:
                    return
            start = end
        if start < size and not self.transport.is_closing():
            self._rest = bytearray(data[start:])
            if self._held and len(self._rest) > LARGEST_CLIENT_MESSAGE_BYTES:
                self.transport.pause_reading()

    def _still_reads(self) -> bool:
        """After our close a client has a few frames to answer with its own; then nothing is read until the end."""
        self._patience -= 1
        if self._patience < 0:
            self._skip = sys.maxsize
            self.transport.pause_reading()
        return self._patience >= 0

    def _read_by_the_book(self, frame: bytes) -> None:
        """One whole frame of another kind: control, fragment, binary, or a fault."""
        parser = self._parser
        if parser is None:
            parser = self._parser = Protocol(Side.SERVER, state=OPEN, max_size=None)
        parser.receive_data(frame)
        if parser.parser_exc is not None:
            self._skip = sys.maxsize  # nothing that follows a fault can be told apart
            self.session.end(CloseCode.PROTOCOL)
            return
        answer = b"".join(parser.data_to_send())
        if answer and not self.session.closed:
            self.write(answer)
        for event in parser.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if self._message is None:
            self._parser = None

    def _take(self, frame: Frame) -> None:
        # A message counts once it is whole; what is small enough to come by the hundred thousand counts as well.
        is_small_piece = not frame.fin and len(frame.data) < _SMALL_FRAGMENT
        self.session.heard(counts=is_small_piece or frame.opcode not in _MESSAGES)
        if frame.opcode is Opcode.CLOSE:
            self.session.release()
            self._uncork()
            self.transport.close()
        elif frame.opcode in _MESSAGES:
            self._take_fragment(frame)

    def _take_fragment(self, frame: Frame) -> None:
        opcode, text = self._message or (frame.opcode, bytearray())
        text += frame.data
        self._message = None if frame.fin else (opcode, text)
        if len(text) > LARGEST_CLIENT_MESSAGE_BYTES:
            text.clear()  # what follows of it is passed over; the client's close frame is still looked for
            self.session.answer_malformed(_TOO_LARGE)
        elif frame.fin and opcode is Opcode.TEXT:
            self.session.receive(bytes(text))
        elif frame.fin:
            self.session.answer_malformed(Problem(ErrorCode.INVALID_MESSAGE, "messages are text frames"))

    def eof_received(self) -> None:
        """The client closed its side without a close frame: nothing more can be told it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone; everything it held is released now."""
        super().connection_lost(exc)
        self.session.release()
        # The transport says no more, and the session holds its sink: a ring would wait for the collector.
        del self.session
        self._rest = self._parser = self._message = None

    def pause_writing(self) -> None:
        """The client does not take what is written: write no more, and hear no more."""
        self.session.pause()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up with what was written."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if not self.session.closed:
            self.session.resume()

    def shutdown(self) -> None:
        """Uvicorn stops: tell the client when to come back."""
        self.session.drain()

    # Sink.

    def write(self, data: bytes) -> None:
        """Send after all before."""
        corked = self._corked
        if corked is None:
            self.transport.write(data)
            return
        corked.append(data)
        if len(data) > _SMALL_WRITE:
            self.transport.write(b"".join(corked))
            corked.clear()

    def _uncork(self) -> None:
        corked, self._corked = self._corked, None
        if corked:
            self.transport.write(b"".join(corked))

    def close(self) -> None:
        """The close frame is written: wait for the client's, and read on for it."""

    def abort(self) -> None:
        """The client did not answer the close in time."""
        self.transport.abort()

    def hold(self) -> None:
        """Keep what comes until `go_on`."""
        self._held = True

    def go_on(self) -> None:
        """Hand over what was kept."""
        if not self._held:
            return
        self._held = False
        rest, self._rest = self._rest, None
        if rest:
            self._read(bytes(rest))
        if not self._held and not self.transport.is_closing() and self.session.writable:
            self.transport.resume_reading()

    def unsent(self) -> int:
        """What the transport's buffer holds."""
        return self.transport.get_write_buffer_size()


def _frame_end(data: bytes, start: int) -> tuple[int, int]:
    """Where the frame at `start` ends, behind the data where it is cut, and its payload's length (RFC 6455 §5.2)."""
    size = len(data)
    if size - start < 2:
        return size + 1, 0
    length = data[start + 1] & 0x7F
    head = 2
    if length >= 126:
        wide = 2 if length == 126 else 8
        if size - start < 2 + wide:
            return size + 1, 0
        length = int.from_bytes(data[start + 2 : start + 2 + wide], "big")
        head += wide
    if data[start + 1] & 0x80:
        head += 4
    return start + head + length, length
