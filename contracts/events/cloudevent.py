"""The CloudEvent as publishers make it (CloudEvents 1.0, JSON format; PROTOCOL §3).

Stricter than the gateway's reader: every field that the market relies on is required here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts.events.moment import UtcMoment

# No space at either end: NATS headers lose it, and two ids that differ in nothing else would be one `Nats-Msg-Id`.
EventId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,126}[\x21-\x7e])?$")]
TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class CloudEvent(BaseModel):
    """One event's envelope; `data` is judged by the contract that `type` and `schemaversion` name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    source: str = Field(min_length=1, max_length=255)
    type: TypeName
    time: UtcMoment
    subject: str = Field(min_length=1, max_length=512)
    dataschema: str
    datacontenttype: Literal["application/json"] = "application/json"
    schemaversion: int = Field(ge=1, strict=True)
    correlationid: str | None = Field(default=None, min_length=1, max_length=128)
    causationid: str | None = Field(default=None, min_length=1, max_length=128)
    traceparent: str | None = Field(default=None, pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
    final: bool | None = Field(default=None, strict=True)
    data: dict[str, Any]
