"""`testerctl validate`: are the files sound? Needs no controller, no network and no secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.options import FLEET, OutputForm
from api.terminal import Output, err, out, print_json, text
from reconcilers.clock import SystemClock
from specs.errors import SpecError
from specs.loading import Loaded, load_folder


def command(
    folder: Annotated[
        Path, typer.Argument(envvar="TESTERCTL_FLEET", file_okay=False, help="The folder to check.")
    ] = FLEET,
    output: OutputForm = Output.TEXT,
) -> None:
    """Check a folder of specs.

    Tells every error of every file, with its place and what would be right.
    """
    loaded = load_folder(folder, SystemClock().now().date())
    if output is Output.JSON:
        print_json(_as_json(loaded))
    else:
        tell_errors(loaded.errors, folder)
        _tell_sound(loaded)
    if loaded.errors:
        raise typer.Exit(1)


def tell_errors(errors: tuple[SpecError, ...], folder: Path) -> None:
    """Every error on standard error, each with its place first so that editors can jump there."""
    for error in errors:
        # An error of the folder itself bears the folder's own name.
        place = folder if error.file in (folder.name, str(folder)) else folder / error.file
        words = f": {error}" if error.file == "." else str(error)[len(error.file) :]
        err().print(text(f"{place}{words}", "yellow"), soft_wrap=True)
    if errors:
        files = len({error.file for error in errors})
        err().print(text(f"{counted(len(errors), 'error')} in {counted(files, 'file')}", "bold yellow"))


def counted(number: int, word: str) -> str:
    """`1 error`, `3 errors`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _tell_sound(loaded: Loaded) -> None:
    names = ", ".join(sorted(loaded.testers)) or "none"
    out().print(text(f"{counted(len(loaded.testers), 'sound tester')}: {names}"), soft_wrap=True)


def _as_json(loaded: Loaded) -> dict[str, object]:
    return {
        "readable": loaded.readable,
        "testers": sorted(loaded.testers),
        "errors": [
            {
                "file": error.file,
                "line": error.line,
                "column": error.column,
                "path": error.path,
                "problem": error.problem,
                "remedy": error.remedy,
            }
            for error in loaded.errors
        ],
    }
