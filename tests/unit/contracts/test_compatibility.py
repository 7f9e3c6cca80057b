"""What may change within a version, and what needs a new one."""

import copy
from datetime import datetime
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, create_model

from contracts.events.money import Money
from contracts.registry import REGISTRY
from contracts.schemas.compatibility import Change, changes
from contracts.schemas.event import schema


def fields(**declared: Any) -> dict[str, Any]:
    """The schema of a model with these fields."""
    model: type[BaseModel] = create_model("Data", **declared)
    return model.model_json_schema(mode="serialization")


def found(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    told: dict[str, str] = {}
    for change in changes(old, new):
        told[change.pointer] = f"{told[change.pointer]}; {change.what}" if change.pointer in told else change.what
    return told


Text = (str, ...)
Maybe = (str | None, None)


class _Narrow(BaseModel):
    amount: str


class _Tree(BaseModel):
    name: str
    children: "list[_Tree]" = []


class _Bush(BaseModel):
    name: int
    children: "list[_Bush]" = []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({"a": Text}, {"a": Text, "b": Maybe}, id="an optional field is added"),
        pytest.param({"a": Text}, {"a": Text, "b": (Money | None, None)}, id="an optional model is added"),
        pytest.param({"a": Text}, {"b": Maybe, "a": Text}, id="fields change places"),
        pytest.param({"a": (str, Field(max_length=5))}, {"a": (str, Field(max_length=9))}, id="a bound is widened"),
        pytest.param({"a": (str, Field(max_length=5))}, {"a": Text}, id="a bound is dropped"),
        pytest.param({"a": (int, Field(ge=1))}, {"a": (int, Field(gt=0))}, id="a least value is lowered"),
        pytest.param({"a": (int, Field(lt=9))}, {"a": (int, Field(le=9))}, id="a greatest value is raised"),
        pytest.param({"a": (Literal["x"], ...)}, {"a": (Literal["x", "y"], ...)}, id="a value is added"),
        pytest.param({"a": (Literal["x", "y"], ...)}, {"a": (Literal["y", "x"], ...)}, id="values change places"),
        pytest.param({"a": (str, Field(description="o"))}, {"a": (str, Field(title="n"))}, id="another description"),
        pytest.param({"a": (_Tree, ...)}, {"a": (_Tree, ...)}, id="a model of itself"),
        pytest.param({"a": (str, Field(pattern="^x$"))}, {"a": Text}, id="a pattern is dropped"),
    ],
)
def test_an_addition_is_fine(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert found(fields(**old), fields(**new)) == {}


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ({"a": Text, "b": Text}, {"a": Text}, "/b", "was removed"),
        ({"a": Text, "b": Maybe}, {"a": Text}, "/b", "was removed"),
        ({"a": Text}, {"A": Maybe}, "/a", "was removed"),
        ({"a": Text}, {"a": Text, "b": Text}, "/b", "is newly required"),
        ({"a": Maybe}, {"a": (str | None, ...)}, "/a", "is newly required"),
        ({"a": Text}, {"a": (str, "x")}, "/a", "is no more required"),
        ({"a": Text}, {"a": (int, ...)}, "/a", "retyped from string to integer"),
        ({"a": (int, ...)}, {"a": (float, ...)}, "/a", "retyped from integer to number"),
        ({"a": (float, ...)}, {"a": (int, ...)}, "/a", "retyped from number to integer"),
        ({"a": Text}, {"a": (Any, ...)}, "/a", "retyped from string to anything"),
        ({"a": (Any, ...)}, {"a": Text}, "/a", "retyped from anything to string"),
        ({"a": Text}, {"a": (list[str], ...)}, "/a", "retyped from string to array"),
        ({"a": Text}, {"a": (str | None, ...)}, "/a", "null is now allowed"),
        ({"a": (str | None, ...)}, {"a": Text}, "/a", "null is no more allowed"),
        ({"a": (str | int, ...)}, {"a": (str | float, ...)}, "/a", "was retyped"),
        ({"a": (str, "x")}, {"a": (str, "y")}, "/a", "has the default 'y', not 'x'"),
        ({"a": (bool, True)}, {"a": (int, 1)}, "/a", "retyped from boolean to integer"),
        ({"a": (Literal["x", "y"], ...)}, {"a": (Literal["x"], ...)}, "/a", "narrowed: 'y' is no more allowed"),
        ({"a": (Literal["x"], ...)}, {"a": (Literal["y"], ...)}, "/a", "narrowed: 'x' is no more allowed"),
        ({"a": Text}, {"a": (Literal["x"], ...)}, "/a", "narrowed to 'x'"),
        ({"a": Text}, {"a": (str, Field(max_length=9))}, "/a", "maxLength 9, before none"),
        ({"a": (str, Field(max_length=9))}, {"a": (str, Field(max_length=8))}, "/a", "maxLength 8, before 9"),
        ({"a": (str, Field(min_length=1))}, {"a": (str, Field(min_length=2))}, "/a", "minLength 2, before 1"),
        ({"a": (list[str], ...)}, {"a": (list[str], Field(min_length=1))}, "/a", "minItems 1, before none"),
        ({"a": (int, Field(ge=1))}, {"a": (int, Field(ge=2))}, "/a", "least value is higher"),
        ({"a": (int, Field(ge=1))}, {"a": (int, Field(gt=1))}, "/a", "least value is higher"),
        ({"a": (int, Field(le=9))}, {"a": (int, Field(lt=9))}, "/a", "greatest value is lower"),
        ({"a": (int, ...)}, {"a": (int, Field(le=9))}, "/a", "greatest value is lower"),
        ({"a": (str, Field(pattern="^x"))}, {"a": (str, Field(pattern="^y"))}, "/a", "its pattern was ^x and is ^y"),
        ({"a": Text}, {"a": (str, Field(pattern="^y"))}, "/a", "its pattern was none and is ^y"),
        ({"a": Text}, {"a": (datetime, ...)}, "/a", "format was None and is 'date-time'"),
        ({"a": (datetime, ...)}, {"a": Text}, "/a", "format was 'date-time' and is None"),
        ({"a": (int, Field(multiple_of=2))}, {"a": (int, Field(multiple_of=3))}, "/a", "multipleOf was 2 and is 3"),
        ({"a": (list[str], ...)}, {"a": (list[int], ...)}, "/a/*", "retyped from string to integer"),
        ({"a": (tuple[str, str], ...)}, {"a": (tuple[str, int], ...)}, "/a", "prefixItems was"),
        ({"a": (dict[str, str], ...)}, {"a": (dict[str, int], ...)}, "/a/*", "retyped from string to integer"),
        ({"a": (dict[str, str], ...)}, {"a": (dict[str, Any], ...)}, "/a/*", "further fields may be anything"),
        ({"a": (dict[str, Any], ...)}, {"a": (dict[str, str], ...)}, "/a/*", "further fields have a form"),
        ({"a": (Money, ...)}, {"a": (_Narrow, ...)}, "/a/currency", "was removed"),
        ({"a": (_Narrow, ...)}, {"a": (Money, ...)}, "/a/currency", "is newly required"),
        ({"a": (Money, ...)}, {"a": Text}, "/a", "retyped from object to string"),
        ({"a": (list[Money], ...)}, {"a": (list[_Narrow], ...)}, "/a/*/currency", "was removed"),
        ({"a": (Money | None, None)}, {"a": (_Narrow | None, None)}, "/a/currency", "was removed"),
        ({"a": (Money | None, None)}, {"a": (Money | _Narrow | None, None)}, "/a", "_Narrow is now allowed"),
        ({"a": (Money | str, ...)}, {"a": (Money | bool, ...)}, "/a", "string is no more allowed"),
        ({"a": (_Tree, ...)}, {"a": (_Bush, ...)}, "/a/name", "retyped from string to integer"),
        ({"a": Text, "x/y~z": Text}, {"a": Text}, "/x~1y~0z", "was removed"),
    ],
)
def test_whatever_else_is_named_with_its_field(old: dict[str, Any], new: dict[str, Any], where: str, what: str) -> None:
    told = found(fields(**old), fields(**new))
    assert what in told[where]


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ({}, {"additionalProperties": False}, "/*"),
        ({"additionalProperties": {"type": "string"}}, {"properties": {"a": {"type": "integer"}}}, "/*"),
        (
            {"additionalProperties": {"type": "string"}},
            {"additionalProperties": {"type": "string"}, "properties": {"a": {"type": "integer"}}},
            "/a",
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            {"minLength": 2, "anyOf": [{"type": "string"}, {"type": "null"}]},
            "",
        ),
        ({"type": ["string", "null"]}, {"type": ["string"]}, ""),
        ({"enum": [1]}, {"enum": [True]}, ""),
        ({"properties": {"a": True}}, {"properties": {"a": False}}, "/a"),
        ({"not": {"type": "string"}}, {"not": {"type": "integer"}}, ""),
        ({"required": ["a"]}, {}, "/a"),
        ({"default": 1}, {}, ""),
        ({"default": 1}, {"default": True}, ""),
        ({"x-subject": {"keys": {"order": "/data/a"}}}, {"x-subject": {"keys": {"order": "/data/b"}}}, "/subject"),
    ],
)
def test_what_pydantic_does_not_write_is_judged_too(old: dict[str, Any], new: dict[str, Any], where: str) -> None:
    assert where in found(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"additionalProperties": False}, {}),
        ({"additionalProperties": {}}, {"additionalProperties": True}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "null"}, {"type": "string"}]}),
        ({"const": "x"}, {"enum": ["x", "y"]}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}}, {"type": "null"}),
        ({"oneOf": [{"type": "null"}]}, {"type": "null"}),
    ],
)
def test_what_says_the_same_in_other_words_is_fine(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert found(old, new) == {}


@pytest.mark.parametrize("contract", list(REGISTRY), ids=lambda one: f"{one.type}.{one.version}")
def test_a_contract_is_compatible_with_itself(contract: Any) -> None:
    assert changes(schema(contract), schema(contract)) == []


@pytest.mark.parametrize("contract", list(REGISTRY), ids=lambda one: f"{one.type}.{one.version}")
def test_every_field_of_every_event_is_guarded(contract: Any) -> None:
    committed = schema(contract)
    for name in committed["properties"]["data"]["properties"]:
        present = copy.deepcopy(committed)
        del present["properties"]["data"]["properties"][name]
        assert f"/data/{name}" in found(committed, present)


# Schemas of a few forms, and documents that fit them.

_PLAIN = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 2},
        {"type": "string", "minLength": 1},
        {"type": "string", "enum": ["a", "bb"]},
        {"type": "string", "enum": ["a"]},
        {"const": "a"},
        {"type": "integer"},
        {"type": "integer", "minimum": 0},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 3},
        {"type": "number"},
        {"type": "null"},
        {"type": "boolean"},
        {"$ref": "#/$defs/A"},
        {},
        True,
    ]
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required, further: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & properties.keys()),
            **({} if further is None else {"additionalProperties": further}),
        },
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.sets(st.sampled_from("abc")),
        st.none() | st.just(False) | inner,
    )


SCHEMAS = st.recursive(
    _PLAIN,
    lambda inner: (
        _objects(inner)
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)
WHOLE = st.builds(
    lambda one, a: {"properties": {"data": one}, "$defs": {"A": a}}, SCHEMAS, _PLAIN.filter(lambda s: "A" not in str(s))
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 4) | st.sampled_from(["", "a", "bb", "ccc", 0.5]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=6,
)


@given(WHOLE)
def test_every_schema_is_compatible_with_itself(one: dict[str, Any]) -> None:
    assert changes(one, copy.deepcopy(one)) == []


def places(schema: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all schemas within a schema."""
    found = [here]
    if isinstance(schema, dict):
        for name in schema.get("properties", {}):
            found += places(schema["properties"][name], (*here, "properties", name))
        for keyword in {"items", "additionalProperties"} & schema.keys():
            found += places(schema[keyword], (*here, keyword))
        for index, one in enumerate(schema.get("anyOf", ())):
            found += places(one, (*here, "anyOf", index))
    return found


@st.composite
def revisions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema, and the same with another one somewhere in it or a changed list of required fields."""
    old = draw(WHOLE)
    new = copy.deepcopy(old)
    path = draw(st.sampled_from(places(new["properties"]["data"], ("properties", "data"))))
    outer: Any = new
    for part in path[:-1]:
        outer = outer[part]
    if isinstance(outer[path[-1]], dict) and draw(st.booleans()):
        required = draw(st.lists(st.sampled_from("abcd"), unique=True))
        properties = draw(st.dictionaries(st.sampled_from("abcd"), SCHEMAS))
        outer[path[-1]] = {**outer[path[-1]], "required": required, "properties": properties}
    else:
        outer[path[-1]] = draw(SCHEMAS)
    return old, new


def values(schema: Any, definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values bent on fitting."""
    if isinstance(schema, bool):
        return VALUES
    if "$ref" in schema:
        return values(definitions["A"], definitions)
    if "anyOf" in schema:
        return st.one_of([values(one, definitions) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "string":
            return st.text("ab", min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 4))
        case "integer" | "number":
            return st.integers(max(schema.get("minimum", -9), schema.get("exclusiveMinimum", -9)), 3)
        case "array":
            return st.lists(values(schema["items"], definitions), max_size=2)
        case "object":
            fields = {name: values(one, definitions) for name, one in schema["properties"].items()}
            needed = {name: fields.pop(name, VALUES) for name in schema["required"]}
            return st.fixed_dictionaries(needed, optional=fields)
        case "null" | "boolean":
            return st.none() | st.booleans()
    return VALUES


def closed(schema: Any) -> Any:
    """The same, but that it refuses the fields it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    return {"additionalProperties": False, **inner} if inner.get("type") == "object" else inner


@pytest.mark.parametrize("free", [{}, {"type": "object"}, {"type": "object", "additionalProperties": True}])
def test_an_object_of_which_nothing_was_said_gets_no_form(free: dict[str, Any]) -> None:
    formed = {**free, "properties": {"a": {"type": "string"}}}
    [found] = changes({"properties": {"data": free}}, {"properties": {"data": formed}})
    assert found == Change("/data/a", "was narrowed: whatever it was called, it could be anything")


@given(revisions(), st.data())
@settings(max_examples=500)
def test_what_fitted_before_fits_after_a_change_that_is_let_through(
    revision: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    old, new = revision
    if changes(old, new):
        return
    value = data.draw(values(old["properties"]["data"], old["$defs"]))
    # Of a field that it does not name, a schema promises nothing.
    if Draft202012Validator(closed(old)).is_valid({"data": value}):
        assert Draft202012Validator(new).is_valid({"data": value})


@given(WHOLE, st.sampled_from("xyz"), SCHEMAS)
def test_an_optional_field_may_be_added_anywhere_to_an_object(old: dict[str, Any], name: str, added: Any) -> None:
    new = copy.deepcopy(old)
    data = new["properties"]["data"]
    if (
        isinstance(data, dict)
        and data.get("type") == "object"
        and not isinstance(data.get("additionalProperties"), dict)
    ):
        data["properties"][name] = added
        assert changes(old, new) == []


@given(WHOLE)
def test_a_field_removed_is_found_wherever_it_is(old: dict[str, Any]) -> None:
    data = old["properties"]["data"]
    for name in data.get("properties", {}) if isinstance(data, dict) else ():
        new = copy.deepcopy(old)
        del new["properties"]["data"]["properties"][name]
        assert found(old, new)[f"/data/{name}"] == "was removed"
