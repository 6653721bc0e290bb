"""`testerctl schema`: the language as JSON Schema, for editors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from api.terminal import print_json
from specs.schema import fleet_schema, tester_schema


class Kind(StrEnum):
    """The two kinds of document."""

    TESTER = "tester"
    FLEET = "fleet"


SCHEMAS = {Kind.TESTER: tester_schema, Kind.FLEET: fleet_schema}


def command(kind: Annotated[Kind, typer.Argument(help="Which kind of document.")] = Kind.TESTER) -> None:
    """Print the JSON Schema of a kind of document."""
    print_json(SCHEMAS[kind]())
