"""`python -m services.relay`: keep the streams of one NATS site as the topology says."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

import nats.errors
from nats.aio.client import Client

from contracts.topology import StreamSpec, canaries, fleet, stores, streams
from services.chassis.jetstream import JetStreamError, api_of, connect
from services.chassis.server import CannotListen, listen, run
from services.chassis.settings import described, load, refuse
from services.chassis.telemetry import configure_logging, logger
from services.relay.app import EXIT_FAILED, EXIT_NO_ROOM, Relay
from services.relay.everywhere import all_regions, one_region, region_table
from services.relay.newepoch import EpochRefused, declare_epoch
from services.relay.reconciler import Reconciler
from services.relay.regions import RegionReconciler
from services.relay.report import table, told
from services.relay.settings import RelaySettings

_DESCRIPTION = """\
Makes the streams of one NATS site equal to contracts.topology and keeps them so. At the hub: creates what
is missing (with an epoch, and with a replay mirror), corrects settings that drifted, makes a wrong replay
mirror again. In a region, which is where A2A_HUB_DOMAIN is set: keeps the mirrors of the hub's streams, and
the consumers at the hub that feed them. It never deletes a stream that is no mirror of its own, and never
shrinks what one keeps, unless told to.
Serves /livez, /readyz and /metrics meanwhile. Safe to run more than once at a time.
"""
_EXITS = """\
exit codes: 0 done, or stopped by SIGTERM; 1 not as the topology says, or NATS is away (--once, --status);
            2 a wrong setting, or the NATS server has no room for a stream
"""

_CUT_OFF = "the hub does not answer through the leaf node"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.relay",
        description=_DESCRIPTION,
        epilog=f"settings, from the environment:\n{described(RelaySettings)}\n\n{_EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="converge, then exit: 0 where everything is as declared")
    how.add_argument(
        "--status", action="store_true", help="print the streams and all regions as they stand; change nothing"
    )
    how.add_argument(
        "--new-epoch",
        metavar="STREAM",
        help="at the hub, after a restore from a backup: the stream begins a new life, and cursors of the one before "
        "are told so",
    )
    parser.add_argument(
        "--allow-shrink",
        action="store_true",
        help="also lower sizes, ages and copies to what the topology says, which forgets events, "
        "and let a stream that is gone begin empty though its mirror holds events",
    )
    parser.add_argument(
        "--allow-replace",
        action="store_true",
        help="in a region: delete a stream that is in a mirror's place and is no mirror, with its events",
    )
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run as told by the command line; the exit code."""
    options = _arguments(given)
    settings = load(RelaySettings)
    configure_logging("relay", settings.log_level, settings.region)
    if options.status:
        return asyncio.run(_connected(settings, lambda client: _status(client, settings)))
    if options.new_epoch:
        return asyncio.run(_connected(settings, lambda client: _new_epoch(client, settings, options.new_epoch)))
    if options.once:
        return asyncio.run(_connected(settings, lambda client: _once(client, settings, options)))
    relay = Relay(settings, _specs(settings), allow_shrink=options.allow_shrink, allow_replace=options.allow_replace)
    try:
        listener = listen(settings.http_host, settings.http_port, settings.http_fd)
    except CannotListen as error:
        refuse(str(error))
    run(relay.app(), listener)
    return relay.exit_code


def _specs(settings: RelaySettings) -> tuple[StreamSpec, ...]:
    """What the site is to have; in a region mirrors alone: buckets and the like are at the hub only."""
    found = _regional(settings)
    return found if settings.is_region else (*found, *stores(replicas=settings.stream_replicas))


def _events(settings: RelaySettings) -> tuple[StreamSpec, ...]:
    return streams(
        market_max_bytes=settings.market_max_bytes, replicas=settings.stream_replicas, specs=settings.domains.streams
    )


def _regional(settings: RelaySettings) -> tuple[StreamSpec, ...]:
    """What each region has a mirror of."""
    replicas = settings.stream_replicas
    return (*_events(settings), *fleet(replicas=replicas), *canaries(replicas=replicas))


async def _connected(settings: RelaySettings, what: Callable[[Client], Awaitable[int]]) -> int:
    try:
        client = await connect(settings.nats_url, name="relay", log=logger(__name__))
        try:
            return await what(client)
        finally:
            await client.close()
    except EpochRefused as error:
        return _failed(str(error), EXIT_FAILED)
    except JetStreamError as error:
        return _failed(f"JetStream refused: {error}", EXIT_FAILED)
    except (OSError, nats.errors.Error) as error:
        return _failed(f"NATS at A2A_NATS_URL does not answer: {str(error) or type(error).__name__}", EXIT_FAILED)


def _of_region(client: Client, settings: RelaySettings, *, allow_replace: bool = False) -> RegionReconciler:
    return RegionReconciler(
        client,
        _specs(settings),
        region=settings.region,
        hub_domain=settings.hub_domain,
        retention=settings.retention,
        allow_replace=allow_replace,
    )


async def _once(client: Client, settings: RelaySettings, options: argparse.Namespace) -> int:
    if settings.is_region:
        return await _once_in_region(_of_region(client, settings, allow_replace=options.allow_replace))
    reports = await Reconciler(client, _specs(settings), allow_shrink=options.allow_shrink).round()
    refused = [*told(reports, kept=False), *told(reports, kept=True)]
    if refused:
        return _failed("; ".join(refused), EXIT_NO_ROOM if any(report.no_room for report in reports) else EXIT_FAILED)
    return 0


async def _once_in_region(reconciler: RegionReconciler) -> int:
    reports = await reconciler.round()
    if not all(report.is_linked for report in reports):
        return _failed(_CUT_OFF, EXIT_FAILED)
    refused = [f"{report.name}: {reason}" for report in reports for reason in report.wrong]
    return _failed("; ".join(refused), EXIT_FAILED) if refused else 0


async def _status(client: Client, settings: RelaySettings) -> int:
    is_good = True
    if not settings.is_region:
        reports = await Reconciler(client, _specs(settings)).look()
        print(table(reports))
        is_good = all(report.stream is not None and report.is_as_declared for report in reports)
    try:
        rows = await all_regions(client, _regional(settings), api_of(settings.hub_domain))
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
        if not settings.is_region:
            raise
        print(region_table(await one_region(client, _regional(settings), settings.region)))
        return _failed(f"{_CUT_OFF}; this region alone is shown", EXIT_FAILED)
    if rows:
        print(region_table(rows) if settings.is_region else f"\n{region_table(rows)}")
    return 0 if is_good and all(row.stands for row in rows) else EXIT_FAILED


async def _new_epoch(client: Client, settings: RelaySettings, stream: str) -> int:
    if settings.is_region:
        return _failed("--new-epoch is for the hub; this is a region (A2A_HUB_DOMAIN)", EXIT_FAILED)
    before, now = await declare_epoch(client, stream)
    print(f"{stream}: the epoch was {before} and is {now}")
    return 0


def _failed(reason: str, code: int) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
