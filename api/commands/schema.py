"""`testerctl schema`: the language as JSON Schema, for editors."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from api.complaint import Complaint
from api.terminal import print_json
from api.words import one_line
from specs.schema import fleet_schema, tester_schema

SCHEMAS = {"tester": tester_schema, "fleet": fleet_schema}


def command(
    kind: Annotated[str, typer.Argument(metavar="[tester|fleet]", help="Which kind of document.")] = "tester",
) -> None:
    """Print the JSON Schema of a kind of document."""
    if kind not in SCHEMAS:
        likely = get_close_matches(kind, SCHEMAS, n=1)
        meant = f" Did you mean `testerctl schema {likely[0]}`?" if likely else ""
        raise Complaint(f"There is no kind of document {one_line(kind)}; there are {' and '.join(SCHEMAS)}.{meant}")
    print_json(SCHEMAS[kind]())
