"""JetStream: connecting, reading a stream's life and bounds, and making streams equal to the topology.

"Exists" means its epoch was read (DESIGN decision 11). Nothing here deletes a stream or shrinks
what one keeps. Requests are raw API calls: the wrappers lack direct batches, and say less of errors.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from structlog.stdlib import BoundLogger

from contracts.cursor import epoch_of
from contracts.topology import DUPLICATE_WINDOW_SECONDS, EPOCH, StreamSpec

REQUEST_SECONDS = 5.0
_NO_STORAGE = 10047
_NAME_IN_USE = 10058
_NOT_FOUND = 10059
_MIB = 1024**2


class JetStreamError(Exception):
    """The API refused; `code` is JetStream's own error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code


class StreamMissing(JetStreamError):
    """There is no such stream."""


class NoRoom(JetStreamError):
    """The server cannot reserve what a stream asks for; the message is one line with the free figure."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream as it stands: its life and its bounds."""

    name: str
    epoch: str
    first: int
    last: int
    messages: int
    replicas: int
    config: Mapping[str, Any]


async def connect(url: str, *, name: str, log: BoundLogger) -> Client:
    """Connect and stay connected: reconnects for ever, and tells every asynchronous error to the log.

    Raises:
        OSError, nats.errors.Error: the server cannot be reached now (after half a second); why, not "no servers".
    """
    client = Client()
    # What the first attempts failed with; it is raised, so it is not logged as well.
    failures: list[Exception] = []

    async def on_error(error: Exception) -> None:
        if client.is_connected or client.is_reconnecting:
            log.warning("nats_error", error=str(error) or type(error).__name__)
        else:
            failures.append(error)

    async def on_disconnect() -> None:
        log.warning("nats_disconnected", url=_without_secrets(url))

    async def on_reconnect() -> None:
        log.info("nats_reconnected", url=_without_secrets(url))

    try:
        await client.connect(
            url,
            name=name,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated as int, slept as seconds
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
        )
    except nats.errors.NoServersError as error:
        raise (failures or [error])[-1] from error
    # Not given above: with it, a first connect to a server that is away would try for ever and never return.
    client.options["max_reconnect_attempts"] = -1
    return client


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2]


async def request(client: Client, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One JetStream API call.

    Raises:
        JetStreamError: the API refused.
        nats.errors.Error: nobody answered in time.
    """
    payload = json.dumps(body).encode() if body is not None else b""
    answer = await client.request(f"$JS.API.{subject}", payload, timeout=REQUEST_SECONDS)
    found: dict[str, Any] = json.loads(answer.data)
    error = found.get("error")
    if error:
        kind = StreamMissing if error.get("err_code") == _NOT_FOUND else JetStreamError
        raise kind(error.get("err_code", 0), error.get("description", "refused"))
    return found


async def state(client: Client, stream: str) -> StreamState:
    """The stream's epoch and bounds now (0.4 ms).

    Raises:
        StreamMissing: there is no such stream.
    """
    return _state(await request(client, f"STREAM.INFO.{stream}"))


def _state(info: Mapping[str, Any]) -> StreamState:
    config, bounds = info["config"], info["state"]
    epoch = (config.get("metadata") or {}).get(EPOCH) or epoch_of(_milliseconds(info["created"]))
    # An empty stream tells first 0 before its first event and last + 1 after a purge: both mean "nothing before last + 1".
    first = bounds["first_seq"] if bounds["messages"] else bounds["last_seq"] + 1
    return StreamState(config["name"], epoch, first, bounds["last_seq"], bounds["messages"], config["num_replicas"], config)


def _milliseconds(created: str) -> int:
    # JetStream tells nanoseconds; `fromisoformat` takes any number of decimals from Python 3.11 on.
    return int(datetime.fromisoformat(created).timestamp() * 1000)


def _config(spec: StreamSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "storage": "file",
        "retention": "limits",
        "discard": spec.discard,
        "max_bytes": spec.max_bytes or -1,
        "max_age": (spec.max_age_seconds or 0) * 10**9,
        "num_replicas": spec.replicas,
        "duplicate_window": DUPLICATE_WINDOW_SECONDS * 10**9,
        "allow_direct": True,
    }


async def ensure(client: Client, specs: Iterable[StreamSpec]) -> dict[str, StreamState]:
    """Make each stream and its replay mirror where they are missing, leave alone what exists; idempotent, safe to run twice at once.

    Raises:
        NoRoom: the server cannot reserve the stream's size.
        JetStreamError: refused for another reason.
    """
    found = {}
    for spec in specs:
        found[spec.name] = await _ensure_stream(client, spec)
        await _ensure_mirror(client, spec, found[spec.name].epoch)
    return found


async def _ensure_stream(client: Client, spec: StreamSpec) -> StreamState:
    try:
        return await state(client, spec.name)
    except StreamMissing:
        pass
    epoch = epoch_of(time.time_ns() // 1_000_000)
    try:
        return _state(await request(client, f"STREAM.CREATE.{spec.name}", {**_config(spec), "metadata": {EPOCH: epoch}}))
    except JetStreamError as error:
        if error.code == _NAME_IN_USE:  # another process made it between our two calls
            return await state(client, spec.name)
        if error.code == _NO_STORAGE:
            free = await _free_bytes(client)
            raise NoRoom(
                error.code,
                f"stream {spec.name} reserves {(spec.max_bytes or 0) // _MIB} MiB and the NATS server has {free // _MIB} MiB free; "
                f"set A2A_{spec.name}_MAX_BYTES lower or give JetStream more storage",
            ) from error
        raise


async def _ensure_mirror(client: Client, spec: StreamSpec, epoch: str) -> None:
    config = {
        "name": spec.replay_mirror,
        "mirror": {"name": spec.name},
        "storage": "file",
        "discard": "old",
        "max_age": (spec.max_age_seconds or 0) * 10**9,
        "num_replicas": spec.replicas,
        "allow_direct": True,
        "metadata": {EPOCH: epoch},
    }
    try:
        await request(client, f"STREAM.CREATE.{spec.replay_mirror}", config)
    except JetStreamError as error:
        if error.code != _NAME_IN_USE:
            raise


async def _free_bytes(client: Client) -> int:
    """What the server would still reserve, found by asking: no API call tells it (only an optional monitoring port does)."""
    low, high = 0, 2**50
    while high - low > _MIB:
        middle = (low + high) // 2
        probe = {"name": "A2A_FREE_PROBE", "subjects": ["a2a.free.probe"], "storage": "file", "max_bytes": middle}
        try:
            await request(client, "STREAM.CREATE.A2A_FREE_PROBE", probe)
        except JetStreamError:
            high = middle
        else:
            low = middle
            await request(client, "STREAM.DELETE.A2A_FREE_PROBE")
    return low
