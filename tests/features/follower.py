"""Somebody who follows plans by SSE as a browser does, block by block; every wait has a deadline."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

WAIT_SECONDS = 10.0


class PlanFollower:
    """One EventSource: it keeps its Last-Event-ID over reconnects, and stops at any status but 200."""

    def __init__(self, gateway: str, token: str, plans: list[str]) -> None:
        """Connect; nothing is sent of what was before."""
        self._url = f"{gateway}/v1/events"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._plans = plans
        self._client = httpx.Client(timeout=WAIT_SECONDS)
        # As the last block with an id said; empty before the first.
        self.last_event_id = ""
        # The status of the last answer.
        self.status = 0
        self._answer: httpx.Response | None = None
        self.connect()

    def connect(self) -> None:
        """Ask, or ask again from the last event on; back when the stream is live, or has told of its end."""
        headers = {**self._headers, **({"Last-Event-ID": self.last_event_id} if self.last_event_id else {})}
        asked = self._client.build_request("GET", self._url, params={"plan_id": self._plans}, headers=headers)
        self._answer = self._client.send(asked, stream=True)
        self.status = self._answer.status_code
        self._blocks = self._read(self._answer)
        # Events that came before the stream was live, and the names of all that did.
        self._before: list[dict[str, str]] = []
        self.told_at_first: list[str] = []
        if self.status == httpx.codes.OK:
            first = self._until("live", "end")
            self.told_at_first = [block.get("event", "") for block in first]
            self._before = [block for block in first if block.get("event", "live") != "live"]

    def drop(self) -> None:
        """The connection is gone without a word."""
        if self._answer is not None:
            self._answer.close()

    def close(self) -> None:
        """Hang up."""
        self.drop()
        self._client.close()

    def next_event(self) -> Any:
        """The next event of a plan; None at the end of the stream."""
        for block in self._all():
            if block.get("event", "").isupper():
                return json.loads(block["data"])
        return None

    def next_sign(self) -> dict[str, str]:
        """The next block, a comment under an empty name."""
        return next(self._all())

    def rest(self) -> list[str]:
        """The names of all blocks to the end of the stream."""
        return [block.get("event", "") for block in self._all()]

    def _all(self) -> Iterator[dict[str, str]]:
        while self._before:
            yield self._before.pop(0)
        # Not `yield from`: that would end the blocks with whoever reads one of them.
        while (block := next(self._blocks, None)) is not None:
            yield block

    def _until(self, *names: str) -> list[dict[str, str]]:
        found = []
        while (block := next(self._blocks, None)) is not None:
            found.append(block)
            if block.get("event") in names:
                break
        return found

    def _read(self, answer: httpx.Response) -> Iterator[dict[str, str]]:
        held = ""
        for piece in answer.iter_text():
            *blocks, held = re.split(r"\n\n", held + piece)
            for block in blocks:
                fields = (line.partition(":") for line in block.split("\n"))
                found = {name: value.removeprefix(" ") for name, _, value in fields}
                self.last_event_id = found.get("id", self.last_event_id)
                yield found
