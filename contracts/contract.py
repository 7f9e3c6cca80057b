"""A contract: what one version of one type of event must be, as data (PROTOCOL §3).

Says which model judges the `data`, which subject the event has, and how it becomes the next version.
Whether an event fits is the registry's judgement.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from contracts.errors import ContractError
from contracts.events.cloudevent import CloudEvent
from contracts.subjects import PLACEHOLDER, Layout

Model = type[BaseModel]
# From an event of one version to the `data` of the next; pure, and never fails on an event that fits.
Upcaster = Callable[[CloudEvent], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Violation:
    """One failing field: a JSON pointer (RFC 6901) into the event, and what is wrong there."""

    pointer: str
    message: str


class ContractViolation(ContractError):
    """The event does not fit its contract; `violations` says where."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.pointer or '/'}: {v.message}" for v in self.violations))


@dataclass(frozen=True)
class Contract:
    """One version of one type of event."""

    type: str
    version: int
    model: Model
    stream: str
    layout: Layout
    # Subject token -> the `data` field that must equal it.
    keys: Mapping[str, str]
    # Tokens with a value of their own, as the kind of aggregate.
    fixed: Mapping[str, str]
    # A whole `data` that fits, for the schema's example.
    example: Mapping[str, Any]
    # How an event of this version becomes one of the next; None for the newest.
    upcast: Upcaster | None = None
    # Tokens that no field of the data tells, so that who makes the event says them; each with an example.
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def deprecated(self) -> bool:
        """Whether there is a newer version; this one may still be published for a while."""
        return self.upcast is not None

    @property
    def urn(self) -> str:
        """The `dataschema` of its events."""
        return f"urn:a2a:contract:{self.type}:{self.version}"

    def subject_of(self, data: Mapping[str, Any], given: Mapping[str, str] | None = None) -> str:
        """The one subject that an event with this `data` may have; `given` are the tokens that its maker says.

        Raises:
            InvalidSubject: a key field is not an id.
            KeyError: a key field or a given token is missing.
        """
        said = {token: (given or {})[token] for token in self.given}
        keys = {token: value for token, value in self.fixed.items() if value != PLACEHOLDER}
        return self.layout.build({**keys, **said, **{token: data[name] for token, name in self.keys.items()}})


@dataclass(frozen=True, slots=True)
class Event:
    """An event that was judged and fits, as its type's newest version has it."""

    contract: Contract
    envelope: CloudEvent
    # The contract's own model: `match event.data` on its class.
    data: BaseModel


def pointer(location: Iterable[str | int]) -> str:
    """The JSON pointer of a path of keys and indices (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
