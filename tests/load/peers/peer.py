"""What a peer is: whether it is here, how it is started, and how a load client speaks to it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.load.machine import Cores
from tests.load.process import Process

Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speech:
    """The load client's arguments for one transport; `%d` in them is the channel's number."""

    arguments: Arguments
    # Where a delivery tells its position: `body`, `cursor` or `id`.
    order: str


@dataclass(slots=True)
class Running:
    """A started peer."""

    port: int
    # The load client's `--pub`; `%d` is the channel's number.
    publish: str
    speeches: Mapping[str, Speech]
    # Server processes, the broker's included.
    servers: list[Process]
    # Stores events on channel 0; what a client says to get all of them, given by the peer.
    behind: Callable[[int], Arguments] | None = None
    # What a client needs to read one header per connection, where the peer checks tokens.
    url: str = ""
    nats_port: int = 0
    # What the workload has put in before the server started: the position after which it was stored.
    prepared: int = 0
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens."""

    folder: Path
    cores: Cores
    # The load client.
    binary: Path


class Peer(Protocol):
    """One kind of server."""

    name: str

    def missing(self) -> str | None:
        """What is not here, and how to have it; None where all is."""

    def start(self, stack: ExitStack, place: Place) -> Running:
        """Start it; `stack` stops it."""


def serve(stack: ExitStack, place: Place, command: list[str], name: str, port: int, **environment: str) -> Process:
    """Start one server process on the servers' core and wait for its port."""
    log = place.folder / f"{name}.log"
    process = Process(command, core=place.cores.server, log=log, environment=environment)
    stack.callback(process.stop)
    process.wait_for_port(port)
    return process


def channel_zero(arguments: Arguments) -> Arguments:
    """The same with every client on channel 0."""
    return tuple(argument.replace("c%d", "c0") for argument in arguments)
