"""`--dead-letters list|replay`: what a service's reactions gave up on, for people, and another try at each.

A letter is handled here, by the same handlers over the same store; expected sequences make that safe beside the
running service. What succeeds is removed, what fails again stays and is told. Timers are not waited for: the
message is over once its handler has looked at it.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence

from nats.aio.client import Client

from contracts.contract import Contract
from contracts.registry import REGISTRY, Registry
from services.chassis.deadletters import DeadLetter, letters, payload_of, remove
from services.chassis.reactions import Source
from services.chassis.streams import Streams

CHOICES = ("list", "replay")
_CONNECT_SECONDS = 5.0


async def replay(
    service: str, choice: str, streams: Streams, sources: Sequence[Source], more: Iterable[Contract] = ()
) -> int:
    """Do it; the exit code: 1 where NATS is away or a letter failed again."""
    running = asyncio.create_task(streams.run())
    try:
        client = await _connected(streams)
        if client is None:
            print(f"error: {streams.nats_failing() or streams.streams_failing()}", file=sys.stderr)
            return 1
        found = [letter async for letter in letters(client, service)]
        if choice == "list":
            for letter in found:
                print(_line(letter))
            return 0
        registry = Registry([*REGISTRY, *more])
        done = [await _handled(client, letter, sources, registry) for letter in found]
        return 0 if all(done) else 1
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _connected(streams: Streams) -> Client | None:
    deadline = asyncio.get_running_loop().time() + _CONNECT_SECONDS
    while streams.streams_failing() is not None:
        if asyncio.get_running_loop().time() > deadline:
            return None
        await asyncio.sleep(0.02)
    return await streams.client(_CONNECT_SECONDS)


async def _handled(client: Client, letter: DeadLetter, sources: Sequence[Source], registry: Registry) -> bool:
    try:
        source = next(one for one in sources if one.name == letter.consumer)
        event = registry.read(json.loads(await payload_of(client, letter)))
        await source.handlers[event.envelope.type](event)
    except Exception as error:  # noqa: BLE001  # whatever it fails with, the others are still to be tried
        why = " ".join(f"{type(error).__name__}: {error}".split()) if str(error) else type(error).__name__
        print(f"failed    {_line(letter)}\n          {why}")
        return False
    await remove(client, letter)
    print(f"replayed  {_line(letter)}")
    return True


def _line(letter: DeadLetter) -> str:
    return f"{letter.stream}:{letter.sequence}  {letter.subject}  {letter.consumer}  {letter.reason}"
