"""Connecting and making streams, on a real nats-server."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nats.errors
import pytest
import structlog
from nats.aio.client import Client

from contracts.cursor import epoch_of
from contracts.topology import EPOCH, GIB, StreamSpec, streams
from services.chassis.jetstream import (
    JetStreamError,
    NoRoom,
    StreamMissing,
    connect,
    durability,
    ensure,
    put_mirror,
    request,
    state,
    sync_interval,
)
from services.local.embedded import EmbeddedNats, free_port
from tests.harness.certificates import make_certificates
from tests.harness.waiting import until

SPECS = streams(market_max_bytes=64 * 1024**2)
MARKET = SPECS[0]


class Log:
    """A fake of the logger: remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **told: Any) -> None:
        self.lines.append((event, told))

    warning = info

    def count(self, event: str) -> int:
        return sum(1 for name, _ in self.lines if name == event)


async def publish(client: Client, count: int, payload: bytes = b"{}") -> None:
    for number in range(count):
        await client.request(f"market.i.b.n.order.o{number}", payload)


async def caught_up(client: Client, stream: str = "MARKET") -> None:
    async def lacking() -> int:
        return (await state(client, stream)).last - (await state(client, f"{stream}_REPLAY")).last

    async with asyncio.timeout(10):
        while await lacking():  # noqa: ASYNC110  # another process: only asking tells
            await asyncio.sleep(0.01)


async def answering(client: Client, stream: str, sequence: int) -> Counter[tuple[str, bytes]]:
    """Who answers direct gets of one event of `stream`, and with what."""
    found: Counter[tuple[str, bytes]] = Counter()
    for _ in range(60):
        answer = await client.request(f"$JS.API.DIRECT.GET.{stream}", json.dumps({"seq": sequence}).encode())
        found[(answer.headers or {}).get("Nats-Stream", ""), answer.data] += 1
    return found


async def test_missing_streams_are_made_with_an_epoch_and_a_mirror_that_bears_it(client: Client) -> None:
    found = await ensure(client, SPECS)
    assert set(found) == {"MARKET", "PLANS"}
    for name, stream in found.items():
        mirror = await state(client, f"{name}_REPLAY")
        assert stream.config["metadata"][EPOCH] == mirror.config["metadata"][EPOCH] == stream.epoch
        assert (stream.first, stream.last, stream.messages) == (1, 0, 0)
        assert stream.config["allow_direct"]
        assert mirror.config["allow_direct"]
        assert mirror.config["discard"] == "old"
    assert found["MARKET"].config["discard"] == "new"
    assert found["PLANS"].config["max_age"] == 7 * 24 * 3600 * 10**9


async def test_a_mirror_gets_what_the_stream_gets_under_the_same_numbers(client: Client) -> None:
    await ensure(client, SPECS)
    await publish(client, 20)
    await caught_up(client)
    mirror = await state(client, "MARKET_REPLAY")
    assert (mirror.first, mirror.last, mirror.messages) == (1, 20, 20)


async def test_ensuring_again_changes_nothing_and_many_at_once_agree_on_one_epoch(client: Client) -> None:
    found = await asyncio.gather(*(ensure(client, SPECS) for _ in range(8)))
    assert len({streams["MARKET"].epoch for streams in found}) == 1
    before = await request(client, "STREAM.INFO.MARKET")
    assert (await ensure(client, SPECS))["MARKET"].epoch == found[0]["MARKET"].epoch
    after = await request(client, "STREAM.INFO.MARKET")
    assert after["created"] == before["created"]
    assert after["config"] == before["config"]
    assert after["config"]["allow_direct"]


async def test_an_existing_stream_is_left_as_it_is(client: Client) -> None:
    await request(client, "STREAM.CREATE.MARKET", {"name": "MARKET", "subjects": ["market.>"], "allow_direct": True})
    found = await ensure(client, [MARKET])
    info = await request(client, "STREAM.INFO.MARKET")
    assert info["config"]["max_bytes"] == -1
    assert EPOCH not in info["config"]["metadata"]
    assert found["MARKET"].epoch == (await state(client, "MARKET_REPLAY")).config["metadata"][EPOCH]
    assert len(found["MARKET"].epoch) == len(epoch_of(0))


async def test_a_creation_that_broke_off_before_direct_gets_were_allowed_is_completed(client: Client) -> None:
    config = {"name": "MARKET", "subjects": ["market.>"], "allow_direct": False}
    await request(client, "STREAM.CREATE.MARKET", config)
    assert (await ensure(client, [MARKET]))["MARKET"].config["allow_direct"]
    assert (await state(client, "MARKET")).config["allow_direct"]


async def test_a_replay_mirror_never_answers_for_its_stream(client: Client) -> None:
    await ensure(client, SPECS)
    await publish(client, 3, b"first life")
    await caught_up(client)
    assert set(await answering(client, "MARKET", 2)) == {("MARKET", b"first life")}
    assert set(await answering(client, "MARKET_REPLAY", 2)) == {("MARKET_REPLAY", b"first life")}
    await request(client, "STREAM.DELETE.MARKET")
    await ensure(client, SPECS)
    await publish(client, 3, b"second life")
    assert set(await answering(client, "MARKET", 2)) == {("MARKET", b"second life")}


async def test_what_made_a_mirror_answer_for_its_stream_is_still_so_in_this_nats_server(client: Client) -> None:
    """If this fails, JetStream has changed and `put_mirror` may be simpler (docs/adr/0013)."""
    await request(client, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "allow_direct": True})
    asked = {"name": "M", "mirror": {"name": "S"}, "mirror_direct": False}
    assert (await request(client, "STREAM.CREATE.M", asked))["config"]["mirror_direct"]


async def test_making_a_mirror_beside_a_stream_with_direct_gets_leaves_them_allowed(client: Client) -> None:
    await ensure(client, SPECS)
    await request(client, "STREAM.DELETE.MARKET_REPLAY")
    await ensure(client, SPECS)
    assert (await state(client, "MARKET")).config["allow_direct"]
    assert not (await state(client, "MARKET_REPLAY")).config["mirror_direct"]


async def test_a_refused_mirror_leaves_direct_gets_allowed(client: Client) -> None:
    await ensure(client, SPECS)
    with pytest.raises(JetStreamError, match="replicas"):
        await put_mirror(client, MARKET, {"name": "MARKET_REPLAY", "num_replicas": 3}, exists=True)
    assert (await state(client, "MARKET")).config["allow_direct"]


async def test_a_missing_stream_is_told_as_missing(client: Client) -> None:
    with pytest.raises(StreamMissing):
        await state(client, "NOT_THERE")


async def test_bounds_tell_what_was_purged(client: Client) -> None:
    await ensure(client, [MARKET])
    await publish(client, 5)
    await request(client, "STREAM.PURGE.MARKET", {"seq": 4})
    kept = await state(client, "MARKET")
    assert (kept.first, kept.last, kept.messages) == (4, 5, 2)
    await request(client, "STREAM.PURGE.MARKET")
    empty = await state(client, "MARKET")
    assert (empty.first, empty.last, empty.messages) == (6, 5, 0)


async def test_no_room_is_one_line_that_tells_how_much_there_is(make_nats: Callable[..., EmbeddedNats]) -> None:
    server = make_nats("max_file_store: 100MB").start()
    client = await connect(server.url, name="test", log=Log())  # type: ignore[arg-type]
    with pytest.raises(NoRoom) as refused:
        await ensure(client, streams(market_max_bytes=8 * GIB))
    told = str(refused.value)
    assert "stream MARKET reserves 8192 MiB" in told
    assert "has 100 MiB free" in told
    assert "A2A_MARKET_MAX_BYTES" in told
    assert "\n" not in told
    with pytest.raises(NoRoom) as refused:
        await ensure(client, [StreamSpec("PLANS", ("plan.>",), max_bytes=GIB)])
    assert "MAX_BYTES" not in str(refused.value)
    assert (await request(client, "STREAM.NAMES"))["streams"] is None, "the probe leaves nothing behind"
    await client.close()


async def test_another_refusal_is_told_with_jetstreams_own_words(client: Client) -> None:
    with pytest.raises(JetStreamError, match="replicas"):
        await ensure(client, streams(market_max_bytes=1024**2, replicas=3))


async def test_connecting_to_nothing_fails_soon_with_the_reason() -> None:
    log = Log()
    with pytest.raises(OSError, match=r"(?i)connect"):
        await connect(f"nats://127.0.0.1:{free_port()}", name="test", log=log)  # type: ignore[arg-type]
    assert log.lines == []


async def test_a_server_whose_certificate_is_not_trusted_is_refused_with_the_reason(
    make_nats: Callable[..., EmbeddedNats], tmp_path: Path
) -> None:
    made = make_certificates(tmp_path / "certificates")
    server = make_nats(server_options=f'tls {{ cert_file: "{made.certificate}", key_file: "{made.key}" }}').start()
    async with asyncio.timeout(10):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server.url.replace("nats:", "tls:"), name="test", log=Log())  # type: ignore[arg-type]


async def test_a_server_that_goes_in_the_middle_of_the_handshake_is_an_error_soon() -> None:
    async def greet_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required":true,"max_payload":1048576}\r\n')
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(greet_and_go, "127.0.0.1", 0) as listener, asyncio.timeout(10):
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await connect(f"tls://127.0.0.1:{port}", name="test", log=Log())  # type: ignore[arg-type]


async def test_a_connection_outlives_a_server_that_is_away_for_many_attempts(fresh_nats: EmbeddedNats) -> None:
    log = Log()
    client = await connect(fresh_nats.url, name="test", log=log)  # type: ignore[arg-type]
    await ensure(client, [MARKET])
    fresh_nats.kill()
    (server,) = client._server_pool  # nats-py counts attempts nowhere else
    await until(lambda: server.reconnects > 5, what="some attempts to reconnect have failed")
    fresh_nats.start()
    await until(lambda: client.is_connected, what="reconnected")
    assert (await state(client, "MARKET")).name == "MARKET"
    assert log.count("nats_disconnected") == log.count("nats_reconnected") == 1
    errors = [told["error"] for name, told in log.lines if name == "nats_error"]
    assert all(error != following for error, following in pairwise(errors)), "told once, not at every attempt"
    await client.close()
    assert log.count("nats_disconnected") == 1, "closing is no news"


async def test_secrets_of_the_url_are_not_logged(fresh_nats: EmbeddedNats) -> None:
    log = Log()
    url = fresh_nats.url.replace("nats://", "nats://someone:secret@")
    client = await connect(url, name="test", log=log)  # type: ignore[arg-type]
    fresh_nats.kill()
    await until(lambda: log.count("nats_disconnected"))
    assert "secret" not in str(log.lines)
    await client.close()


async def test_a_request_that_nobody_answers_is_an_error_of_nats(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.jetstream.REQUEST_SECONDS", 0.05)
    with pytest.raises(nats.errors.Error):
        await request(client, "NO.SUCH.SUBJECT")


@pytest.mark.parametrize(("options", "told"), [("sync_interval: always", "always"), ("sync_interval: 10s", "10s")])
async def test_the_disk_sync_is_read_from_the_monitoring_port(
    make_nats: Callable[..., EmbeddedNats], options: str, told: str
) -> None:
    server = make_nats(options).start()
    assert await sync_interval(server.monitor_url) == told
    server.stop()
    assert await sync_interval(server.monitor_url) == "unknown"


async def test_the_grade_is_that_of_the_weakest_stream(client: Client) -> None:
    found = await ensure(client, SPECS)
    assert durability(found.values()) == {"replicas": 1, "sync": "unknown"}
    assert durability([], "always") == {"replicas": 0, "sync": "always"}


def test_the_log_here_is_used_as_the_real_one_is() -> None:
    assert {"info", "warning"} <= set(dir(structlog.stdlib.BoundLogger))
