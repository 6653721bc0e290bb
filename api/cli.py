"""`testerctl`: the entry point. Every error is one readable paragraph on standard error and exit code 1."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from api.complaint import Complaint
from api.terminal import err, text

NAME = "testerctl"
FAILED = 1
INTERRUPTED = 130

COMMANDS = (
    "validate",
    "doctor",
    "plan",
    "run",
    "get",
    "describe",
    "events",
    "logs",
    "wait",
    "reveal",
    "demo",
    "schema",
)
GROUPS = ("secret", "keys")


def main() -> None:
    """Run `testerctl` with the arguments of the process, and leave with its exit code."""
    sys.exit(run_with(sys.argv[1:]))


def run_with(arguments: list[str]) -> int:
    """The exit code of one call."""
    try:
        code = app_for(arguments)(arguments or ["--help"], prog_name=NAME, standalone_mode=False)
    except TyperException as error:
        _say(f"{error.format_message()} (`testerctl --help` tells what there is)")
        return FAILED
    except (Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        _say(_explained(error))
        return FAILED
    if code == INTERRUPTED:
        _say("stopped")
    return code if isinstance(code, int) else 0


def app_for(arguments: list[str]) -> typer.Typer:
    """The program with the command that is asked for, and with all of them when none is: importing one is much quicker."""
    app = typer.Typer(
        name=NAME,
        help="Keeps a fleet of Hero OS test machines equal to a folder of YAML files.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_common)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    for name in COMMANDS:
        if asked not in (*COMMANDS, *GROUPS) or name == asked:
            app.command(name)(import_module(f"api.commands.{name}").command)
    for name in GROUPS:
        if asked not in (*COMMANDS, *GROUPS) or name == asked:
            app.add_typer(import_module(f"api.commands.{name}").group)
    return app


def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, to report a mistake.")
    ] = False,
) -> None:
    """`run_with` acts on it."""


def _explained(error: Exception) -> str:
    if isinstance(error, Complaint):
        return str(error)
    # Knowing every error means importing the whole program, which only this rare case needs.
    from api.explaining import paragraph

    mistake = (
        f"This is a mistake in testerctl itself ({type(error).__name__}), nothing that you did. "
        "`testerctl --debug …` shows where; please report it."
    )
    return paragraph(error) or mistake


def _say(words: str) -> None:
    err().print(text(words), soft_wrap=True)
