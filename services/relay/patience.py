"""Keeps a mirror patient during a cut, so that it goes on the moment the link is back.

A mirror that has heard nothing for 10 s gives its consumer up and asks the hub for it anew. An attempt during the cut
is lost, and nothing is tried again for 6 s, in which the link may be back long since. The consumer itself is durable
and goes on by itself. So while the hub is out of reach the relay speaks in its place, on the subject on which it
delivers: the idle heartbeat of a consumer with nothing to say (docs/adr/0036).
"""

import nats.errors
from nats.aio.client import Client

# Status 100 and no count of what was delivered: nothing is compared, the mirror only hears that somebody is there.
_HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"


async def reassure(client: Client, deliver_subject: str) -> None:
    """Have the mirror that listens on `deliver_subject` wait on; harmless where none does.

    Raises:
        nats.errors.Error: the region's own NATS is away.
    """
    if not client.is_connected:
        raise nats.errors.ConnectionClosedError
    size = len(_HEARTBEAT)
    # nats-py, which is pinned, writes no status line of ours: `publish` takes headers alone.
    await client._send_command(b"HPUB %b %d %d\r\n%b\r\n" % (deliver_subject.encode(), size, size, _HEARTBEAT))
    await client.flush()
