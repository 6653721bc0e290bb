"""The options that most commands share. Light to import: `validate` and `schema` need nothing of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.terminal import Output

FleetFolder = Annotated[
    Path,
    typer.Option(
        "--fleet", envvar="TESTERCTL_FLEET", file_okay=False, help="Folder of YAML files that say what should be."
    ),
]
StateFolder = Annotated[
    Path,
    typer.Option(
        "--state", envvar="TESTERCTL_STATE", file_okay=False, help="Folder of the controller's own books and key."
    ),
]
SecretsFolder = Annotated[
    Path | None,
    typer.Option(
        "--secrets-folder",
        envvar="TESTERCTL_SECRETS",
        file_okay=False,
        help="Where relative `file:` references start.",
        show_default="the folder of specs",
    ),
]
OutputForm = Annotated[Output, typer.Option("--output", "-o", help="`text` for people, `json` for programs.")]

FLEET = Path("fleet")
STATE = Path(".testerctl")
