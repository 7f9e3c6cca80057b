"""The relay's loop in this process, where what NATS or a bug does can be made up."""

import asyncio
import signal

import httpx
import nats.errors
import pytest

from contracts.topology import streams
from services.local.embedded import EmbeddedNats
from services.relay.app import EXIT_FAILED, Relay
from services.relay.reconciler import Reconciler
from services.relay.report import StreamReport
from services.relay.settings import RelaySettings
from tests.harness.asgi import serving
from tests.harness.waiting import until


@pytest.fixture
def relay(fresh_nats: EmbeddedNats) -> Relay:
    return Relay(RelaySettings(nats_url=fresh_nats.url, relay_interval_s=0.02), streams(market_max_bytes=1024**2))


async def test_a_look_that_nats_does_not_answer_is_told_counted_and_tried_again(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Reconciler.round
    answers: list[Exception | None] = [None, nats.errors.TimeoutError(), nats.errors.TimeoutError(), None]
    seen: list[int] = []

    async def round_or_failure(self: Reconciler) -> list[StreamReport]:
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if answer is not None:
            raise answer
        return await really(self)

    monkeypatch.setattr(Reconciler, "round", round_or_failure)
    async with serving(relay.app()) as url, httpx.AsyncClient(base_url=url) as client:

        async def look() -> bool:
            seen.append((await client.get("/readyz")).status_code)
            told = (await client.get("/metrics")).text
            return len(answers) == 1 and 'outcome="failed"} 2.0' in told and seen[-1] == 200

        for _ in range(500):
            if await look():
                break
        else:
            raise AssertionError(f"never ready again: {seen[-3:]}")
    assert 503 in seen


async def test_a_bug_ends_the_process_rather_than_leave_a_relay_that_does_nothing(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(_: Reconciler) -> list[StreamReport]:
        raise KeyError("bug")

    raised: list[int] = []
    monkeypatch.setattr(Reconciler, "round", buggy)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    async with serving(relay.app()):
        await until(lambda: bool(raised))
    assert raised == [signal.SIGTERM]
    assert relay.exit_code == EXIT_FAILED


@pytest.mark.parametrize("name", ["services.relay.reconciler.Reconciler.round", "services.relay.app.connect"])
async def test_it_ends_though_a_cancellation_is_lost_on_the_way(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    waiting = asyncio.Event()

    async def deaf(*_: object, **__: object) -> list[StreamReport]:
        """As `asyncio.wait_for` does where the answer and the cancellation come together."""
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if name.endswith("connect"):
                raise OSError from None
        return []

    monkeypatch.setattr(name, deaf)
    async with asyncio.timeout(10), serving(relay.app()):
        await waiting.wait()
