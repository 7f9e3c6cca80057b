"""The error and close codes of the wire, in one registry (PROTOCOL §7, §8).

A code is data: its HTTP status, its close code and whether a retry helps. This file decides
which codes exist; it never decides when one is raised.

Exception tree::

    ContractError
    ├── Refused              (here)
    ├── InvalidCursor        (contracts.cursor)
    ├── InvalidChannel       (contracts.channels)
    ├── InvalidSubject       (contracts.subjects)
    ├── NotAnEvent           (contracts.envelope)
    ├── InvalidClientMessage (contracts.wire)
    ├── ContractViolation    (contracts.contract)
    └── InvalidDomain        (contracts.domain)
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class ContractError(Exception):
    """Root of what this package raises."""


class CloseCode(IntEnum):
    """WebSocket close codes; the hundreds say what the client does next (PROTOCOL §8).

    4000-4099 do not come back, 4100-4199 back off and resume, 4200-4299 resume at once.
    """

    BAD_REQUEST = 4001
    UNAUTHENTICATED = 4003
    REVOKED = 4004
    CONNECTION_LIMIT = 4005
    PROTOCOL = 4006
    AUTH_TIMEOUT = 4008
    OVERLOADED = 4100
    RATE = 4101
    TOO_SLOW = 4102
    DRAIN = 4200
    NO_HEARTBEAT = 4201
    TOKEN_EXPIRED = 4202
    RESYNC = 4203

    @property
    def reason(self) -> str:
        """The text sent in the close frame: the code's name."""
        return self.name.lower()


class ErrorCode(Enum):
    """Every error code: its name on the wire, HTTP status, whether a retry helps, default message."""

    INVALID_JSON = ("invalid_json", 400, False, "The message is not valid JSON.")
    INVALID_MESSAGE = ("invalid_message", 400, False, "The message does not have the expected form.")
    UNKNOWN_OP = ("unknown_op", 400, False, "This gateway does not know that op.")
    MESSAGE_TOO_LARGE = ("message_too_large", 413, False, "The message is larger than allowed.")
    UNAUTHENTICATED = ("unauthenticated", 401, False, "A bearer token is required.")
    TOKEN_INVALID = ("token_invalid", 401, False, "The token is not valid.")
    TOKEN_EXPIRED = ("token_expired", 401, True, "The token has expired; obtain a new one.")
    FORBIDDEN = ("forbidden", 403, False, "The token does not allow this.")
    REVOKED = ("revoked", 403, False, "Access has been revoked.")
    INVALID_CHANNEL = ("invalid_channel", 400, False, "A channel is kind:id; ids are [A-Za-z0-9_][A-Za-z0-9_-]{0,63}.")
    UNKNOWN_CHANNEL = ("unknown_channel", 404, False, "There is no such kind of channel.")
    MIXED_STREAMS = ("mixed_streams", 400, False, "All channels of one SSE request must be of one stream.")
    INVALID_CURSOR = ("invalid_cursor", 400, False, "A cursor is STREAM.epoch.sequence, as the gateway gave it.")
    CURSOR_EXPIRED = ("cursor_expired", 410, False, "Events after this cursor are no longer stored.")
    CURSOR_RECREATED = ("cursor_recreated", 410, False, "The stream was made again after this cursor was given.")
    CURSOR_AHEAD = ("cursor_ahead", 409, False, "The cursor is beyond the end of the stream.")
    ALREADY_SUBSCRIBED = ("already_subscribed", 400, False, "This connection is already subscribed to that channel.")
    NOT_SUBSCRIBED = ("not_subscribed", 400, False, "This connection is not subscribed to that channel.")
    TOO_MANY_SUBSCRIPTIONS = ("too_many_subscriptions", 400, False, "Too many channels on one connection.")
    TOO_MANY_CONNECTIONS = ("too_many_connections", 429, True, "Too many connections of this principal.")
    RATE_LIMITED = ("rate_limited", 429, True, "Too many messages; slow down.")
    REPLAY_UNAVAILABLE = ("replay_unavailable", 503, True, "The replay cannot be served just now.")
    DRAINING = ("draining", 503, True, "This gateway is shutting down; reconnect.")
    OVERLOADED = ("overloaded", 503, True, "This gateway has no room for more connections; come back.")
    UNAVAILABLE = ("unavailable", 503, True, "This cannot be answered just now; try again.")
    INTERNAL = ("internal", 500, True, "Something went wrong here, not with the request.")
    # Of HTTP alone (PROTOCOL §7): no WebSocket message bears these.
    NOT_FOUND = ("not_found", 404, False, "There is nothing at this address.")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, False, "This address does not take that method.")
    INVALID_PARAMETER = ("invalid_parameter", 400, False, "A query parameter is not valid.")
    INVALID_EVENT = ("invalid_event", 422, False, "The event does not fit its contract.")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported_media_type", 415, False, "The content type is not supported.")
    STORE_UNAVAILABLE = ("store_unavailable", 503, True, "The event store does not answer; send the same events again.")
    STORE_FULL = ("store_full", 503, True, "The stream is full and refuses writes.")
    # Of commands to a publisher, over HTTP.
    INVALID_COMMAND = ("invalid_command", 422, False, "The body does not fit the command.")
    INVALID_IDEMPOTENCY_KEY = (
        "invalid_idempotency_key",
        400,
        False,
        "Idempotency-Key is required: 1 to 128 printable ASCII characters.",
    )
    IDEMPOTENCY_KEY_REUSED = ("idempotency_key_reused", 422, False, "This key was used with another request.")
    CONFLICT = ("conflict", 409, True, "Others change the same thing at the same time; send the command again.")
    INVALID_SIGNATURE = ("invalid_signature", 401, False, "The webhook's signature does not fit, or is too old.")
    # Of the market's own rules.
    EXPIRY_IN_PAST = ("expiry_in_past", 422, False, "The moment of expiry has passed already.")
    CURRENCY_MISMATCH = ("currency_mismatch", 422, False, "A deal has one currency, that of its quote.")
    INTENT_CLOSED = ("intent_closed", 409, False, "The intent is cancelled or has expired.")
    QUOTE_CLOSED = ("quote_closed", 409, False, "The quote is withdrawn or has expired.")
    NEGOTIATION_CLOSED = ("negotiation_closed", 409, False, "The negotiation has ended.")
    OFFER_EXPIRED = ("offer_expired", 409, False, "The offer has expired.")
    NOT_YOUR_TURN = ("not_your_turn", 409, False, "The last offer is your own; the other side answers it.")
    TOO_MANY_ROUNDS = ("too_many_rounds", 409, False, "The negotiation has had all its rounds: accept or reject.")
    ORDER_PAID = ("order_paid", 409, False, "The order is paid or confirmed and cannot be cancelled.")
    ORDER_CLOSED = ("order_closed", 409, False, "The order is cancelled.")
    # Of plans (docs/protocol.md, Plans).
    NOT_CANCELABLE = ("not_cancelable", 409, False, "The plan has ended and cannot be cancelled.")
    PLAN_CLOSED = ("plan_closed", 409, False, "The plan has ended; begin another without its taskId.")
    INPUT_NOT_EXPECTED = ("input_not_expected", 409, True, "The plan is at work and takes no message now.")
    PLAN_FULL = ("plan_full", 409, False, "The plan has as many events or as large artifacts as one may have.")
    PLAN_SUPERSEDED = ("plan_superseded", 409, False, "Another execution of the plan has taken over.")
    PAYMENT_CLOSED = ("payment_closed", 409, False, "The payment has ended already.")

    def __init__(self, wire: str, status: int, retryable: bool, message: str) -> None:
        self.wire = wire
        self.status = status
        self.retryable = retryable
        self.message = message

    @property
    def close_code(self) -> CloseCode:
        """What closes a WebSocket that cannot go on for this reason."""
        return _CLOSES.get(self, CloseCode.OVERLOADED)


_CLOSES = {
    ErrorCode.UNAUTHENTICATED: CloseCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_INVALID: CloseCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN: CloseCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    ErrorCode.REVOKED: CloseCode.REVOKED,
    ErrorCode.TOO_MANY_CONNECTIONS: CloseCode.CONNECTION_LIMIT,
    ErrorCode.RATE_LIMITED: CloseCode.RATE,
    ErrorCode.DRAINING: CloseCode.DRAIN,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal, as a value: what is told to the client over WebSocket, SSE or HTTP alike."""

    code: ErrorCode
    message: str = ""
    # Milliseconds after which a retry is worth it; None where there is nothing to say.
    retry_after_ms: int | None = None
    # None: as the code's entry says. A refusal may be final where its code is usually not.
    retryable: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message, or the code's own where none was given."""
        return self.message or self.code.message

    @property
    def may_retry(self) -> bool:
        """Whether the same request can succeed later."""
        return self.code.retryable if self.retryable is None else self.retryable

    def as_wire(self) -> dict[str, Any]:
        """The `error` object of PROTOCOL §8."""
        body: dict[str, Any] = {"code": self.code.wire, "message": self.text, "retryable": self.may_retry}
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
        if self.details:
            body["details"] = self.details
        return body

    def as_http(self) -> dict[str, Any]:
        """The problem+json object of RFC 9457."""
        return {
            "type": f"urn:a2a:problem:{self.code.wire}",
            "title": self.code.message,
            "status": self.code.status,
            "detail": self.text,
            **self.as_wire(),
        }


class Refused(ContractError):
    """A refusal on its way out of nested calls; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem
