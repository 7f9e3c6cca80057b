"""A line between a client and a server that can go deaf or silent and be cut: answers are lost though requests arrived.

It counts what passes, so that a test can tell what a line carries.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Line:
    """Forwards bytes both ways, from a port of its own."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Whether what the server says is dropped.
        self._is_deaf = False
        # Whether nothing passes: what is connected is broken, what connects is broken at once.
        self._is_severed = False
        # Cleared while nothing passes though connections stay and new ones are taken, as over a cable that is pulled.
        self._passes = asyncio.Event()
        self._passes.set()
        # Bytes that the server said and that passed.
        self.answered_bytes = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def deafen(self) -> None:
        """From now on nothing that the server says arrives."""
        self._is_deaf = True

    def cut(self) -> None:
        """Break every connection; new ones hear again."""
        self._is_deaf = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def sever(self) -> None:
        """Break every connection, and each new one, until `heal`."""
        self._is_severed = True
        self.cut()

    def hush(self) -> None:
        """Nothing passes, and nobody is told; what was sent meanwhile passes after `heal`."""
        self._passes.clear()

    def heal(self) -> None:
        """New connections pass again, and what was held back."""
        self._is_severed = False
        self._passes.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_severed:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # nobody is there now: as the server itself would have refused
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink, is_answer in ((reader, back, False), (there, writer, True)):
            task = asyncio.create_task(self._forward(source, sink, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._passes.wait()
                if not (is_answer and self._is_deaf):
                    self.answered_bytes += len(data) if is_answer else 0
                    sink.write(data)
                    await sink.drain()
            await self._passes.wait()
        sink.transport.abort()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        """Listen until the block ends."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            self.cut()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
