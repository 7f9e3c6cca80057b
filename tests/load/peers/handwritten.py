"""What one writes by hand: Starlette, uvicorn, nats-py, and an asyncio.Queue for each connection.

usage: handwritten.py PORT NATS_URL. A program of its own: it imports nothing of the project.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import uvicorn
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

channels: dict[str, set[asyncio.Queue[dict[str, Any]]]] = {}


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Feed every queue from one ordered consumer."""
    client = await nats.connect(sys.argv[2])
    jetstream = client.jetstream()
    await jetstream.add_stream(name="EV", subjects=["ev.>"], max_bytes=2 << 30)

    async def deliver(message: Msg) -> None:
        channel = message.subject.removeprefix("ev.")
        event = {"seq": message.metadata.sequence.stream, "ch": channel, "data": json.loads(message.data)}
        for queue in channels.get(channel, ()):
            queue.put_nowait(event)

    new = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    await jetstream.subscribe("ev.>", cb=deliver, ordered_consumer=True, config=new)
    yield
    await client.close()


async def websocket(socket: WebSocket) -> None:
    """The first message names the channel."""
    await socket.accept()
    channel = json.loads(await socket.receive_text())["sub"]
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def read() -> None:
        while True:
            await socket.receive_text()

    reader = asyncio.create_task(read())
    channels.setdefault(channel, set()).add(queue)
    try:
        while True:
            await socket.send_text(json.dumps(await queue.get()))
    except Exception:
        return
    finally:
        reader.cancel()
        channels[channel].discard(queue)


async def events(request: Request) -> Response:
    """The path names the channel."""
    from sse_starlette.sse import EventSourceResponse  # type: ignore[import-not-found,unused-ignore]

    channel = request.path_params["channel"]

    async def generate() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        channels.setdefault(channel, set()).add(queue)
        try:
            yield {"comment": "hello"}
            while True:
                event = await queue.get()
                yield {"id": str(event["seq"]), "data": json.dumps(event)}
        finally:
            channels[channel].discard(queue)

    response: Response = EventSourceResponse(generate())
    return response


routes = [WebSocketRoute("/ws", websocket), Route("/sse/{channel}", events)]
app = Starlette(routes=routes, lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
        backlog=4096,
        loop="uvloop",
        http="httptools",
    )
