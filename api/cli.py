"""`testerctl`: the entry point. Every error is one readable paragraph on standard error and exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from api.commands import demo, describe, events, get, keys, plan, run, schema, secret, validate
from api.complaint import paragraph
from api.terminal import err, text

FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="testerctl",
    help="Keeps a fleet of Hero OS test machines equal to a folder of YAML files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "validate": validate.command,
    "plan": plan.command,
    "run": run.command,
    "get": get.command,
    "describe": describe.command,
    "events": events.command,
    "demo": demo.command,
    "schema": schema.command,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(secret.group)
app.add_typer(keys.group)


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, for a report of a mistake.")
    ] = False,
) -> None:
    """Options before the command; `run_with` acts on them."""


def main() -> None:
    """Run `testerctl` with the arguments of the process, and leave with its exit code."""
    sys.exit(run_with(sys.argv[1:]))


def run_with(arguments: list[str]) -> int:
    """The exit code of one call."""
    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        _say(f"{error.format_message()} (`testerctl --help` tells what there is)")
        return FAILED
    except (Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        _say(paragraph(error) or _mistake(error))
        return FAILED
    if code == INTERRUPTED:
        _say("stopped")
    return code if isinstance(code, int) else 0


def _mistake(error: Exception) -> str:
    return (
        f"This is a mistake in testerctl itself ({type(error).__name__}), nothing that you did. "
        "`testerctl --debug …` shows where; please report it."
    )


def _say(words: str) -> None:
    err().print(text(words), soft_wrap=True)
