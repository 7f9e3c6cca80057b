"""The AsyncAPI 3 document of the market, made from what runs: channels, roles, wire messages and event contracts.

Seen from the system: it receives what clients and publishers send, and sends what they get. Nothing is said here
that the declarations do not say; only addresses of HTTP and the prose around them are written out.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from contracts import presence, wire
from contracts.channels import ID, ChannelKind
from contracts.contract import Contract
from contracts.domain import Domain
from contracts.errors import CloseCode, ErrorCode
from contracts.events.cloudevent import CloudEvent
from contracts.schemas import examples, kinds
from contracts.schemas.event import example
from contracts.subjects import PLACEHOLDER

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_SOCKET, _STREAM, _HISTORY, _MEMBERS, _INGEST = "websocket", "eventStream", "history", "members", "ingest"
_TITLE = "A2A market, realtime"
_ABOUT = """\
Events of an agent-to-agent market: stored once, delivered live, and replayed exactly from any cursor.

An event is a CloudEvents 1.0 JSON object in a stream. A cursor, `STREAM.epoch.sequence`, says "I have everything
up to here" and is valid at every gateway. A channel, `kind:id`, is what a client subscribes to, over WebSocket, as
an event stream (SSE), or in pages; a token's role and subject id decide what of it is seen.
"""
# What answers to a client's message, beside `Error`.
_REPLIES: Mapping[type, tuple[type, ...]] = {
    wire.Auth: (wire.Welcome, wire.Authenticated, wire.Unsubscribed),
    wire.Subscribe: (wire.Subscribed,),
    wire.Resume: (wire.Subscribed,),
    wire.Unsubscribe: (wire.Unsubscribed,),
    wire.Heartbeat: (wire.HeartbeatAnswer,),
    presence.Presence: (presence.PresenceAnswer,),
    presence.Signal: (),
}


class HistoryItem(msgspec.Struct, frozen=True):
    cursor: str
    event: dict[str, Any]


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of a channel; `cursor` is "read to here"."""

    events: list[HistoryItem]
    cursor: str
    live: bool
    gap: wire.StreamGap | msgspec.UnsetType = msgspec.UNSET


class Stored(msgspec.Struct, frozen=True):
    """The event is stored, at this cursor; a duplicate was stored before."""

    id: str
    cursor: str
    duplicate: bool


def document(domain: Domain, contracts: Iterable[Contract]) -> Json:
    """The whole document, for the channels of `domain` and the events of `contracts`."""
    events = sorted(contracts, key=lambda one: (one.stream, one.layout.prefix, one.type, one.version))
    channels = {**_endpoints(), **_kinds(domain, events), **_subjects(events)}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:a2a:realtime",
        "info": {
            "title": _TITLE,
            "version": f"{wire.PROTOCOL_VERSION}.0.0",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": channels,
        "operations": {**_socket_operations(), **_http_operations(), **_deliveries(domain), **_publishing(events)},
        "components": {
            "securitySchemes": _security(),
            "messages": _messages(events),
            "schemas": _schemas(events),
        },
        "x-roles": sorted(domain.roles),
        "x-error-codes": [
            {"code": c.wire, "status": c.status, "retryable": c.retryable, "message": c.message} for c in ErrorCode
        ],
        "x-close-codes": [{"code": int(code), "reason": code.reason} for code in CloseCode],
    }


def message_name(contract: Contract) -> str:
    """The key of an event's message and schema."""
    return f"{contract.type}.{contract.version}"


# Servers and security.


def _servers() -> Json:
    token = [{"$ref": "#/components/securitySchemes/bearer"}]
    either = [*token, {"$ref": "#/components/securitySchemes/cookie"}]

    def server(name: str, protocol: str, what: str, **more: Any) -> Json:
        variable = {"default": f"{name}.example", "description": "Host, and port where it is not the usual one."}
        return {"host": "{host}", "protocol": protocol, "description": what, "variables": {"host": variable}, **more}

    return {
        "gateway": server("gateway", "wss", "A gateway replica, by WebSocket.", security=either),
        "gatewayHttp": server("gateway", "https", "The same replica, by HTTP.", security=either),
        "ingest": server("ingest", "https", "Takes events of publishers by HTTP, role `service`.", security=token),
        "nats": server("nats", "nats", "JetStream, for publishers beside it: one subject a message."),
    }


def _security() -> Json:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "`sub`, `role` and `exp`. A WebSocket may send it as its first message instead, `auth`.",
        },
        "cookie": {
            "type": "httpApiKey",
            "name": "__Host-a2a_session",
            "in": "cookie",
            "description": "Set by `POST /v1/session`; over plain http on loopback `a2a_session`.",
        },
    }


# Channels.


def _channel(address: str, servers: tuple[str, ...], what: str, messages: Iterable[str], **more: Any) -> Json:
    return {
        "address": address,
        "description": what,
        "servers": [{"$ref": f"#/servers/{name}"} for name in servers],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        **more,
    }


def _endpoints() -> Json:
    said = [_name(kind) for kind in (*wire.CLIENT_MESSAGES, *wire.GATEWAY_MESSAGES)]
    streamed = ["CloudEvent", *(f"stream.{name}" for name in wire.STREAM_EVENTS)]
    channel = {"channel": {"description": "`kind:id`", "examples": ["buyer:buyer_ada"]}}
    return {
        _SOCKET: _channel("/v1/ws", ("gateway",), "One JSON text message a frame, both ways.", said),
        _STREAM: _channel("/v1/events", ("gatewayHttp",), "An event stream (SSE); ids are cursors.", streamed),
        _HISTORY: _channel(
            "/v1/channels/{channel}/events", ("gatewayHttp",), "History by pages, and long poll.", ["HistoryPage"],
            parameters=channel,
        ),
        _MEMBERS: _channel(
            "/v1/channels/{channel}/presence", ("gatewayHttp",), "Who is in a channel, by pages.", ["MembersPage"],
            parameters=channel,
        ),
        _INGEST: _channel(
            "/v1/events", ("ingest",), "Events to be stored, one or a batch of up to 500.", ["CloudEvent", "Stored"]
        ),
    }  # fmt: skip


def _kinds(domain: Domain, events: list[Contract]) -> Json:
    found = {}
    for kind in domain.channels:
        parameters = {} if kind.only_id else {"parameters": {"id": {"description": f"Id of the {kind.name}."}}}
        found[_key(kind)] = _channel(
            f"{kind.name}:{kind.only_id or ID}",
            ("gateway", "gatewayHttp"),
            kinds.told(kind),
            [message_name(one) for one in events if kinds.holds(kind, one)],
            **parameters,
            **{"x-stream": kind.stream, "x-filters": list(kind.filters(ID)), "x-access": kinds.access(kind)},
        )
    return found


def _key(kind: ChannelKind) -> str:
    return f"{kind.name}.{kind.only_id}" if kind.only_id else kind.name


def _subjects(events: list[Contract]) -> Json:
    """The NATS subjects, one channel a kind of aggregate."""
    found: Json = {}
    for contract in events:
        key = _subject_key(contract)
        if key not in found:
            named = {**{token: token for token in contract.given}, **contract.keys}
            tokens = [contract.fixed.get(token, f"{{{named.get(token)}}}") for token in contract.layout.tokens]
            found[key] = _channel(
                ".".join((contract.layout.prefix, *tokens)),
                ("nats",),
                f"Subject in the stream {contract.stream}; header `Nats-Msg-Id` is the event's id.",
                [],
                parameters={
                    **{name: {"description": f"The {name}; told by the subject alone."} for name in contract.given},
                    **{
                        name: {"location": f"$message.payload#/data/{name}"}
                        for name in dict.fromkeys(contract.keys.values())
                    },
                },
            )
        name = message_name(contract)
        found[key]["messages"][name] = {"$ref": f"#/components/messages/{name}"}
    return found


def _subject_key(contract: Contract) -> str:
    words = [contract.layout.prefix, *(word for word in contract.fixed.values() if word != PLACEHOLDER)]
    return ".".join(("subject", *words))


# Operations.


def _operation(action: str, channel: str, messages: Iterable[str], summary: str, **more: Any) -> Json:
    at = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": at},
        "summary": summary,
        "messages": [{"$ref": f"{at}/messages/{name}"} for name in messages],
        **more,
    }


def _reply(channel: str, messages: Iterable[str]) -> Json:
    at = f"#/channels/{channel}"
    return {"channel": {"$ref": at}, "messages": [{"$ref": f"{at}/messages/{name}"} for name in messages]}


def _socket_operations() -> Json:
    found = {}
    for kind in wire.CLIENT_MESSAGES:
        answers = [_name(one) for one in (*_REPLIES[kind], wire.Error)]
        summary = (kind.__doc__ or "").split("\n")[0]
        found[f"on{_name(kind)}"] = _operation(
            "receive", _SOCKET, [_name(kind)], summary, reply=_reply(_SOCKET, answers)
        )
    told = [_name(kind) for kind in wire.GATEWAY_MESSAGES]
    found["tell"] = _operation("send", _SOCKET, told, "What the gateway sends, asked or unasked.")
    return found


def _http_operations() -> Json:
    query = {"type": "object", "properties": examples.STREAM_QUERY}
    pages = {"type": "object", "properties": examples.HISTORY_QUERY}
    streamed = ["CloudEvent", *(f"stream.{name}" for name in wire.STREAM_EVENTS)]
    return {
        "stream": _operation(
            "send", _STREAM, streamed, "Events and control events, from a cursor or from now on.",
            bindings={"http": {"method": "GET", "query": query}},
        ),
        "page": _operation(
            "send", _HISTORY, ["HistoryPage"], "A page of a channel's past, or a wait for its next event.",
            bindings={"http": {"method": "GET", "query": pages}},
        ),
        "members": _operation(
            "send", _MEMBERS, ["MembersPage"], "Who is in a channel, as far as the caller may see.",
            bindings={"http": {"method": "GET", "query": {"type": "object", "properties": examples.MEMBERS_QUERY}}},
        ),
        "onPublish": _operation(
            "receive", _INGEST, ["CloudEvent"], "Store an event, once it fits its contract.",
            bindings={"http": {"method": "POST"}}, reply=_reply(_INGEST, ["Stored"]),
        ),
    }  # fmt: skip


def _deliveries(domain: Domain) -> Json:
    return {
        f"deliver.{_key(kind)}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{_key(kind)}"},
            "summary": f"Events of {kind.name}:{kind.only_id or ID}, to whom they are visible.",
        }
        for kind in domain.channels
    }


def _publishing(events: list[Contract]) -> Json:
    return {
        f"on.{key}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": "Store an event: its subject is made of its data.",
        }
        for key in dict.fromkeys(map(_subject_key, events))
    }


# Messages and schemas.


def _name(kind: type) -> str:
    return kind.__name__


def _messages(events: list[Contract]) -> Json:
    kinds: tuple[type, ...] = (*wire.CLIENT_MESSAGES, *wire.GATEWAY_MESSAGES, HistoryPage, presence.MembersPage, Stored)
    found = {_name(kind): _message(_name(kind), kind.__doc__, _name(kind)) for kind in kinds}
    for name, kind in wire.STREAM_EVENTS.items():
        found[f"stream.{name}"] = {
            **_message(f"event: {name}", kind.__doc__, _name(kind)),
            "contentType": "text/event-stream",
        }
    for name, payloads in examples.MESSAGES.items():
        found[name]["examples"] = [{"payload": payload} for payload in payloads]
    about = CloudEvent.__doc__
    found["CloudEvent"] = {
        **_message("CloudEvent", about, "CloudEvent"),
        "contentType": "application/cloudevents+json",
    }
    for contract in events:
        deprecated = "Deprecated: there is a newer version. " if contract.deprecated else ""
        found[message_name(contract)] = {
            **_message(contract.type, deprecated + (contract.model.__doc__ or ""), message_name(contract)),
            "contentType": "application/cloudevents+json",
            "examples": [{"payload": example(contract)}],
            "x-version": contract.version,
            "x-deprecated": contract.deprecated,
        }
    return found


def _message(title: str, about: str | None, schema: str) -> Json:
    return {
        "name": schema,
        "title": title,
        "summary": (about or "").strip().split("\n")[0],
        "payload": {"$ref": _SCHEMAS + schema},
    }


def _schemas(events: list[Contract]) -> Json:
    kinds = (
        *wire.CLIENT_MESSAGES,
        *wire.GATEWAY_MESSAGES,
        *wire.STREAM_EVENTS.values(),
        HistoryPage,
        presence.MembersPage,
        Stored,
    )
    found = msgspec.json.schema_components(dict.fromkeys(kinds), ref_template=_SCHEMAS + "{name}")[1]
    for name in ("Delivery", "HistoryItem"):
        found[name]["properties"]["event"] = {"$ref": _SCHEMAS + "CloudEvent"}
    found["CloudEvent"] = CloudEvent.model_json_schema(mode="serialization", ref_template=_SCHEMAS + "{model}")
    for contract in events:
        for name, schema in _of_event(contract):
            if found.setdefault(name, schema) != schema:
                raise ValueError(f"two models of events are called {name} and differ")
    return found


def _of_event(contract: Contract) -> Iterator[tuple[str, Json]]:
    data = contract.model.model_json_schema(mode="serialization", ref_template=_SCHEMAS + "{model}")
    yield from data.pop("$defs", {}).items()
    name = message_name(contract)
    properties = {
        "type": {"const": contract.type},
        "schemaversion": {"const": contract.version},
        "dataschema": {"const": contract.urn},
        "data": {"$ref": f"{_SCHEMAS}{name}.data"},
    }
    yield f"{name}.data", data
    yield name, {"allOf": [{"$ref": _SCHEMAS + "CloudEvent"}, {"type": "object", "properties": properties}]}
