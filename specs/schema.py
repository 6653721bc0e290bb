"""The language as JSON Schema (draft 2020-12), for editors. `python -m specs.schema` writes specs/schema/*.json anew."""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from specs.fleet import Fleet
from specs.tester import Tester

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FOLDER: Final = Path(__file__).parent / "schema"


def tester_schema() -> dict[str, Any]:
    """The schema of `kind: Tester`."""
    return _schema(Tester)


def fleet_schema() -> dict[str, Any]:
    """The schema of `kind: Fleet`."""
    return _schema(Fleet)


def schema_files() -> dict[Path, str]:
    """The committed files and what belongs in them."""
    schemas = {"tester.json": tester_schema(), "fleet.json": fleet_schema()}
    return {FOLDER / name: f"{json.dumps(schema, indent=2, ensure_ascii=False)}\n" for name, schema in schemas.items()}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=GenerateJsonSchema)
    return {"$schema": DIALECT, **_without_titles(schema)}


def _without_titles(value: Any) -> Any:
    """Titles only repeat the fields' names, and editors show them instead of the descriptions."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: _without_titles(each) for name, each in below.items()}
        if key in ("properties", "$defs")
        else _without_titles(below)
        for key, below in value.items()
        if key != "title"
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in schema_files().items():
        path.write_text(text, encoding="utf-8")
