"""What may change within a schema version (PROTOCOL §3): additions, and nothing that a reader or a writer would meet.

Compares the schema that was committed with the one that the models make now. A writer's old event must still fit,
and a reader's old code must still understand the new one. So an optional field may be added and a bound may be
widened; what is removed, retyped, narrowed or newly required is a finding, and so is every change that this file
cannot judge. Values only: nothing here reads a file.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Any  # a mapping, or a bare boolean

_EVERY_TYPE = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
# What tells about a value and does not bind it.
_REMARKS = frozenset({"title", "description", "examples", "deprecated", "$comment", "$schema", "$defs", "definitions"})
_UNRESOLVED = frozenset({"$ref", "anyOf", "oneOf"})
# Keyword -> the bound that is no bound.
_LOWEST = dict.fromkeys(("minLength", "minItems", "minProperties"), 0.0)
_HIGHEST = dict.fromkeys(("maxLength", "maxItems", "maxProperties"), math.inf)
_JUDGED = _REMARKS | _LOWEST.keys() | _HIGHEST.keys() | {
    "type", "const", "enum", "anyOf", "oneOf", "$ref", "properties", "required", "additionalProperties", "items",
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "pattern", "default",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One change that needs a new version: where in the event, and what."""

    # JSON pointer into the event; `*` stands for any index or name.
    pointer: str
    what: str


def changes(committed: Mapping[str, Any], present: Mapping[str, Any]) -> list[Change]:
    """What of `present` would break writers or readers of `committed`; empty where it is compatible."""
    return list(dict.fromkeys(_Comparison(committed, present).all()))


class _Comparison:
    """Two documents, each with its own definitions."""

    def __init__(self, committed: Mapping[str, Any], present: Mapping[str, Any]) -> None:
        self._committed = committed
        self._present = present
        # Pairs of references that are being compared further out: a recursive model meets itself again.
        self._open: set[tuple[str, str]] = set()

    def all(self) -> Iterator[Change]:
        if self._committed.get("x-subject") != self._present.get("x-subject"):
            yield Change("/subject", "is made of other fields")
        envelope = ("$id", "x-subject")
        yield from self._schema(_without(self._committed, envelope), _without(self._present, envelope), "")

    def _schema(self, old: Schema, new: Schema, at: str) -> Iterator[Change]:
        pair = (_reference(old), _reference(new))
        if all(pair):
            if pair in self._open:
                return
            self._open.add(pair)
        yield from self._resolved(_resolve(old, self._committed), _resolve(new, self._present), at)
        self._open.discard(pair)

    def _resolved(self, old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
        if "default" in old and not ("default" in new and _same(old["default"], new["default"])):
            told = f"has the default {new['default']!r}, not" if "default" in new else "has no more the default"
            yield Change(at, f"{told} {old['default']!r}: events without it would change their meaning")
        yield from _unjudged(_beside_union(old), _beside_union(new), at)
        ours, theirs = _alternatives(old), _alternatives(new)
        if len(ours) == len(theirs) == 1:
            yield from self._plain(ours[0], theirs[0], at)
        else:
            yield from self._union(ours, theirs, at)

    def _union(self, old: list[Schema], new: list[Schema], at: str) -> Iterator[Change]:
        """Each alternative of one side must fit one of the other's: a missing one narrows, a further one retypes."""
        unmet = list(new)
        for one in old:
            tried = [(other, list(self._schema(one, other, at))) for other in new]
            fitting = [other for other, found in tried if not found]
            alike = [(other, found) for other, found in tried if self._types(one, other)]
            if fitting:
                unmet = [other for other in unmet if other not in fitting]
            elif len(alike) == 1:
                yield from alike[0][1]
                unmet = [other for other in unmet if other is not alike[0][0]]
            else:
                yield Change(at, f"was retyped: {self._name(one, self._committed)} is no more allowed")
        for other in unmet:
            yield Change(at, f"was retyped: {self._name(other, self._present)} is now allowed, which no reader expects")

    def _types(self, old: Schema, new: Schema) -> bool:
        return _types_of(_resolve(old, self._committed)) == _types_of(_resolve(new, self._present))

    def _name(self, schema: Schema, document: Mapping[str, Any]) -> str:
        found = _resolve(schema, document)
        values = _values_of(found)
        return str(found.get("title") or (values and f"{values}") or _told(_types_of(found)))

    def _plain(self, old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
        if not _UNRESOLVED.isdisjoint(old) or not _UNRESOLVED.isdisjoint(new):
            yield from self._schema(old, new, at)  # an alternative that is a reference or a union itself
            return
        before, after = _types_of(old), _types_of(new)
        if before != after:
            yield Change(at, f"was retyped from {_told(before)} to {_told(after)}")
            return
        yield from _values(old, new, at)
        yield from _bounds(old, new, at)
        yield from _unjudged(old, new, at)
        yield from self._object(old, new, at)
        if "items" in old or "items" in new:
            yield from self._schema(old.get("items", True), new.get("items", True), f"{at}/*")

    def _object(self, old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
        had, has = old.get("properties", {}), new.get("properties", {})
        demanded, demands = set(old.get("required", ())), set(new.get("required", ()))
        for name in had:
            if name not in has:
                yield Change(_child(at, name), "was removed")
            else:
                yield from self._schema(had[name], has[name], _child(at, name))
        for name in sorted(demands - demanded):
            yield Change(_child(at, name), "is newly required")
        for name in sorted(demanded - demands - (had.keys() - has.keys())):
            yield Change(_child(at, name), "is no more required: readers count on it")
        if "properties" not in old and _further_fields(old) is True:
            for name in has:  # a model without fields says so; this was an object of any fields
                yield Change(_child(at, name), "was narrowed: whatever it was called, it could be anything")
        before, after = _further_fields(old), _further_fields(new)
        yield from self._further(before, after, at)
        if isinstance(before, Mapping):
            for name in sorted(has.keys() - had.keys()):
                yield from self._schema(before, has[name], _child(at, name))

    def _further(self, old: Schema, new: Schema, at: str) -> Iterator[Change]:
        """Fields that have no name in the schema: allowed, refused, or of one form."""
        if old is False or new is True:
            if isinstance(old, Mapping):
                yield Change(f"{at}/*", "was retyped: further fields may be anything now")
        elif new is False:
            yield Change(f"{at}/*", "was narrowed: further fields are refused")
        elif old is True:
            yield Change(f"{at}/*", "was narrowed: further fields have a form")
        else:
            yield from self._schema(old, new, f"{at}/*")


def _values(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
    before, after = _values_of(old), _values_of(new)
    if after is None:
        return
    if before is None:
        yield Change(at, f"was narrowed to {', '.join(map(repr, after))}")
        return
    gone = [value for value in before if not any(_same(value, other) for other in after)]
    if gone:
        yield Change(at, f"was narrowed: {', '.join(map(repr, gone))} is no more allowed")


def _bounds(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
    for keyword, unbound in _LOWEST.items():
        if new.get(keyword, unbound) > old.get(keyword, unbound):
            yield Change(at, f"was narrowed: {keyword} {new[keyword]}, before {old.get(keyword, 'none')}")
    for keyword, unbound in _HIGHEST.items():
        if new.get(keyword, unbound) < old.get(keyword, unbound):
            yield Change(at, f"was narrowed: {keyword} {new[keyword]}, before {old.get(keyword, 'none')}")
    if _least(new) > _least(old):
        yield Change(at, "was narrowed: its least value is higher")
    if _most(new) < _most(old):
        yield Change(at, "was narrowed: its greatest value is lower")
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield Change(at, f"was narrowed: its pattern was {old.get('pattern', 'none')} and is {new['pattern']}")


def _least(schema: Mapping[str, Any]) -> tuple[float, bool]:
    """The lower bound; the second says that it is itself excluded."""
    inclusive = (schema.get("minimum", -math.inf), False)
    return max(inclusive, (schema.get("exclusiveMinimum", -math.inf), "exclusiveMinimum" in schema))


def _most(schema: Mapping[str, Any]) -> tuple[float, bool]:
    """The upper bound; the second says that it is itself allowed."""
    inclusive = (schema.get("maximum", math.inf), True)
    return min(inclusive, (schema.get("exclusiveMaximum", math.inf), "exclusiveMaximum" not in schema))


def _unjudged(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[Change]:
    for keyword in sorted((old.keys() | new.keys()) - _JUDGED):
        if old.get(keyword) != new.get(keyword):
            yield Change(at, f"was retyped: {keyword} was {old.get(keyword)!r} and is {new.get(keyword)!r}")


def _without(schema: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


def _beside_union(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What binds a value beside the alternatives, where the schema is a union."""
    union = "anyOf" in schema or "oneOf" in schema
    return {f"{name} beside a union": value for name, value in _without(schema, ("anyOf", "oneOf", "default")).items()
            if union and name not in _REMARKS}  # fmt: skip


def _further_fields(schema: Mapping[str, Any]) -> Schema:
    found = schema.get("additionalProperties", True)
    return True if found == {} else found


def _reference(schema: Schema) -> str:
    return schema.get("$ref", "") if isinstance(schema, Mapping) else ""


def _resolve(schema: Schema, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself: behind its reference, whose neighbours bind too."""
    found = _as_mapping(schema)
    while "$ref" in found:
        target: Any = document
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        found = {**_as_mapping(target), **_without(found, ("$ref",))}
    return found


def _as_mapping(schema: Schema) -> Mapping[str, Any]:
    """`true` takes anything, `false` nothing."""
    if isinstance(schema, bool):
        return {} if schema else {"enum": []}
    found: Mapping[str, Any] = schema
    return found


def _alternatives(schema: Mapping[str, Any]) -> list[Schema]:
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return list(map(_as_mapping, schema[keyword]))
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if kind is not None:
        return frozenset(kind)
    values = _values_of(schema)
    return _EVERY_TYPE if values is None else frozenset(map(_type_of, values))


def _type_of(value: object) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _values_of(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _told(types: frozenset[str]) -> str:
    return "anything" if types == _EVERY_TYPE else " or ".join(sorted(types)) or "nothing"


def _child(at: str, name: str) -> str:
    return f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
