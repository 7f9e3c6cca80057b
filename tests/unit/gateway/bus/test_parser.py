"""The feed's parser takes the feeds' deliveries out, and leaves everything else to nats-py as it came."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from services.gateway.bus.parser import FeedParser, parser_of

FEED, OTHER = 7, 8

TOKENS = st.text("abcXYZ0129$*-", min_size=1, max_size=8)
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(".".join)
PAYLOADS = st.binary(max_size=40) | st.sampled_from([b"\r\n", b"MSG a 7 2\r\nhi\r\n", b"PING\r\n"])
HEADERS = st.sampled_from([b"", b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"])


class Receiver:
    """What nats-py's client does with what its parser finds."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    async def _error_cb(self, error: Exception) -> None:
        self.told.append(("fault", str(error)))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.told.append(("msg", sid, bytes(subject), bytes(reply or b""), bytes(data), bytes(headers or b"")))

    async def _process_ping(self) -> None:
        self.told.append(("ping",))

    async def _process_pong(self) -> None:
        self.told.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.told.append(("info", info))

    async def _process_err(self, error: str) -> None:
        self.told.append(("error", error))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message to a feed or to another subscription, with or without reply and headers."""
    subject, reply = draw(SUBJECTS).encode(), draw(SUBJECTS | st.just("")).encode()
    headers, payload = draw(HEADERS), draw(PAYLOADS)
    words = [b"HMSG" if headers else b"MSG", subject, b"%d" % draw(st.sampled_from([FEED, OTHER]))]
    words += [reply] if reply else []
    words += [b"%d" % len(headers)] if headers else []
    words += [b"%d" % (len(headers) + len(payload))]
    return b" ".join(words) + b"\r\n" + headers + payload + b"\r\n"


CONTROL = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Stale'\r\n", b'INFO {"a":1}\r\n'])


@given(st.lists(messages() | CONTROL, max_size=12), st.lists(st.integers(0, 400), max_size=8))
async def test_however_it_is_cut_both_parsers_find_the_same_in_the_same_order(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(parts)
    expected, found = Receiver(), Receiver()
    reference, parser = Parser(expected), FeedParser(found)  # type: ignore[arg-type]  # what they ask of a client
    parser.add(FEED, lambda *got: found.told.append(("msg", FEED, got[0], got[1], got[3], got[2])))
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    for start, end in itertools.pairwise(places):
        await reference.parse(stream[start:end])
        await parser.parse(stream[start:end])
    assert found.told == expected.told


async def test_a_new_connection_begins_anew_and_keeps_its_feeds() -> None:
    receiver = Receiver()
    parser = FeedParser(receiver)  # type: ignore[arg-type]  # as above
    got: list[bytes] = []
    parser.add(FEED, lambda subject, reply, headers, payload: got.append(payload))
    await parser.parse(b"MSG a 7 10\r\nhalf")
    parser.reset()
    await parser.parse(b"MSG a 7 5\r\nwhole\r\n")
    parser.remove(FEED)
    await parser.parse(b"MSG a 7 4\r\nlate\r\n")
    assert got == [b"whole"]
    assert [told[4] for told in receiver.told] == [b"late"]


async def test_a_message_that_its_receiver_cannot_take_stops_nothing_that_follows() -> None:
    receiver = Receiver()
    parser = FeedParser(receiver)  # type: ignore[arg-type]  # as above
    got: list[int] = []
    parser.add(FEED, lambda subject, reply, headers, payload: got.append(int(payload)))
    await parser.parse(b"MSG a 7 1\r\n1\r\nMSG a 7 3\r\nbad\r\nMSG a 8 2\r\nhi\r\nMSG a 7 1\r\n2\r\n")
    assert got == [1, 2]
    assert [told[0] for told in receiver.told] == ["fault", "msg"]


def test_a_client_gets_the_parser_once() -> None:
    class Client(Receiver):
        def __init__(self) -> None:
            super().__init__()
            self._ps = Parser(self)

    client: Any = Client()
    client._ps.buf.extend(b"PI")
    assert parser_of(client) is parser_of(client) is client._ps
