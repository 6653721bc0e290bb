"""`testerctl`: the entry point. Every error is one readable paragraph on standard error and exit code 1."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from api.complaint import Complaint
from api.terminal import err, out, text

NAME = "testerctl"
FAILED = 1
INTERRUPTED = 130

COMMANDS = {
    "validate": "Check a folder of specs.",
    "doctor": "Check all endpoints and credentials.",
    "plan": "Show what would change, and change nothing.",
    "run": "Run the controller.",
    "get": "Show how the testers stand.",
    "describe": "Show one tester whole.",
    "events": "Show what happened, oldest first.",
    "logs": "Show what the installs on a tester's machine printed.",
    "wait": "Wait for a tester.",
    "reveal": "Show the one-time password of a tester, if one is kept.",
    "replicas": "Show who works on which testers.",
    "copy": "Copy the books into another database.",
    "demo": "Show three testers come to life.",
    "schema": "Print the JSON Schema of a kind of document.",
}
GROUPS = {
    "token": "Tokens for programs that look through the windows.",
    "secret": "Secrets that specs refer to by name, kept sealed.",
    "keys": "The keys under which secrets are sealed.",
}
"""What `testerctl --help` says of each, so that it need not import them; a test holds it against what they say themselves."""


def main() -> None:
    """Run `testerctl` with the arguments of the process, and leave with its exit code."""
    sys.exit(run_with(sys.argv[1:]))


def run_with(arguments: list[str]) -> int:
    """The exit code of one call."""
    try:
        code = app_for(arguments)(arguments or ["--help"], prog_name=NAME, standalone_mode=False)
    except TyperException as error:
        words = error.format_message().replace("Value error, ", "")  # pydantic's own, of no use to anybody
        asked = _asked(arguments)
        known = f" {asked}" if asked in COMMANDS or asked in GROUPS else ""
        _say(f"{words} (`{NAME}{known} --help` tells what there is)")
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
    """The program with the command that is asked for, or with the list of all: importing one takes long, all take longer."""
    app = typer.Typer(
        name=NAME,
        help="Keeps a fleet of Hero OS test machines equal to a folder of YAML files.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_common)
    asked = _asked(arguments)
    if asked in COMMANDS:
        app.command(asked)(import_module(f"api.commands.{asked}").command)
    elif asked in GROUPS:
        app.add_typer(import_module(f"api.commands.{asked}").group)
    else:
        for name, words in (COMMANDS | GROUPS).items():
            app.command(name, help=words)(_listed)
    return app


def _asked(arguments: list[str]) -> str:
    """The word in the command's place, "" for none."""
    return next((word for word in arguments if not word.startswith("-")), "")


def _listed() -> None:
    """In the place of a command that is only listed: whoever asks for one gets the command itself."""


def _tell_version(asked: bool) -> None:
    if asked:
        from controller.program import program_version

        out().print(text(program_version()))
        raise typer.Exit()


def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, to report a mistake.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version.")
    ] = False,
) -> None:
    """`run_with` acts on the first."""


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
