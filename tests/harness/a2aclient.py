"""The unmodified client of a2a-sdk, in each binding that the gateway serves; and what it is told, in short."""

import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client, ClientCallContext
from a2a.types.a2a_pb2 import (
    AgentCard,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)
from google.protobuf.json_format import MessageToDict

from tests.harness.tokens import bearer

BINDINGS = ("JSONRPC 1.0", "HTTP+JSON 1.0", "JSONRPC 0.3")


class Agent:
    """One user's client of the gateway's agent."""

    def __init__(self, client: Client, card: AgentCard, sub: str, role: str) -> None:
        self.client = client
        self.card = card
        self._headers = bearer(sub, role)

    def context(self, cursor: str | None = None, patience: float | None = None) -> ClientCallContext:
        """The headers of a call; `cursor`: the last event that this client had; `patience`: seconds, else the SDK's."""
        headers = {**self._headers, **({"Last-Event-ID": cursor} if cursor is not None else {})}
        return ClientCallContext(service_parameters=headers, timeout=patience)

    async def follow(
        self, plan: str, cursor: str | None = None, *, patience: float | None = None
    ) -> AsyncGenerator["Told", None]:
        """Subscribe, and all that is told."""
        updates = self.client.subscribe(SubscribeToTaskRequest(id=plan), context=self.context(cursor, patience))
        async with contextlib.aclosing(updates) as stream:  # type: ignore[type-var]  # a generator, typed as an iterator
            async for update in stream:
                yield Told(update)

    async def send(self, text: str, *, wait: bool = True, **more: Any) -> AsyncGenerator["Told", None]:
        """Say something, and all that is told of the plan."""
        message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)], **more)
        configuration = SendMessageConfiguration(return_immediately=not wait)
        request = SendMessageRequest(message=message, configuration=configuration)
        updates = self.client.send_message(request, context=self.context())
        async with contextlib.aclosing(updates) as stream:  # type: ignore[type-var]  # as above
            async for update in stream:
                yield Told(update)


class Told:
    """One member of a stream, as tests speak of it."""

    def __init__(self, update: StreamResponse) -> None:
        self.kind = update.WhichOneof("payload") or ""
        self.payload = getattr(update, self.kind)
        self.metadata: dict[str, Any] = MessageToDict(self.payload.metadata)
        self.cursor: str = self.metadata.get("cursor", "")

    @property
    def state(self) -> str:
        """As `WORKING`; empty for an artifact."""
        if self.kind == "artifact_update":
            return ""
        return str(TaskState.Name(self.payload.status.state)).removeprefix("TASK_STATE_")

    @property
    def text(self) -> str:
        """What it says: an artifact's first part, else the status' message."""
        if self.kind == "artifact_update":
            return str(self.payload.artifact.parts[0].text)
        parts = self.payload.status.message.parts
        return str(parts[0].text) if parts else ""


@contextlib.asynccontextmanager
async def agent_at(
    url: str, sub: str, role: str = "buyer", binding: str = BINDINGS[0], *, streaming: bool = True
) -> AsyncIterator[Agent]:
    """The client of `sub`, made from the card that the gateway shows, for one of its interfaces."""
    async with httpx.AsyncClient() as http:  # with the SDK's own five seconds of patience
        card = await A2ACardResolver(http, url).get_agent_card()
        wanted = [
            one for one in card.supported_interfaces if f"{one.protocol_binding} {one.protocol_version}" == binding
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        (interface,) = wanted
        # The way through which the card was read may be a line that a test cuts.
        interface.url = f"{url}/a2a"
        config = ClientConfig(
            httpx_client=http, streaming=streaming, supported_protocol_bindings=[interface.protocol_binding]
        )
        yield Agent(ClientFactory(config).create(card), card, sub, role)
