"""STALL: one client in ten stops reading under a steady stream of events.

The others must get everything, in time; one that stalls costs its buffer and is closed 4102, by the gateway's
own count, and by what those see that read again soon enough.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack

from tests.load.fan import Fan, measure
from tests.load.figures import Figures
from tests.load.peers.gateway import Gateway, metrics
from tests.load.peers.peer import Place, channel_zero
from tests.load.process import resident_kib
from tests.load.workloads import Sizes

_ONE_IN = 10
# Long enough for the log to be as large as it gets: what grows afterwards is due to the stalled clients.
_FIRST_SECONDS = 3.0
# After the stall's own limit: until the kernel's buffers and ours are full, and until the wheel has turned.
_SPARE_SECONDS = 30.0
_POLL_SECONDS = 0.1
# Publishing ends when the stalled are woken.
_ENDLESS = 10**9
_TOO_SLOW = "4102"
_CLOSED = 'a2a_connections_closed_total{reason="too_slow"}'


def run(connections: int, rate: float, sizes: Sizes, place: Place) -> Figures:
    """One run."""
    stalled = connections // _ONE_IN
    limit = sizes.stall_seconds
    with ExitStack() as stack:
        peer = Gateway(A2A_STALL_S=str(limit), A2A_LOG_BYTES=str(2 * 1024**2))
        running = peer.start(stack, place)
        gateway = running.servers[-1]
        speech = running.speeches["ws"]
        arguments = ["--port", str(running.port), "-n", str(connections), *channel_zero(speech.arguments)]
        arguments += ["--order", speech.order, "--step", "1", "--stall", str(stalled), "--idle-end", "1"]
        arguments += ["--pub", running.publish.replace("%d", "0"), "--rate", str(rate)]
        arguments += ["--count", str(_ENDLESS), "--max-time", str(_FIRST_SECONDS + limit + 2 * _SPARE_SECONDS)]

        def stalling(fan: Fan) -> Mapping[str, float]:
            time.sleep(_FIRST_SECONDS)
            before = most = resident_kib(gateway.pids)
            fan.stall()
            deadline = time.monotonic() + limit + _SPARE_SECONDS
            while time.monotonic() < deadline and metrics(running).get(_CLOSED, 0) < stalled:
                time.sleep(_POLL_SECONDS)
                most = max(most, resident_kib(gateway.pids))
            fan.wake()
            return {"kib_per_stalled": (most - before) / stalled, "closed": metrics(running).get(_CLOSED, 0)}

        measured = measure(place.binary, arguments, running.servers, place.cores, place.folder, stalling)
    closed = measured.found.get("closed", 0)
    seen = measured.closes.get(_TOO_SLOW, 0)
    return {
        **{name: measured.number(name) for name in ("p50_ms", "p99_ms", "max_ms", "errors", "disordered", "missing")},
        **measured.found,
        "closed_share": closed / stalled,
        # Who reads again while the gateway waits for the closing handshake sees the code, others a reset.
        "seen_4102": seen,
        # Those that stalled are gone by right; any other code, or nobody who saw this one, is a fault.
        "dropped": measured.number("dropped") - closed,
        "miscoded": sum(measured.closes.values()) - seen + (closed > 0 and not seen),
        "incomplete": measured.number("published") - measured.number("min_each"),
    }
