"""Examples for the AsyncAPI document: what clients say, and what the gateway's own builders make of an answer."""

import json
from typing import Any

from contracts import presence, wire
from contracts.cursor import Cursor
from contracts.errors import ErrorCode, Problem

_AT = Cursor("MARKET", "0mi7c3k9x", 1042)
_CHANNEL = "order:order_5be8"
_MEMBER = presence.Member("buyer_ada", "buyer", 0, presence.data_of({"screen": "offer"}))
_NOTE = presence.Note("buyer_ada", "buyer", "typing", 0, presence.data_of({"field": "price"}))


def _told(message: bytes) -> list[Any]:
    return [json.loads(message)]


MESSAGES: dict[str, list[Any]] = {
    "Auth": [{"op": "auth", "id": 1, "token": "eyJhbGciOiJFZERTQSJ9.…"}],
    "Subscribe": [
        {"op": "subscribe", "id": 2, "channel": _CHANNEL, "cursor": str(_AT)},
        {"op": "subscribe", "id": 3, "channel": "buyer:buyer_ada", "last": 20, "types": ["ORDER_CONFIRMED"]},
    ],
    "Resume": [
        {
            "op": "resume",
            "id": 4,
            "channels": {_CHANNEL: str(_AT), "buyer:buyer_ada": {"cursor": str(_AT), "on_gap": "refuse"}},
        }
    ],
    "Unsubscribe": [{"op": "unsubscribe", "id": 5, "channel": _CHANNEL}],
    "Heartbeat": [{"op": "heartbeat", "id": 6}],
    "Presence": [
        {"op": "presence", "id": 7, "channel": _CHANNEL, "action": "enter", "data": {"screen": "offer"}},
        {"op": "presence", "id": 8, "channel": _CHANNEL, "action": "leave"},
    ],
    "Signal": [{"op": "signal", "channel": _CHANNEL, "kind": "typing", "data": {"field": "price"}}],
    "Welcome": _told(wire.welcome("c1f09a", "buyer_ada", "buyer", "local", 25, {"max_channels": 128})),
    "Authenticated": _told(wire.authenticated(1)),
    "Subscribed": _told(wire.subscribed(2, _CHANNEL, _AT)),
    "Unsubscribed": _told(wire.unsubscribed(5, _CHANNEL)),
    "Live": _told(wire.live(_CHANNEL, _AT, 3)),
    "Gap": _told(wire.gap(_CHANNEL, "expired", "MARKET.0mi7c3k9x.7", _AT)),
    "HeartbeatAnswer": _told(wire.heartbeat({"MARKET": str(_AT)}, 6)),
    "PresenceAnswer": _told(presence.answer(7, _CHANNEL)),
    "PresenceMembers": _told(presence.members(_CHANNEL, [_MEMBER], more=False)),
    "PresenceChange": _told(presence.change(_CHANNEL, [_MEMBER], [], [])),
    "SignalTold": _told(presence.signal(_CHANNEL, _NOTE)),
    "Drain": _told(wire.drain(2400)),
    "Error": _told(wire.error(Problem(ErrorCode.RATE_LIMITED, retry_after_ms=500), 2)),
}

_CURSOR = {"type": "string", "description": "`STREAM.epoch.sequence`, or `earliest`."}
_TEXT = {"type": "string"}
STREAM_QUERY = {
    "channel": {"type": "array", "items": _TEXT, "description": "1 to 128, all of one stream."},
    "plan_id": {**_TEXT, "description": "The same as `channel=plan:<id>`."},
    "cursor": {**_CURSOR, "description": "Where to begin; a `Last-Event-ID` header wins over it."},
    "since": {**_TEXT, "format": "date-time"},
    "last": {"type": "integer", "minimum": 1, "maximum": 1000},
    "type": {"type": "array", "items": _TEXT, "description": "Only events of these types."},
    "on_gap": {"enum": ["notify", "refuse"], "default": "notify"},
}
MEMBERS_QUERY = {
    "after": {**_TEXT, "description": "`next` of the page before."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
}
HISTORY_QUERY = {
    "after": _CURSOR,
    "since": {**_TEXT, "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "wait": {"type": "number", "maximum": 30, "description": "Seconds to wait where there is nothing yet."},
}
