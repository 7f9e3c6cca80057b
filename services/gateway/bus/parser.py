"""The feed's fast path through nats-py: its parser, with the feeds' own deliveries taken out before the rest.

nats-py matches each message against regular expressions, parses its headers, builds an object, puts
it in a queue and wakes a task. A feed needs the subject, the reply's counts and the payload, and
needs them at once (docs/adr/0009). The connection, its TLS, authentication and reconnects stay
nats-py's; anything that is not a delivery to a feed goes to its parser as it came. nats-py is
pinned: `_ps` and `_process_msg` are its own.
"""

from collections.abc import Callable

import msgspec
from nats.aio.client import Client
from nats.protocol.parser import Parser

# Subject, reply, headers with their status line (empty where there are none), payload.
Deliver = Callable[[bytes, bytes, bytes, bytes], None]

_LINE_END = b"\r\n"

number = msgspec.json.Decoder(int).decode
"""What the server writes as a number; five times as fast as `int`, of which there are four in each delivery."""


class FeedParser(Parser):
    """Parses what the server sends; deliveries for a registered subscription are handed over directly."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        # Subscription id as it stands on the wire -> who takes its deliveries.
        self._feeds: dict[bytes, Deliver] = {}
        # The beginning of a message that is not here in whole.
        self._tail = b""

    def reset(self) -> None:
        """A new connection begins; subscriptions keep their ids over it."""
        super().reset()
        self._tail = b""

    def add(self, subscription_id: int, deliver: Deliver) -> None:
        """Hand deliveries of this subscription to `deliver`, from now on."""
        self._feeds[b"%d" % subscription_id] = deliver

    def remove(self, subscription_id: int) -> None:
        """Hand over nothing more."""
        self._feeds.pop(b"%d" % subscription_id, None)

    async def parse(self, data: bytes = b"") -> None:
        """Take what arrived, in whatever pieces."""
        data = self._tail + data if self._tail else data
        place, size = 0, len(data)
        while place < size:
            line_end = data.find(_LINE_END, place)
            if line_end < 0:
                break
            words = data[place:line_end].split(b" ")
            start = body = line_end + 2
            has_headers = words[0] == b"HMSG"
            if not has_headers and words[0] != b"MSG":
                self.buf.extend(data[place:start])
                place = start
                await super().parse()
                continue
            end = start + number(words[-1])
            if end + 2 > size:
                break
            place = end + 2
            if has_headers:
                body += number(words[-2])
            reply = words[3] if len(words) == 5 + has_headers else b""
            deliver = self._feeds.get(words[2])
            try:
                if deliver is not None:
                    deliver(words[1], reply, data[start:body] if has_headers else b"", data[body:end])
                else:
                    await self.nc._process_msg(int(words[2]), words[1], reply, data[body:end], data[start:body] or None)
            except Exception as error:  # noqa: BLE001  # else nats-py stops reading, for all of them, without a word
                await self.nc._error_cb(error)
        self._tail = data[place:]


def parser_of(client: Client) -> FeedParser:
    """The client's parser; put into it where it still has its own."""
    held = client._ps
    if isinstance(held, FeedParser):
        return held
    parser = client._ps = FeedParser(client)
    parser._tail = bytes(held.buf)  # right after the connect this can be a control line at most: see `Site.attach`
    return parser
