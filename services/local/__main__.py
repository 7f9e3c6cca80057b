"""`python -m services.local`: the whole system on one machine, until Ctrl-C.

Decides what is said where: with `--json` exactly one line on standard output once all is ready, else a
greeting for people; everything that goes wrong is one line on standard error.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import closing
from pathlib import Path

from services.chassis.settings import EXIT_WRONG_SETTING, load
from services.local.app import System
from services.local.child import ChildFailed
from services.local.embedded import NatsNotFound
from services.local.folder import DataFolder, FolderUnusable
from services.local.greeting import as_json, as_text
from services.local.regions import WrongRegions, region_names
from services.local.settings import LocalSettings
from services.local.sockets import PortTaken

_EPILOG = """\
Every A2A_* setting of the services is passed on to them; README.md lists them. This command has defaults
of its own for A2A_MARKET_MAX_BYTES (1 GiB), A2A_DRAIN_GRACE_S (0) and A2A_DRAIN_SPREAD_S (1), and makes
a secret for A2A_JWT_HS256_SECRET, kept in the data folder, and one for A2A_PAYMENT_WEBHOOK_SECRET at each start.
Logs are in DIR/logs.
"""


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535, 0 for a free one")
    return int(text)


def _regions(text: str) -> tuple[str, ...]:
    try:
        return region_names(text)
    except WrongRegions as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.local",
        description="Run the whole system on this machine: NATS with JetStream, gateway, ingest, deals, orders, "
        "payments, plans, relay, demo traffic.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=_port, default=8080, metavar="N", help="the gateway's port, 0 for a free one (default: 8080)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(".data"), metavar="DIR", help="where events are kept (default: ./.data)"
    )
    parser.add_argument(
        "--regions",
        type=_regions,
        default=(),
        metavar="A,B",
        help="also run these regions: each a NATS leaf node with mirrors of the streams, a relay and a gateway",
    )
    parser.add_argument("--no-traffic", action="store_true", help="make no deals")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON with addresses and tokens once all is ready"
    )
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def _run(system: System, *, json: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, system.supervisor.stop)
    greeting = as_json if json else as_text

    def greet() -> None:
        print(greeting(system.addresses, system.mint.handed_out(), system.webhook_secret, system.regions), flush=True)

    await system.run(greet)


def main(arguments: list[str] | None = None) -> int:
    """Run it; 0 after a stop that was asked for, 2 for a wrong setting, 1 where a process does not start."""
    options = _parser().parse_args(arguments)
    settings = load(LocalSettings)
    try:
        with closing(DataFolder(options.data)) as folder:
            system = System(
                settings,
                folder,
                port=options.port,
                traffic=not options.no_traffic,
                tell=_tell,
                regions=options.regions,
            )
            asyncio.run(_run(system, json=options.json))
    except (FolderUnusable, NatsNotFound, PortTaken) as error:
        return _failed(str(error), EXIT_WRONG_SETTING)
    except ChildFailed as error:
        return _failed(str(error), error.exit_code)
    return 0


def _failed(reason: str, code: int) -> int:
    _tell(f"error: {reason}")
    return code


if __name__ == "__main__":
    sys.exit(main())
