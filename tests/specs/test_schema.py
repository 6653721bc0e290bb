"""The JSON Schema that editors complete and check with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from specs.schema import fleet_schema, schema_files, tester_schema
from specs.yaml_reader import read
from specs.yaml_tree import value_of

SCHEMAS = {"Tester": tester_schema(), "Fleet": fleet_schema()}


@pytest.mark.parametrize("path", schema_files(), ids=lambda path: path.name)
def test_the_committed_schema_is_the_current_one(path: Path) -> None:
    assert path.read_text("utf-8") == schema_files()[path], "run python -m specs.schema"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_it_is_a_schema(kind: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[kind])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_is_described(kind: str) -> None:
    schema = SCHEMAS[kind]
    fields = dict(_fields(schema, kind))
    assert len(fields) > 30
    assert [name for name, field in fields.items() if not _description(schema, field)] == []


def test_every_example_keeps_it(example_files: dict[str, bytes]) -> None:
    assert len(example_files) == 4
    for name, data in example_files.items():
        (document,) = read(name, data).documents
        value = value_of(document.root)
        assert isinstance(value, dict)
        Draft202012Validator(SCHEMAS[value["kind"]]).validate(value)


@pytest.mark.parametrize(
    "spec",
    [
        {"zzz": 1},
        {"machine": {"memory": 8}},
        {"machine": {"memory": "8GB"}},
        {"version": {"updates": "aply"}},
        {"components": {"add": ["hero_boks"]}},
        {"components": {"add": ["hero_office"]}},
        {"keys": {"ssh": "requierd"}},
        {"keys": {"providers": {"groq": "defualt"}}},
        {"welcomeEmail": "yes"},
        {"expires": 20261231},
        {"allowlist": ["bob--x"]},
    ],
)
def test_an_editor_would_mark_it(spec: dict[str, Any]) -> None:
    identity = {"email": "dora@example.org"}
    value = {
        "apiVersion": "hero.tester/v1",
        "kind": "Tester",
        "metadata": {"name": "dora"},
        "spec": {"identity": identity},
    }
    assert Draft202012Validator(SCHEMAS["Tester"]).is_valid(value)
    value["spec"] = {"identity": identity, **spec}
    assert not Draft202012Validator(SCHEMAS["Tester"]).is_valid(value)


def _description(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """Its own, or that of what it refers to: a field that says nothing more than its model is written once."""
    target = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
    return str(field.get("description") or target.get("description") or "")


def _fields(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for each in schema:
            yield from _fields(each, at)
    elif isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield f"{at}.{name}", field
        for key, below in schema.items():
            yield from _fields(below, f"{at}.{key}")
