"""How each kind of workload is run against one peer: servers started, load client run, figures taken."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from tests.load import commands, replay, stall
from tests.load.fan import Fan, Measured, Used, measure
from tests.load.figures import Figures
from tests.load.peers.gateway import SUBJECT, Gateway
from tests.load.peers.peer import Arguments, Peer, Place, Running, Speech, channel_zero
from tests.load.tokens import write_headers
from tests.load.workloads import Kind, Sizes, Workload

# Events in flight, of a broadcast and of a channel each; enough that nothing but the server limits.
_WINDOW = 64
_WINDOW_EACH = 4000
_WARM_EVENTS = 20
_ENDLESS = 10**9
_SETTLED_SECONDS = 2.0
_IDLE_HOLD_SECONDS = 300
_STORM_SECONDS = 60
_Run = Callable[[Workload, Sizes, Peer, Place], Figures]


def run(workload: Workload, sizes: Sizes, peer: Peer, place: Place) -> Figures:
    """One run of one peer.

    Raises:
        ProcessFailed: a server or the load client did not do its work.
    """
    return _RUNS[workload.kind](workload, sizes, peer, place)


def _common(connections: int, running: Running, speech: Speech, step: int) -> list[str]:
    return [
        *("--port", str(running.port), "-n", str(connections), *speech.arguments),
        *("--order", speech.order, "--step", str(step)),
    ]


def _fanned_out(workload: Workload, sizes: Sizes, peer: Peer, place: Place) -> Figures:
    """Saturated, paced, or a channel each."""
    connections = sizes.of(workload)
    with ExitStack() as stack:
        running = peer.start(stack, place)
        speech, publish = running.speeches[workload.transport], running.publish
        each = workload.kind is Kind.EACH
        if not each:
            speech = Speech(channel_zero(speech.arguments), speech.order)
            publish = publish.replace("%d", "0")
        arguments = _common(connections, running, speech, connections if each else 1)
        arguments += ["--pub", publish, "--count", str(_ENDLESS), "--duration", str(sizes.seconds)]
        if each:
            arguments += ["--channels", str(connections), "--fan", "1", "--window", str(_WINDOW_EACH)]
        elif workload.kind is Kind.PACED:
            arguments += ["--rate", str(workload.rate), "--warm", str(_WARM_EVENTS)]
        else:
            arguments += ["--window", str(_WINDOW), "--warm", str(_WARM_EVENTS)]
        return delivered(measure(place.binary, arguments, running.servers, place.cores, place.folder))


def delivered(measured: Measured) -> dict[str, float]:
    """The figures of deliveries."""
    deliveries = measured.number("deliveries")
    found = {name: measured.number(name) for name in ("deliveries_per_s", "p50_ms", "p99_ms", "max_ms", "deliveries")}
    found |= {name: measured.number(name) for name in ("errors", "dropped", "disordered", "missing", "published")}
    if deliveries:
        found["cpu_s_per_million"] = measured.after.cost_since(measured.ready) / deliveries * 1e6
        found["process_s_per_million"] = (measured.after.cpu_seconds - measured.ready.cpu_seconds) / deliveries * 1e6
        found["client_us"] = measured.number("client_cpu_s_after_ready") / deliveries * 1e6
    else:
        found["incomplete"] = measured.number("connections")
    return found


def _idle(workload: Workload, sizes: Sizes, peer: Peer, place: Place) -> Figures:
    connections = sizes.of(workload)
    if workload.own_tokens and isinstance(peer, Gateway):
        peer = Gateway(authorized=False)
    with ExitStack() as stack:
        running = peer.start(stack, place)
        speech = running.speeches[workload.transport if workload.subscribes else "bare"]
        arguments = _common(connections, running, speech, 0)
        arguments += ["--hold", "--max-time", str(_IDLE_HOLD_SECONDS), "--settle", "0.1"]
        if workload.own_tokens and peer.name == "ours":
            subjects = [f"idle{number}" for number in range(connections)]
            arguments += ["--header-file", str(write_headers(place.folder / "headers", subjects))]

        def settled(fan: Fan) -> Mapping[str, float]:
            time.sleep(_SETTLED_SECONDS)
            used = Used.now(running.servers, place.cores)
            fan.end()
            return {"resident_kib": used.resident_kib}

        measured = measure(place.binary, arguments, running.servers, place.cores, place.folder, settled)
    return held(measured)


def held(measured: Measured) -> dict[str, float]:
    """The figures of connections that do nothing."""
    found = {name: measured.number(name) for name in ("errors", "dropped")}
    opened = measured.number("connections")
    if not opened or "resident_kib" not in measured.found:
        return {**found, "incomplete": 1}
    grown = measured.found["resident_kib"] - measured.before.resident_kib
    return {
        **found,
        "kib_per_connection": grown / opened,
        "connects_per_s": opened / measured.number("connect_s"),
        "live_per_s": opened / measured.number("ready_s"),
        "connect_cpu_us": measured.ready.cost_since(measured.before) / opened * 1e6,
        "connect_process_us": (measured.ready.cpu_seconds - measured.before.cpu_seconds) / opened * 1e6,
    }


def _storm(workload: Workload, sizes: Sizes, peer: Peer, place: Place) -> Figures:
    clients = sizes.of(workload)
    with ExitStack() as stack:
        running = peer.start(stack, place)
        assert running.behind is not None, f"{peer.name} cannot replay"
        said: Arguments = running.behind(sizes.behind)
        time.sleep(1)
        arguments = ["--port", str(running.port), "-n", str(clients), "--inflight", str(clients), *said]
        arguments += ["--step", "1", "--expect-each", str(sizes.behind), "--max-time", str(_STORM_SECONDS)]
        measured = measure(place.binary, arguments, running.servers, place.cores, place.folder)
    caught_up = measured.number("caught_up_s")
    found = {name: measured.number(name) for name in ("errors", "dropped", "disordered", "missing", "deliveries_per_s")}
    found["core_s"] = measured.after.cost_since(measured.before)
    found["incomplete"] = clients - measured.number("caught_up")
    return found if caught_up < 0 else {**found, "caught_up_s": caught_up}


def _deep(workload: Workload, sizes: Sizes, peer: Peer, place: Place) -> Figures:
    """As a storm; our gateway starts after the events are stored, with nothing of them in its log."""
    if isinstance(peer, Gateway):
        subject = SUBJECT.replace("%d", "0")
        peer = Gateway(prepare=lambda line: line.preload(lambda _: subject, sizes.behind), A2A_LOG_WARM_EVENTS="0")
    return _storm(workload, sizes, peer, place)


_RUNS: Mapping[Kind, _Run] = {
    Kind.SATURATED: _fanned_out,
    Kind.PACED: _fanned_out,
    Kind.EACH: _fanned_out,
    Kind.IDLE: _idle,
    Kind.STORM: _storm,
    Kind.DEEP: _deep,
    Kind.REPLAY: lambda workload, sizes, _, place: replay.run(sizes.of(workload), sizes, place),
    Kind.COMMANDS: lambda workload, sizes, _, place: commands.run(sizes.stored(workload), sizes, place),
    Kind.STALL: lambda workload, sizes, _, place: stall.run(sizes.of(workload), workload.rate, sizes, place),
}
