"""What a client may make the HTTP protocol hold is bounded, over real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.chassis.http import LARGEST_HEAD_BYTES, MOST_HEADERS, BoundedHttp
from services.chassis.server import listen

DEADLINE_SECONDS = 10.0


class Impatient(BoundedHttp):
    head_seconds = 0.05


class LessImpatient(BoundedHttp):
    # For a test that has to be in time itself, whatever else the machine does.
    head_seconds = 1.0


class Served:
    """An application behind `BoundedHttp` and what it saw."""

    def __init__(self, protocol: type[BoundedHttp], *, keep_alive_seconds: int = 30) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.disconnected = asyncio.Event()
        # A request to /slow waits until this is set.
        self.answer = asyncio.Event()
        self.listener = listen("127.0.0.1", 0)
        routes = [
            Route("/slow", self._slow),
            Route("/body", self._body, methods=["POST"]),
            Route("/{path:path}", self._seen, methods=["GET", "POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=keep_alive_seconds,
        )
        self.server = uvicorn.Server(config)

    async def _seen(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        self.headers.append(dict(request.headers))
        return JSONResponse({"path": request.url.path})

    async def _slow(self, request: Request) -> Response:
        self.paths.append("/slow")
        await self.answer.wait()
        return JSONResponse({"path": "/slow"})

    async def _body(self, request: Request) -> Response:
        try:
            return JSONResponse({"bytes": len(await request.body())})
        except ClientDisconnect:
            self.disconnected.set()
            raise

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.getsockname(), limit=2**22)


@contextlib.asynccontextmanager
async def serving(protocol: type[BoundedHttp] = BoundedHttp, **options: Any) -> AsyncIterator[Served]:
    served = Served(protocol, **options)
    with served.listener:
        task = asyncio.create_task(served.server._serve([served.listener]))
        try:
            yield served
        finally:
            served.answer.set()
            served.server.should_exit = True
            await task


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as found:
        yield found


async def answers(reader: asyncio.StreamReader, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """The next `count` responses: status, headers, body."""
    found = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(count):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            found.append((int(head[0].split()[1]), headers, body))
    return found


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await reader.read(1) == b""


async def assert_refused(reader: asyncio.StreamReader, status: int, code: str) -> None:
    ((told, headers, body),) = await answers(reader, 1)
    problem = json.loads(body)
    assert (told, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert await ended(reader)


def request(path: str = "/a", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


async def test_an_ordinary_request_is_answered(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("/a", "Authorization: Bearer x"))
    ((status, _, body),) = await answers(reader, 1)
    writer.close()
    assert (status, json.loads(body)) == (200, {"path": "/a"})
    assert served.headers[0]["authorization"] == "Bearer x"


async def test_a_head_of_just_the_allowed_size_and_number_is_answered(served: Served) -> None:
    reader, writer = await served.connect()
    many = [f"x-{number}: y" for number in range(MOST_HEADERS - 1)]
    writer.write(request("/a", *many) + request("/b", "x: " + "y" * (LARGEST_HEAD_BYTES - 40)))
    assert [status for status, _, _ in await answers(reader, 2)] == [200, 200]
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        request("/" + "a" * LARGEST_HEAD_BYTES),
        request("/a", "x: " + "y" * LARGEST_HEAD_BYTES),
        request("/a", "x" * LARGEST_HEAD_BYTES + ": y"),
        request("/a", *[f"x-{number}: y" for number in range(MOST_HEADERS)]),
        request("/a", *["x: " + "y" * 1000] * 40),
    ],
    ids=["long URL", "long value", "long name", "many headers", "many long headers"],
)
async def test_a_head_that_is_too_large_is_431_and_the_application_never_sees_it(served: Served, head: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(head)
    await assert_refused(reader, 431, "head_too_large")
    writer.close()
    assert served.paths == []


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nx: ", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_head_without_end_is_refused_soon_after_the_limit_in_however_many_reads(
    served: Served, start: bytes
) -> None:
    reader, writer = await served.connect()
    writer.write(start)
    sent = 0
    refused = asyncio.create_task(assert_refused(reader, 431, "head_too_large"))
    while not refused.done() and sent < 64 * LARGEST_HEAD_BYTES:
        writer.write(b"a" * 997)
        sent += 997
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(0)
    await refused
    writer.close()
    assert sent < 64 * LARGEST_HEAD_BYTES


async def test_the_answer_arrives_though_the_client_was_still_sending(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("/a", "x: " + "y" * 2_000_000))
    await assert_refused(reader, 431, "head_too_large")
    writer.close()


async def test_a_refused_client_that_does_not_hang_up_is_hung_up_on(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("/" + "a" * LARGEST_HEAD_BYTES))
    await assert_refused(reader, 431, "head_too_large")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while served.server.server_state.connections:  # noqa: ASYNC110  # uvicorn tells nobody when one ends
            await asyncio.sleep(0.01)
    writer.close()


async def test_a_head_that_comes_byte_by_byte_is_understood(served: Served) -> None:
    reader, writer = await served.connect()
    for byte in request("/a", "x-name: some value"):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await answers(reader, 1))[0][0] == 200
    assert served.headers[0]["x-name"] == "some value"
    writer.close()


async def test_each_request_of_a_kept_connection_has_the_whole_limit(served: Served) -> None:
    reader, writer = await served.connect()
    for number in range(4):
        writer.write(request(f"/{number}", "x: " + "y" * (LARGEST_HEAD_BYTES - 100)))
        assert (await answers(reader, 1))[0][0] == 200
    writer.close()


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"".join(request(f"/{number}") for number in range(20)))
    assert [json.loads(body)["path"] for _, _, body in await answers(reader, 20)] == [f"/{n}" for n in range(20)]
    writer.close()


async def test_a_large_body_is_not_counted_as_head(served: Served) -> None:
    reader, writer = await served.connect()
    size = 10 * LARGEST_HEAD_BYTES
    writer.write(request("/body", f"Content-Length: {size}", method="POST") + b"b" * size + request("/a"))
    assert [json.loads(body) for _, _, body in await answers(reader, 2)] == [{"bytes": size}, {"path": "/a"}]
    writer.close()


async def test_a_later_request_that_is_too_large_does_not_spoil_the_answer_under_way(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("/slow") + request("/" + "a" * LARGEST_HEAD_BYTES))
    await asyncio.sleep(0)
    served.answer.set()
    ((status, _, body),) = await answers(reader, 1)
    assert (status, json.loads(body)) == (200, {"path": "/slow"})
    assert await ended(reader)
    writer.close()
    assert served.paths == ["/slow"]


async def test_what_is_no_http_is_400_as_a_problem(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"\x16\x03\x01 this is TLS\r\n\r\n")
    await assert_refused(reader, 400, "invalid_http")
    writer.close()


CHUNKED = request("/body", "Transfer-Encoding: chunked", method="POST")


async def test_a_body_that_breaks_off_the_grammar_is_400_and_the_application_hears_of_a_disconnect(
    served: Served,
) -> None:
    reader, writer = await served.connect()
    writer.write(CHUNKED + b"5\r\nhello\r\nno size\r\n")
    await assert_refused(reader, 400, "invalid_http")
    await asyncio.wait_for(served.disconnected.wait(), DEADLINE_SECONDS)
    writer.close()


async def test_a_broken_body_behind_a_request_under_way_closes_without_mixing_answers(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(request("/slow") + CHUNKED + b"no size\r\n")
    assert await ended(reader)
    writer.close()


async def test_a_trailer_never_becomes_a_header(served: Served) -> None:
    reader, writer = await served.connect()
    trailing = b"1\r\na\r\n0\r\nAuthorization: Bearer forged\r\n\r\n"
    writer.write(request("/a", "Transfer-Encoding: chunked", method="POST") + trailing + request("/b"))
    assert [status for status, _, _ in await answers(reader, 2)] == [200, 200]
    assert [headers.get("authorization") for headers in served.headers] == [None, None]
    writer.close()


@pytest.mark.parametrize(
    "trailing",
    [b"0\r\n" + b"x: y\r\n" * (MOST_HEADERS + 1), b"0\r\nx: " + b"y" * (9 * LARGEST_HEAD_BYTES)],
    ids=["many", "one without end"],
)
async def test_trailers_are_bounded_as_a_head_is(served: Served, trailing: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(CHUNKED + trailing)
    await assert_refused(reader, 431, "head_too_large")
    writer.close()


async def test_a_head_that_does_not_end_in_time_is_408() -> None:
    async with serving(Impatient) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /a HTTP/1.1\r\nHost: te")
        await assert_refused(reader, 408, "head_too_slow")
        writer.close()


async def test_the_time_for_a_head_is_not_extended_by_sending_a_little() -> None:
    async with serving(Impatient) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /a HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"x: y\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        await assert_refused(reader, 408, "head_too_slow")
        dripping.cancel()
        writer.close()


async def test_a_connection_that_asks_for_nothing_is_closed_without_an_answer() -> None:
    async with serving(Impatient) as served:
        reader, writer = await served.connect()
        assert await ended(reader)
        writer.close()


async def test_line_breaks_between_requests_do_not_hold_a_connection() -> None:
    async with serving(Impatient) as served:
        reader, writer = await served.connect()
        writer.write(request("/a"))
        await answers(reader, 1)
        writer.write(b"\r\n")
        assert await ended(reader)
        writer.close()


async def test_a_slow_answer_is_not_the_clients_slowness_and_what_follows_it_is_served() -> None:
    async with serving(LessImpatient) as served:
        reader, writer = await served.connect()
        writer.write(request("/slow") + b"GET /b HTTP/1.1\r\n")
        asyncio.get_running_loop().call_later(2 * LessImpatient.head_seconds, served.answer.set)
        await answers(reader, 1)
        writer.write(b"Host: test\r\n\r\n")
        ((status, _, body),) = await answers(reader, 1)
        assert (status, json.loads(body)) == (200, {"path": "/b"})
        writer.close()


async def test_a_taken_over_transport_is_left_alone() -> None:
    taken: list[asyncio.Transport] = []

    class Silent(asyncio.Protocol):
        pass

    class TakesOver(Impatient):
        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            taken.append(self.transport)
            self.connections.discard(self)
            self.loop.call_soon(self.transport.set_protocol, Silent())

    async with serving(TakesOver) as served:
        reader, writer = await served.connect()
        writer.write(request("/slow") + b"GET /half")
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.call_later(4 * Impatient.head_seconds, over.set)
        await over.wait()
        assert not taken[0].is_closing()
        taken[0].write(b"mine")
        assert await reader.readexactly(4) == b"mine"
        writer.close()
        taken[0].close()
