"""The publishing kit: from typed data to (subject, headers, bytes) and back. Pure; connecting is the caller's.

Moments and entropy come in as arguments: a publisher that derives an event's id from its cause makes
the same event again however often it is asked, and the stream stores it once::

    document = new_event("ORDER_CONFIRMED", data, id=derived_id(cause, 0), source="urn:a2a:service:orders", time=now)
    made = publication(document)
    await jetstream.publish(made.subject, made.payload, stream=made.stream, headers=dict(made.headers))
"""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from contracts.contract import Contract, ContractViolation, Event, Violation
from contracts.envelope import Publication
from contracts.registry import REGISTRY, Registry
from contracts.subjects import InvalidSubject

ENTROPY_BYTES = 10
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:a2a:derived")


def fresh_id(time: datetime, entropy: bytes) -> str:
    """A UUIDv7 of this moment; `entropy` is ten random bytes, `secrets.token_bytes(10)`."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a fresh id takes {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    milliseconds = int(time.timestamp() * 1000)
    value = milliseconds << 80 | int.from_bytes(entropy)
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 2 << 62  # variant
    return str(uuid.UUID(int=value))


def derived_id(*cause: str | int) -> str:
    """The UUIDv5 of a cause and what else tells its effects apart: the same cause gives the same id, for ever.

    Open with a word for what is derived where two kinds of cause could be equal: `derived_id("order", negotiation)`.
    """
    return str(uuid.uuid5(_NAMESPACE, json.dumps(cause)))


def new_event(
    kind: str,
    data: BaseModel | Mapping[str, Any],
    *,
    id: str,
    source: str,
    time: datetime,
    version: int | None = None,
    correlationid: str | None = None,
    causationid: str | None = None,
    traceparent: str | None = None,
    final: bool | None = None,
    given: Mapping[str, str] | None = None,
    registry: Registry = REGISTRY,
) -> dict[str, Any]:
    """A CloudEvent document of the newest version, or of the one named; its subject follows from the data.

    `given` says the tokens of the subject that the data does not tell, as a plan's `owner`. Whether it fits is
    judged by `publication`.

    Raises:
        ContractViolation: nobody registered the type, or the data lacks a key of the subject.
    """
    contract = registry.newest(kind) if version is None else registry.find(kind, version)
    if contract is None:
        raise ContractViolation([Violation("/type", f"no contract is registered for {kind} version {version}")])
    payload = to_jsonable_python(data, exclude_none=True)
    optional = {
        "correlationid": correlationid, "causationid": causationid, "traceparent": traceparent, "final": final,
    }  # fmt: skip
    return {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "time": _rfc3339(time),
        "subject": _subject(contract, payload, given or {}),
        "dataschema": contract.urn,
        "datacontenttype": "application/json",
        "schemaversion": contract.version,
        **{name: value for name, value in optional.items() if value is not None},
        "data": payload,
    }


def publication(document: Mapping[str, Any], registry: Registry = REGISTRY) -> Publication:
    """The event as it is stored: subject, headers and bytes.

    Raises:
        ContractViolation: the event does not fit its contract; every failing field is named by JSON pointer.
    """
    return registry.publication(document)


def read(payload: bytes, registry: Registry = REGISTRY) -> Event:
    """A stored event, typed, as the newest version of its type has it.

    Raises:
        ContractViolation: it is no JSON, or does not fit the contract that it names.
    """
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ContractViolation([Violation("", f"not JSON: {error}")]) from error
    return registry.read(document)


def _rfc3339(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("the time of an event bears its offset")
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _subject(contract: Contract, data: Mapping[str, Any], given: Mapping[str, str]) -> str:
    missing = [name for name in contract.keys.values() if not isinstance(data.get(name), str)]
    if missing:
        raise ContractViolation(Violation(f"/data/{name}", "an id is required here") for name in missing)
    unsaid = contract.given.keys() - given.keys()
    if unsaid:
        raise ContractViolation(Violation("/subject", f"its maker must give the {token}") for token in sorted(unsaid))
    try:
        return contract.subject_of(data, given)
    except InvalidSubject as error:
        raise ContractViolation([Violation("/subject", str(error))]) from error
