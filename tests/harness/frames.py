"""A WebSocket client's bytes, and an asyncio transport that a test holds in its hands."""

import asyncio
from itertools import pairwise
from typing import Any

from websockets.utils import apply_mask

from services.gateway.core.session import Session
from services.gateway.core.sink import Sink
from services.gateway.transports.websocket import WebSocketTransport
from tests.harness.core import FakeSink, World, principal

MASK = b"\x37\xfa\x21\x3d"


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True) -> bytes:
    """One client frame, right or wrong."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e%b" % size.to_bytes(2, "big") if size < 65536 else b"\x7f%b" % size.to_bytes(8, "big")
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode, length[0] | (0x80 if mask else 0)]) + length[1:]
    if not mask:
        return head + payload
    return head + MASK + apply_mask(payload, MASK)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places wherever they lie."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `paused_reading` says whether more may be handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = FakeSink()
        self.paused_reading = False
        self.closing = False
        self.aborted = False
        self.limits: tuple[int | None, int | None] | None = None

    def write(self, data: Any) -> None:
        assert not self.closing, "written after the transport was closed"
        self.sink.write(bytes(data))

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused_reading = True

    def resume_reading(self) -> None:
        self.paused_reading = False

    def get_write_buffer_size(self) -> int:
        return self.sink.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)


class Told(Session):
    """A session that notes whole messages and what it is told, and acts on them as ever where `acts`."""

    def __init__(self, world: World, sink: Sink, acts: bool) -> None:
        super().__init__(world.replica, sink, principal())
        self.acts = acts
        self.messages: list[bytes] = []
        self.refused: list[str] = []
        self.frames_heard = 0

    def heard(self, *, counts: bool) -> None:
        super().heard(counts=counts and self.acts)
        self.frames_heard += 1

    def receive(self, text: bytes) -> None:
        if not self.closed:
            self.messages.append(bytes(text))
        if self.acts:
            super().receive(text)

    def answer_malformed(self, problem: Any, message_id: Any = None) -> None:
        if not self.closed:
            self.refused.append(problem.code.wire)
        super().answer_malformed(problem, message_id)


class Wire:
    """A `WebSocketTransport` between a fake asyncio transport and a session that notes what it is told."""

    def __init__(self, world: World | None = None, *, acts: bool = True) -> None:
        self.world = world or World()
        self.transport = FakeTransport()
        self.protocol = WebSocketTransport(self.transport, b"", lambda sink: Told(self.world, sink, acts), 1000)
        self.protocol.home = {self.protocol}
        session = self.protocol.session
        assert isinstance(session, Told)
        self.session = session
        assert [message["op"] for message in self.read()] == ["welcome"]

    def read(self) -> list[dict[str, Any]]:
        """What was written since, pongs left out."""
        return [message for message in self.transport.sink.messages() if message["op"] != "pong"]

    def feed(self, data: bytes, *, pieces: int = 10**9) -> None:
        """Hand over `data` in pieces, as long as anybody reads."""
        for start in range(0, len(data), pieces):
            if self.transport.closing or self.transport.paused_reading:
                return
            self.protocol.data_received(data[start : start + pieces])

    @property
    def kept(self) -> int:
        """How many bytes of the client's it holds."""
        protocol = self.protocol
        rest, message = protocol._rest, protocol._message
        return (len(rest) if rest is not None else 0) + (len(message[1]) if message is not None else 0)
