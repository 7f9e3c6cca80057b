"""The relay as a process: its command line, its HTTP side, how it waits, how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.topology import canaries, fleet, stores, streams
from services.chassis.jetstream import StreamMissing, ensure, request, state
from services.chassis.server import listen
from services.local.embedded import EmbeddedNats
from tests.harness.relay import Relay, environment, eventually, run

MIB = 1024**2


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    found = Relay()
    yield found
    found.listener.close()
    if found.process is not None and found.process.returncode is None:
        found.process.kill()
        await found.process.communicate()


# The command line -----------------------------------------------------------------------------------------------------


async def test_the_help_says_what_it_does_what_it_reads_and_how_it_ends() -> None:
    code, told, _ = await run("--help")
    assert code == 0
    for word in ("--once", "--status", "--allow-shrink", "A2A_RELAY_INTERVAL_S", "A2A_NATS_URL", "exit codes", "never"):
        assert word in told


async def test_once_makes_the_site_and_once_more_finds_it_made(fresh_nats: EmbeddedNats, client: Client) -> None:
    assert await run("--once", **environment(fresh_nats)) == (0, "", "")
    epoch = (await state(client, "MARKET")).epoch
    assert (await run("--once", **environment(fresh_nats)))[0] == 0
    assert (await state(client, "MARKET")).epoch == epoch


async def test_once_with_nats_away_is_one_line_and_code_1(fresh_nats: EmbeddedNats) -> None:
    fresh_nats.stop()
    code, _, told = await run("--once", **environment(fresh_nats))
    assert code == 1
    assert told.startswith("error: NATS at A2A_NATS_URL does not answer: ")
    assert told.count("\n") == 1


async def test_once_refuses_to_shrink_with_one_line_and_code_1_unless_allowed(
    fresh_nats: EmbeddedNats, client: Client
) -> None:
    await ensure(client, streams(market_max_bytes=64 * MIB))
    smaller = environment(fresh_nats, MARKET_MAX_BYTES=str(8 * MIB))
    code, _, told = await run("--once", **smaller)
    assert code == 1
    assert told == "error: MARKET: max_bytes stays 64 MiB, more than the 8 MiB of the topology\n"
    assert (await run("--once", "--allow-shrink", **smaller))[0] == 0
    assert (await state(client, "MARKET")).config["max_bytes"] == 8 * MIB


@pytest.mark.parametrize("arguments", [("--once",), ()], ids=["once", "as a service"])
async def test_no_room_is_an_error_line_with_the_free_figure_and_code_2(
    make_nats: Callable[..., EmbeddedNats], arguments: tuple[str, ...]
) -> None:
    nats = make_nats("max_file_store: 1200MB").start()
    code, out, told = await run(*arguments, **environment(nats, MARKET_MAX_BYTES=str(8 * 1024 * MIB)))
    assert (code, out) == (2, "")
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "stream MARKET reserves 8192 MiB" in errors[0]
    assert "MiB free" in errors[0]


async def test_a_wrong_setting_is_one_line_and_code_2(fresh_nats: EmbeddedNats) -> None:
    code, _, told = await run(**environment(fresh_nats, RELAY_INTERVAL_S="0"))
    assert (code, told) == (2, "error: A2A_RELAY_INTERVAL_S: Input should be greater than 0\n")


async def test_a_taken_port_is_one_line_and_code_2(fresh_nats: EmbeddedNats) -> None:
    with listen("127.0.0.1", 0) as holder:
        port = str(holder.getsockname()[1])
        code, _, told = await run(**environment(fresh_nats, HTTP_PORT=port))
    assert code == 2
    assert told.startswith(f"error: A2A_HTTP_PORT: 127.0.0.1:{port} is taken")


async def test_jetstream_that_is_off_is_one_line_and_code_1(tmp_path: Any) -> None:
    nats = EmbeddedNats(tmp_path / "plain", jetstream_options="max_memory_store: 1, max_file_store: 1")
    try:
        nats.start()
        code, _, told = await run("--once", **environment(nats))
    finally:
        nats.stop()
    assert code in (1, 2)
    assert told.count("\n") == 1


async def test_status_is_a_table_and_changes_nothing(fresh_nats: EmbeddedNats, client: Client) -> None:
    code, table, _ = await run("--status", **environment(fresh_nats))
    assert code == 1
    await ensure(client, (*streams(market_max_bytes=64 * MIB), *canaries(), *stores(), *fleet()))
    await client.request("market.i.b.n.order.o1", b"{}")
    code, table, _ = await run("--status", **environment(fresh_nats))
    assert code == 0
    found = await state(client, "MARKET")
    assert table.splitlines()[1].split()[:5] == ["MARKET", found.epoch, "1", "1", "1"]


# The service ----------------------------------------------------------------------------------------------------------


async def test_it_becomes_ready_tells_the_facts_and_ends_at_once_with_code_0(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    await relay.start(environment(fresh_nats, NATS_MONITOR_URL=fresh_nats.monitor_url, REGION="eu"))
    facts = await relay.until_ready()
    assert facts["region"] == "eu"
    assert facts["durability"] == {"replicas": 1, "sync": "120s"}
    assert facts["epochs"]["MARKET"] == (await state(client, "MARKET")).epoch
    assert facts["refused"] == []
    began = asyncio.get_running_loop().time()
    code, logged = await relay.end()
    assert code == 0
    assert asyncio.get_running_loop().time() - began < 2
    assert '"event": "converged"' in logged


async def test_it_waits_for_nats_says_so_and_is_alive_meanwhile(relay: Relay, fresh_nats: EmbeddedNats) -> None:
    fresh_nats.stop()
    await relay.start(environment(fresh_nats))
    assert (await relay.get("/livez")).status_code == 200

    async def tells_why() -> bool:
        return "not connected to NATS: [Errno" in (await relay.readiness())["failing"]["nats"]

    await eventually(tells_why)
    assert (await relay.get("/readyz")).status_code == 503
    fresh_nats.start()
    await relay.until_ready()
    code, logged = await relay.end()
    assert code == 0
    assert '"event": "waiting_for_nats"' in logged


async def test_it_is_not_ready_while_nats_is_away_and_is_again_when_it_is_back(
    relay: Relay, fresh_nats: EmbeddedNats
) -> None:
    await relay.start(environment(fresh_nats))
    await relay.until_ready()
    fresh_nats.kill()
    found = await relay.until_ready(ready=False)
    assert "nats" in found["failing"]
    fresh_nats.start()
    await relay.until_ready()
    assert (await relay.end())[0] == 0


async def test_drift_is_corrected_while_it_runs_and_counted(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    await relay.start(environment(fresh_nats))
    await relay.until_ready()
    config = (await state(client, "MARKET")).config
    await request(client, "STREAM.UPDATE.MARKET", {**config, "discard": "old"})

    async def is_corrected() -> bool:
        return bool((await state(client, "MARKET")).config["discard"] == "new")

    await eventually(is_corrected)

    async def is_counted() -> bool:
        return 'a2a_relay_corrections_total{stream="MARKET"} 1.0' in (await relay.get("/metrics")).text

    await eventually(is_counted)
    await relay.end()


async def test_a_stream_made_again_gets_a_new_mirror_while_it_runs_and_the_repair_is_counted(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    await relay.start(environment(fresh_nats, RELAY_INTERVAL_S="0.5"))
    await relay.until_ready()
    await client.request("market.i.b.n.order.o1", b"{}")
    await request(client, "STREAM.DELETE.MARKET")
    await ensure(client, streams(market_max_bytes=64 * MIB))

    async def is_of_this_life() -> bool:
        try:
            return (await state(client, "MARKET_REPLAY")).epoch == (await state(client, "MARKET")).epoch
        except StreamMissing:
            return False  # between the old one and the new one

    await eventually(is_of_this_life)

    async def is_counted() -> bool:
        told = (await relay.get("/metrics")).text
        return 'a2a_relay_repairs_total{reason="other_life",stream="MARKET"} 1.0' in told

    await eventually(is_counted)
    await relay.until_ready()
    await relay.end()


async def test_metrics_tell_of_each_stream(relay: Relay, fresh_nats: EmbeddedNats, client: Client) -> None:
    await ensure(client, streams(market_max_bytes=64 * MIB))
    for number in range(3):
        await client.request(f"market.i.b.n.order.o{number}", b"{}")
    await relay.start(environment(fresh_nats))
    await relay.until_ready()
    told = (await relay.get("/metrics")).text
    for line in (
        'a2a_stream_first_sequence{stream="MARKET"} 1.0',
        'a2a_stream_last_sequence{stream="MARKET"} 3.0',
        'a2a_stream_messages{stream="MARKET"} 3.0',
        'a2a_stream_as_declared{stream="PLANS"} 1.0',
        'a2a_relay_reconciliations_total{outcome="converged"}',
        'a2a_stream_mirror_lag_seconds{stream="MARKET"}',
    ):
        assert line in told
    await relay.end()


async def test_a_refused_shrink_is_named_and_does_not_make_it_unready(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    await ensure(client, streams(market_max_bytes=64 * MIB))
    await relay.start(environment(fresh_nats, MARKET_MAX_BYTES=str(8 * MIB)))
    facts = await relay.until_ready()
    assert facts["refused"] == ["MARKET: max_bytes stays 64 MiB, more than the 8 MiB of the topology"]
    await relay.end()


async def test_what_cannot_be_put_right_makes_it_unready_and_is_named(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    await request(client, "STREAM.CREATE.PLANS", {"name": "PLANS", "subjects": ["plan.>"], "storage": "memory"})
    await relay.start(environment(fresh_nats))

    async def names_it() -> bool:
        return "PLANS: it is kept in memory" in (await relay.readiness())["failing"].get("streams", "")

    await eventually(names_it)
    assert (await state(client, "MARKET")).name == "MARKET", "the other stream is made all the same"
    await relay.end()


async def test_two_relays_at_once_are_both_ready_on_one_topology(
    relay: Relay, fresh_nats: EmbeddedNats, client: Client
) -> None:
    second = Relay()
    try:
        await asyncio.gather(*(one.start(environment(fresh_nats)) for one in (relay, second)))
        first_facts, second_facts = await asyncio.gather(relay.until_ready(), second.until_ready())
        assert first_facts["epochs"] == second_facts["epochs"]
    finally:
        assert (await second.end())[0] == 0
        second.listener.close()
    await relay.end()
