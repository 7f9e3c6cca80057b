"""The load client, against a server that misbehaves: it must see what is lost, doubled or out of order."""

import asyncio
import base64
import hashlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.gateway.core.frames import PING, close_frame, event_block, text_frame
from tests.load.build import NoCompiler, load_client
from tests.load.natsline import EVENT_BYTES, body

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Any]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return load_client(tmp_path_factory.mktemp("fanload"))
    except NoCompiler as error:
        pytest.skip(str(error))


@asynccontextmanager
async def serving(script: Script, *, websocket: bool = True) -> AsyncIterator[int]:
    """A server that answers the handshake and then does as the script says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key).digest())
        upgrade = b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept
        writer.write(upgrade if websocket else b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            await script(reader, writer, head)
            await reader.read(1 << 16)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def fanload(binary: Path, port: int, *arguments: str) -> dict[str, Any]:
    """Its report."""
    process = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), "--idle-end", "0.2", "--settle", "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def frame(sequence: int, number: int = 1) -> bytes:
    text = b'{"op":"event","channel":"order:c0","cursor":"MARKET.0mi7c3k9a.%d","event":%b}'
    return text_frame(text % (sequence, body(number)))


def block(sequence: int, number: int = 1) -> bytes:
    return event_block(b"MARKET.0mi7c3k9a.%d" % sequence, "order.updated", body(number))


def sending(*pieces: bytes, cut: int | None = None) -> Script:
    """Send these, `cut` bytes at a time."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        joined = b"".join(pieces)
        step = cut or len(joined)
        for start in range(0, len(joined), step):
            writer.write(joined[start : start + step])
            await writer.drain()
            if cut is not None:
                await asyncio.sleep(0)

    return script


async def read_by(binary: Path, script: Script, *arguments: str, order: str = "cursor") -> dict[str, Any]:
    sse = ("--mode", "sse") if order == "id" else ()
    async with serving(script, websocket=not sse) as port:
        return await fanload(binary, port, *sse, "--order", order, *arguments)


def test_an_event_that_is_preloaded_has_the_shape_of_one_that_is_published() -> None:
    event = body(17)
    assert len(event) == EVENT_BYTES
    assert json.loads(event)["id"] == "17"
    assert abs(json.loads(event)["t"] - time.time_ns()) < 60e9


@pytest.mark.parametrize(("order", "one"), [("cursor", frame), ("id", block)])
async def test_what_comes_in_order_is_counted_and_no_fault(
    binary: Path, order: str, one: Callable[[int], bytes]
) -> None:
    report = await read_by(binary, sending(*map(one, range(8, 108))), "--step", "1", "--after", "7", order=order)
    assert (report["deliveries"], report["checked"]) == (100, 100)
    assert (report["disordered"], report["missing"]) == (0, 0)
    assert (report["min_each"], report["max_each"]) == (100, 100)
    assert 0 <= report["p99_ms"] < 10_000


@pytest.mark.parametrize(("order", "one"), [("cursor", frame), ("id", block)])
@pytest.mark.parametrize("cut", [1, 7, 61, 399, 400, 1000])
async def test_it_makes_no_difference_where_the_bytes_are_cut(
    binary: Path, order: str, one: Callable[[int], bytes], cut: int
) -> None:
    frames = [one(sequence) for sequence in range(999, 1011)]
    report = await read_by(binary, sending(*frames, cut=cut), "--step", "1", "--after", "998", order=order)
    assert (report["deliveries"], report["checked"]) == (12, 12)
    assert (report["disordered"], report["missing"]) == (0, 0)


@pytest.mark.parametrize(
    ("sequences", "disordered", "missing"),
    [
        ((1, 2, 4, 5), 0, 1),  # lost
        ((1, 2, 2, 3), 1, 0),  # doubled
        ((1, 3, 2, 4), 1, 2),  # exchanged
        ((3, 4, 5), 0, 1),  # the first are missing
    ],
)
@pytest.mark.parametrize(("order", "one"), [("cursor", frame), ("id", block)])
async def test_what_is_lost_doubled_or_out_of_order_is_seen(
    binary: Path,
    order: str,
    one: Callable[[int], bytes],
    sequences: tuple[int, ...],
    disordered: int,
    missing: int,
) -> None:
    after = ("--after", "1") if sequences[0] == 3 else ()
    report = await read_by(binary, sending(*map(one, sequences)), "--step", "1", *after, order=order)
    assert (report["disordered"], report["missing"]) == (disordered, missing)


async def test_events_that_are_not_the_channels_leave_the_same_distance_each_time(binary: Path) -> None:
    report = await read_by(binary, sending(*map(frame, range(5, 505, 50))), "--step", "50")
    assert (report["deliveries"], report["disordered"], report["missing"]) == (10, 0, 0)


async def test_without_a_step_any_later_position_will_do(binary: Path) -> None:
    report = await read_by(binary, sending(frame(1), frame(9), frame(40), frame(40)))
    assert (report["disordered"], report["missing"]) == (1, 0)


async def test_a_delivery_without_a_position_is_a_fault(binary: Path) -> None:
    report = await read_by(binary, sending(text_frame(body(1))))
    assert (report["deliveries"], report["disordered"]) == (1, 1)


async def test_a_peer_without_cursors_is_verified_by_the_publishers_numbers(binary: Path) -> None:
    spaced = json.dumps({"seq": 5, "data": json.loads(body(3))}).encode()
    pieces = [text_frame(body(1)), text_frame(body(2)), text_frame(spaced), text_frame(body(5))]
    report = await read_by(binary, sending(*pieces, cut=11), "--step", "1", order="body")
    assert (report["deliveries"], report["disordered"], report["missing"]) == (4, 0, 1)


async def test_it_is_ready_once_it_has_read_what_it_was_told_to_wait_for(binary: Path) -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        writer.write(text_frame(b'{"op":"welcome"}') + text_frame(b'{"op":"live"}')[:9])
        await asyncio.sleep(0.3)
        writer.write(text_frame(b'{"op":"live"}')[9:] + frame(1))

    async with serving(script) as port:
        report = await fanload(binary, port, "--ready-on", '"op":"live"')
    assert report["ready_s"] >= 0.3
    assert report["deliveries"] == 1


async def test_pings_are_answered_and_close_codes_noted(binary: Path) -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(frame(1) + PING + frame(2))
        heard.append(await reader.readexactly(6))
        writer.write(close_frame(4102, "too_slow"))

    async with serving(script) as port:
        report = await fanload(binary, port, "-n", "3", "--inflight", "1")
    assert [one[:2] for one in heard] == [b"\x8a\x80"] * 3
    assert report["closes"] == {"4102": 3}
    assert (report["connections"], report["dropped"], report["errors"]) == (3, 3, 0)


async def test_connection_i_sends_its_number_and_line_i_of_the_header_file(binary: Path, tmp_path: Path) -> None:
    heads: list[bytes] = []
    texts: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        heads.append(head)
        header = await reader.readexactly(6)
        payload = await reader.readexactly(header[1] & 127)
        texts.append(bytes(byte ^ header[2 + place % 4] for place, byte in enumerate(payload)))
        writer.write(frame(1))

    lines = tmp_path / "headers"
    lines.write_text("X-Who: zero\nX-Who: one\n")
    async with serving(script) as port:
        await fanload(binary, port, "-n", "3", "--path", "/at/%d", "--header-file", str(lines), "--send", "hello %d")
    assert sorted(texts) == [b"hello 0", b"hello 1", b"hello 2"]
    for number, who in ((0, b"zero"), (1, b"one"), (2, b"zero")):
        [head] = [head for head in heads if b"GET /at/%d " % number in head]
        assert b"X-Who: " + who + b"\r\n" in head


async def test_the_stalled_read_nothing_until_they_are_woken(binary: Path) -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> None:
        for sequence in range(1, 61):
            writer.write(frame(sequence))
            await asyncio.sleep(0.02)

    async with serving(script) as port:
        process = await asyncio.create_subprocess_exec(
            binary,
            *("--port", str(port), "-n", "2", "--stall", "1", "--order", "cursor", "--step", "1"),
            *("--settle", "0", "--idle-end", "0.5"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert (await process.stdout.readline()).startswith(b"READY 2 0")
            process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(0.6)
            process.send_signal(signal.SIGUSR2)
            report = json.loads((await process.communicate())[0])
    # Both get all in the end; only the one that never stalled is counted as to completeness.
    assert report["deliveries"] == 120
    assert (report["min_each"], report["max_each"]) == (60, 60)
    assert (report["disordered"], report["missing"]) == (0, 0)


async def test_a_refused_handshake_is_an_error_and_not_a_delivery(binary: Path) -> None:
    async with serving(sending(frame(1)), websocket=False) as port:
        report = await fanload(binary, port, "--max-time", "1")
    assert (report["errors"], report["connections"], report["deliveries"]) == (1, 0, 0)


async def test_nobody_listening_is_an_error(binary: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = await fanload(binary, unused.getsockname()[1], "--max-time", "1")
    assert report["errors"] == 1


async def test_an_unknown_option_is_named(binary: Path) -> None:
    process = await asyncio.create_subprocess_exec(binary, "--fast", stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"unknown option --fast" in said
