"""A direct get believes only the stream that it asked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from nats.protocol.parser import Parser

from services.chassis.direct import DirectGetFailed
from services.gateway.bus.site import NotConnected, Site

Answer = dict[str, str]
END: Answer = {"Status": "204", "Nats-Num-Pending": "0"}


@dataclass
class Message:
    """What nats-py hands to a callback."""

    headers: Answer | None
    data: bytes = b"{}"


class Subscription:
    """Counts whether it was left."""

    left = 0

    async def unsubscribe(self) -> None:
        Subscription.left += 1


class Client:
    """A NATS client of which only the answers are interesting."""

    is_connected = True

    def __init__(self, *answers: Answer | None) -> None:
        self._answers = answers
        self._ps = Parser(self)

    def new_inbox(self) -> str:
        return "_INBOX.x"

    async def subscribe(self, _: str, *, cb: Callable[[Any], Awaitable[None]], **__: Any) -> Subscription:
        self._receive = cb
        return Subscription()

    async def publish(self, *_: Any, **__: Any) -> None:
        for headers in self._answers:
            await self._receive(Message(headers))


def stored(sequence: int, stream: str = "MARKET") -> Answer:
    return {"Nats-Sequence": str(sequence), "Nats-Subject": "market.i", "Nats-Stream": stream}


def site(*answers: Answer | None) -> Site:
    found = Site()
    client: Any = Client(*answers)
    found.attach(client)
    return found


async def test_what_is_stored_comes_in_order_with_whether_there_is_more() -> None:
    batch = await site(stored(4), stored(9), {**END, "Nats-Num-Pending": "3"}).direct_get("MARKET", {}, 1)
    assert [(one.sequence, one.subject, one.payload) for one in batch.messages] == [
        (4, "market.i", b"{}"),
        (9, "market.i", b"{}"),
    ]
    assert batch.more


async def test_nothing_stored_is_an_empty_batch() -> None:
    assert await site({"Status": "404"}).direct_get("MARKET", {}, 1) == await site(END).direct_get("MARKET", {}, 1)


async def test_a_mirror_that_answers_for_its_stream_is_not_believed() -> None:
    left = Subscription.left
    with pytest.raises(DirectGetFailed, match="answered by MARKET_REPLAY"):
        await site(stored(4, "MARKET_REPLAY"), stored(5, "MARKET_REPLAY"), END).direct_get("MARKET", {}, 1)
    assert Subscription.left == left + 1


@pytest.mark.parametrize("refused", [{"Status": "503"}, {}, None])
async def test_any_other_status_tells_nothing_of_what_is_stored(refused: Answer | None) -> None:
    with pytest.raises(DirectGetFailed):
        await site(refused).direct_get("MARKET", {}, 1)


async def test_no_answer_has_a_deadline() -> None:
    with pytest.raises(TimeoutError):
        await site().direct_get("MARKET", {}, 0.01)


async def test_before_nats_was_reached_nothing_can_be_asked() -> None:
    with pytest.raises(NotConnected):
        await Site().direct_get("MARKET", {}, 1)


def test_the_hubs_jetstream_is_asked_under_its_domain_in_a_region_and_plainly_at_the_hub() -> None:
    assert Site().hub_api == "$JS.API"
    assert Site("hub").hub_api == "$JS.hub.API"
