"""`python -m services.relay`: keep the streams of one NATS site as the topology says."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

import nats.errors

from contracts.topology import StreamSpec, stores, streams
from services.chassis.jetstream import JetStreamError, connect
from services.chassis.server import CannotListen, listen, run
from services.chassis.settings import described, load, refuse
from services.chassis.telemetry import configure_logging, logger
from services.relay.app import EXIT_FAILED, EXIT_NO_ROOM, Relay
from services.relay.reconciler import Reconciler
from services.relay.report import table, told
from services.relay.settings import RelaySettings

_DESCRIPTION = """\
Makes the streams of one NATS site equal to contracts.topology and keeps them so: creates what is
missing (with an epoch, and with a replay mirror), corrects settings that drifted, makes a wrong
replay mirror again. It never deletes a stream, and never shrinks what one keeps unless told to.
Serves /livez, /readyz and /metrics meanwhile. Safe to run more than once at a time.
"""
_EXITS = """\
exit codes: 0 done, or stopped by SIGTERM; 1 not as the topology says, or NATS is away (--once, --status);
            2 a wrong setting, or the NATS server has no room for a stream
"""


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.relay",
        description=_DESCRIPTION,
        epilog=f"settings, from the environment:\n{described(RelaySettings)}\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="converge, then exit: 0 where everything is as declared")
    how.add_argument("--status", action="store_true", help="print the streams as they stand, and change nothing")
    parser.add_argument(
        "--allow-shrink",
        action="store_true",
        help="also lower sizes, ages and copies to what the topology says, which forgets events, "
        "and let a stream that is gone begin empty though its mirror holds events",
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run as told by the command line; the exit code."""
    options = _arguments(given)
    settings = load(RelaySettings)
    configure_logging("relay", settings.log_level)
    if options.status:
        return asyncio.run(_with_reconciler(settings, False, _status))
    if options.once:
        return asyncio.run(_with_reconciler(settings, options.allow_shrink, _once))
    relay = Relay(settings, _specs(settings), allow_shrink=options.allow_shrink)
    try:
        listener = listen(settings.http_host, settings.http_port, settings.http_fd)
    except CannotListen as error:
        refuse(str(error))
    run(relay.app(), listener)
    return relay.exit_code


def _specs(settings: RelaySettings) -> tuple[StreamSpec, ...]:
    events = streams(
        market_max_bytes=settings.market_max_bytes, replicas=settings.stream_replicas, specs=settings.domains.streams
    )
    return (*events, *stores(replicas=settings.stream_replicas))


async def _with_reconciler(
    settings: RelaySettings, allow_shrink: bool, what: Callable[[Reconciler], Awaitable[int]]
) -> int:
    try:
        client = await connect(settings.nats_url, name="relay", log=logger(__name__))
        try:
            return await what(Reconciler(client, _specs(settings), allow_shrink=allow_shrink))
        finally:
            await client.close()
    except JetStreamError as error:
        return _failed(f"JetStream refused: {error}", EXIT_FAILED)
    except (OSError, nats.errors.Error) as error:
        return _failed(f"NATS at A2A_NATS_URL does not answer: {str(error) or type(error).__name__}", EXIT_FAILED)


async def _once(reconciler: Reconciler) -> int:
    reports = await reconciler.round()
    refused = [*told(reports, kept=False), *told(reports, kept=True)]
    if refused:
        return _failed("; ".join(refused), EXIT_NO_ROOM if any(report.no_room for report in reports) else EXIT_FAILED)
    return 0


async def _status(reconciler: Reconciler) -> int:
    reports = await reconciler.look()
    print(table(reports))
    return 0 if all(report.stream is not None and report.is_as_declared for report in reports) else EXIT_FAILED


def _failed(reason: str, code: int) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
