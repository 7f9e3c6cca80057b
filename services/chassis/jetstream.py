"""JetStream: connecting, reading a stream's life and bounds, and making what is missing of the topology.

"Exists" means its epoch was read (DESIGN decision 11). Nothing here deletes a stream or shrinks
what one keeps; correcting and repairing is `services.relay`'s. Requests are raw API calls: the wrappers
lack direct batches, and say less of errors.

A replay mirror never answers for its stream. JetStream lets a mirror answer the direct gets of its stream
wherever that stream allowed them when the mirror was made or updated, and a mirror that is behind, or of an
earlier life of the stream, then answers wrongly. So both happen only through `put_mirror` (docs/adr/0013).
"""

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import nats.errors
from nats.aio.client import Client
from structlog.stdlib import BoundLogger

from contracts.cursor import epoch_of
from contracts.topology import BUCKET_SUBJECTS, DUPLICATE_WINDOW_SECONDS, EPOCH, StreamSpec
from services.chassis.prefix import DomainClient, prefix_of
from services.chassis.prefix import api_of as api_of

REQUEST_SECONDS = 5.0
NO_STORAGE = 10047
NO_MESSAGE = 10037
_NAME_IN_USE = 10058
# How JetStream writes "at no time".
_NEVER = "0001-01-01T00:00:00Z"
_NOT_FOUND = 10059
_MIB = 1024**2
NANOSECONDS = 10**9
_MONITOR_SECONDS = 2.0
UNKNOWN_SYNC = "unknown"


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
    # When the last event was stored here, Unix milliseconds, whether or not it is still there; 0 before the first.
    last_ms: int = 0


async def connect(url: str, *, name: str, log: BoundLogger, domain: str = "") -> Client:
    """Connect and stay connected: reconnects for ever, and tells every asynchronous error to the log.

    `domain`: whose JetStream is meant by all that is asked over this connection; empty is the server's own.

    Raises:
        OSError, nats.errors.Error: the server cannot be reached now (after half a second); why, not "no servers".
    """
    client = DomainClient(domain) if domain else Client()
    # What the first attempts failed with; it is raised, so it is not logged as well.
    failures: list[Exception] = []
    # What was last logged: an absent server gives the same error four times a second.
    logged = ""

    async def on_error(error: Exception) -> None:
        nonlocal logged
        text = str(error) or type(error).__name__
        if not (client.is_connected or client.is_reconnecting):
            failures.append(error)
        elif client.is_connected or text != logged:
            logged = text
            log.warning("nats_error", error=text)

    async def on_disconnect() -> None:
        if not client.is_closed:  # closing is no news to who closes
            log.warning("nats_disconnected", url=_without_secrets(url))

    async def on_reconnect() -> None:
        nonlocal logged
        logged = ""
        log.info("nats_reconnected", url=_without_secrets(url))

    try:
        await client.connect(
            url,
            name=name,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated as int, slept as seconds
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            **_credentials(url),
        )
    except nats.errors.NoServersError as error:
        raise (failures or [error])[-1] from error
    except (OSError, nats.errors.Error):
        if client._transport is not None:
            client._transport.close()  # type: ignore[no-untyped-call]
        raise
    # Not given above: with it, a first connect to a server that is away would try for ever and never return; so would
    # one whose TLS handshake failed, since nats-py waits for what was never open to be closed before it tries again.
    client.options |= {"allow_reconnect": True, "max_reconnect_attempts": -1}
    return client


def _credentials(url: str) -> dict[str, Any]:
    """User and password, or the token, of an address.

    nats-py uses what an address bears for that address alone: the other servers of its cluster, which the first one
    names, would refuse it when the first one is gone.
    """
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    return {"token": parts.username} if parts.password is None else {"user": parts.username, "password": parts.password}


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2]


def bucket_subject(bucket: str, domain: str) -> str:
    """What a key is appended to when it is written, from a site where the bucket is in that domain.

    A leaf lets no `$KV` subject pass; nats-py publishes there all the same, and nobody answers. What is read, watched
    and deleted in a bucket names the plain subject everywhere.
    """
    return f"{api_of(domain)}.{BUCKET_SUBJECTS}.{bucket}." if domain else f"{BUCKET_SUBJECTS}.{bucket}."


async def request(
    client: Client,
    subject: str,
    body: Mapping[str, Any] | None = None,
    *,
    seconds: float = REQUEST_SECONDS,
    api: str | None = None,
) -> dict[str, Any]:
    """One JetStream API call; `api` is another JetStream's prefix than the connection's own.

    Raises:
        JetStreamError: the API refused.
        nats.errors.Error: nobody answered in time.
    """
    payload = json.dumps(body).encode() if body is not None else b""
    answer = await client.request(f"{api or prefix_of(client)}.{subject}", payload, timeout=seconds)
    found: dict[str, Any] = json.loads(answer.data)
    error = found.get("error")
    if error:
        kind = StreamMissing if error.get("err_code") == _NOT_FOUND else JetStreamError
        raise kind(error.get("err_code", 0), error.get("description", "refused"))
    return found


async def state(
    client: Client, stream: str, *, seconds: float = REQUEST_SECONDS, api: str | None = None
) -> StreamState:
    """The stream's epoch and bounds now (0.4 ms).

    Raises:
        StreamMissing: there is no such stream.
    """
    return state_of(await request(client, f"STREAM.INFO.{stream}", seconds=seconds, api=api))


def state_of(info: Mapping[str, Any]) -> StreamState:
    """As `state`, of an answer to `STREAM.INFO` at hand; a stream made without an epoch has that of its creation."""
    config, bounds = info["config"], info["state"]
    epoch = (config.get("metadata") or {}).get(EPOCH) or epoch_of(_milliseconds(info["created"]))
    return StreamState(
        name=config["name"],
        epoch=epoch,
        # Empty, it tells 0 before its first event and last + 1 after a purge: both mean "nothing before last + 1".
        first=bounds["first_seq"] if bounds["messages"] else bounds["last_seq"] + 1,
        last=bounds["last_seq"],
        messages=bounds["messages"],
        replicas=config["num_replicas"],
        config=config,
        last_ms=max(_milliseconds(bounds.get("last_ts", _NEVER)), 0),
    )


def _milliseconds(created: str) -> int:
    # JetStream tells nanoseconds; `fromisoformat` takes any number of decimals from Python 3.11 on.
    return int(datetime.fromisoformat(created).timestamp() * 1000)


def stream_config(spec: StreamSpec) -> dict[str, Any]:
    """What a stream of the topology is made with, but for its epoch."""
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "storage": "file",
        "retention": "limits",
        "discard": spec.discard,
        "max_bytes": spec.max_bytes or -1,
        "max_age": (spec.max_age_seconds or 0) * NANOSECONDS,
        "num_replicas": spec.replicas,
        "duplicate_window": DUPLICATE_WINDOW_SECONDS * NANOSECONDS,
        "allow_direct": True,
        # Several events at once, all or none; what is more than one aggregate's to decide is published so.
        "allow_atomic": True,
        "max_msgs_per_subject": 1 if spec.last_only else -1,
        # What makes a stream a bucket to clients that know buckets.
        "allow_rollup_hdrs": spec.last_only,
        "deny_delete": spec.last_only,
        "allow_msg_ttl": spec.mark_seconds is not None,
        "subject_delete_marker_ttl": (spec.mark_seconds or 0) * NANOSECONDS,
    }


def mirror_config(spec: StreamSpec, stream: StreamState) -> dict[str, Any]:
    """What the replay mirror of `stream` is made with: it keeps what the stream keeps, and bears its epoch."""
    return {
        "name": spec.replay_mirror,
        "mirror": {"name": spec.name},
        "storage": "file",
        "discard": "old",  # with "new" a full mirror would stop for ever
        "max_age": stream.config["max_age"],
        "num_replicas": stream.replicas,
        "allow_direct": True,
        "metadata": {EPOCH: stream.epoch},
        # What a mirror loses with its server it reads again, so it need not write each message by itself.
        **({"persist_mode": "async"} if stream.replicas == 1 else {}),
    }


async def ensure(client: Client, specs: Iterable[StreamSpec]) -> dict[str, StreamState]:
    """Make each stream and its replay mirror where they are missing; idempotent, safe to run twice at once.

    What exists is left alone, but for a creation that broke off: that is completed.

    Raises:
        NoRoom: the server cannot reserve the stream's size.
        JetStreamError: refused for another reason.
    """
    return {spec.name: await ensure_one(client, spec) for spec in specs}


async def ensure_one(client: Client, spec: StreamSpec) -> StreamState:
    """`ensure` for one stream."""
    try:
        found = await state(client, spec.name)
    except StreamMissing:
        found = await _create_stream(client, spec)
    if spec.mirrored:
        try:
            await state(client, spec.replay_mirror)
        except StreamMissing:
            await put_mirror(client, spec, mirror_config(spec, found))
    if not found.config["allow_direct"]:
        # Ours from above, or of a process that died in `put_mirror`.
        return state_of(await request(client, f"STREAM.UPDATE.{spec.name}", {**found.config, "allow_direct": True}))
    return found


async def _create_stream(client: Client, spec: StreamSpec) -> StreamState:
    epoch = epoch_of(time.time_ns() // 1_000_000)
    # Direct gets are allowed last, so that the mirror is made while they are not: see the module.
    config = {**stream_config(spec), "allow_direct": False, "metadata": {EPOCH: epoch}}
    try:
        return state_of(await request(client, f"STREAM.CREATE.{spec.name}", config))
    except JetStreamError as error:
        if error.code == _NAME_IN_USE:  # another process made it between our two calls
            return await state(client, spec.name)
        if error.code == NO_STORAGE:
            raise await no_room(client, spec) from error
        raise


async def put_mirror(client: Client, spec: StreamSpec, config: Mapping[str, Any], *, exists: bool = False) -> None:
    """Make the replay mirror, or update the one that `exists`; the stream's direct gets rest for a few milliseconds.

    Safe against another process that does the same: the later one finds it made.
    """
    stream = (await state(client, spec.name)).config
    if stream["allow_direct"]:
        await request(client, f"STREAM.UPDATE.{spec.name}", {**stream, "allow_direct": False})
    try:
        await request(client, f"STREAM.{'UPDATE' if exists else 'CREATE'}.{spec.replay_mirror}", config)
    except JetStreamError as error:
        if error.code != _NAME_IN_USE:
            raise
    finally:
        if stream["allow_direct"]:
            await request(client, f"STREAM.UPDATE.{spec.name}", stream)


async def sync_interval(monitor_url: str) -> str:
    """How soon the NATS server syncs what it stored to disk, by its monitoring port: `always`, `120s`, `unknown`."""
    try:
        async with httpx.AsyncClient(timeout=_MONITOR_SECONDS) as client:
            answer = await client.get(f"{monitor_url.rstrip('/')}/varz")
            config = answer.raise_for_status().json()["jetstream"]["config"]
            return "always" if config.get("sync_always") else f"{config['sync_interval'] / NANOSECONDS:g}s"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return UNKNOWN_SYNC


def durability(states: Iterable[StreamState], sync: str = UNKNOWN_SYNC) -> dict[str, object]:
    """The grade of what these streams acknowledge (DESIGN decision 13): the fewest copies of any, and the disk sync."""
    return {"replicas": min((found.replicas for found in states), default=0), "sync": sync}


async def no_room(client: Client, spec: StreamSpec) -> NoRoom:
    """The error that tells how much the stream reserves and how much there is."""
    free = await _free_bytes(client)
    smaller = "set A2A_MARKET_MAX_BYTES lower or " if spec.name == "MARKET" else ""
    return NoRoom(
        NO_STORAGE,
        f"stream {spec.name} reserves {(spec.max_bytes or 0) // _MIB} MiB and the NATS server has "
        f"{free // _MIB} MiB free; {smaller}give JetStream more storage",
    )


async def _free_bytes(client: Client) -> int:
    """What the server would still reserve, found by asking: only an optional monitoring port tells it."""
    name = f"A2A_FREE_PROBE_{secrets.token_hex(4)}"
    low, high = 0, 2**50
    while high - low > _MIB:
        middle = (low + high) // 2
        probe = {"name": name, "subjects": [name.lower()], "storage": "file", "max_bytes": middle}
        try:
            await request(client, f"STREAM.CREATE.{name}", probe)
        except JetStreamError:
            high = middle
        else:
            low = middle
            await request(client, f"STREAM.DELETE.{name}")
    return low
