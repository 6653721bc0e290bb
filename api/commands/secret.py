"""`testerctl secret`: the sealed store. A value comes from standard input or a hidden prompt, never from the command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from api.books import books, places
from api.complaint import Complaint
from api.options import FLEET, STATE, OutputForm, StateFolder
from api.terminal import Output, err, out, print_json, text
from controller.places import opened_store
from controller.records import Seal
from reconcilers.account import ONE_TIME_PASSWORD
from reconcilers.clock import SystemClock
from reconcilers.door import CLIENT_SECRET
from reconcilers.secret import Secret
from specs.references import SecretRef

LARGEST = 64 * 1024  # bytes
MADE_BY_US = frozenset(
    {ONE_TIME_PASSWORD, CLIENT_SECRET}
)  # short names below a tester's; another value would break a sign-in

group = typer.Typer(
    name="secret", help="Secrets that specs refer to by name, kept sealed.", no_args_is_help=True, rich_markup_mode=None
)


@group.command("set")
def set_secret(
    name: Annotated[str, typer.Argument(help="What specs call it, like shared/openrouter or alice/sambanova.")],
    state: StateFolder = STATE,
) -> None:
    """Keep a secret. The value comes from standard input, byte for byte, or from a prompt."""
    _check_name(name)
    value = _value(name)
    asyncio.run(_keep(name, value, state))
    err().print(text(f"{name} is kept; passes from now on use it."))


@group.command("list")
def list_secrets(state: StateFolder = STATE, output: OutputForm = Output.TEXT) -> None:
    """Show the names of the secrets that are kept, never their values."""
    names = asyncio.run(_names(state))
    if output is Output.JSON:
        print_json(names)
        return
    for name in names:
        out().print(text(name))


def _check_name(name: str) -> None:
    """Raises Complaint, without the name: somebody may have typed the value in its place."""
    try:
        kind = SecretRef.parse(name).kind
    except ValueError:
        kind = "env"
    if kind != "sealed":
        raise Complaint(
            "That is not a name of a sealed secret: write it like shared/openrouter or alice/sambanova, in small letters, "
            "digits and dashes. The value is asked for afterwards and never given on the command line."
        )
    if name.rpartition("/")[2] in MADE_BY_US:
        raise Complaint(f"{name} is made and kept by the controller itself; it cannot be set by hand.")


def _value(name: str) -> Secret:
    """Raises Complaint when there is none, or too much."""
    if sys.stdin.isatty():
        content = typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True).encode()
    else:
        content = sys.stdin.buffer.read(LARGEST + 1)
        if content.endswith(b"\n") and content.count(b"\n") == 1:
            err().print(text("The value ends with a line break, which is kept too; `printf %s` gives none.", "yellow"))
    if not content:
        raise Complaint("The value is empty; nothing was changed.")
    if len(content) > LARGEST:
        raise Complaint(f"The value is larger than {LARGEST // 1024} KiB; nothing was changed.")
    return Secret(content)


async def _keep(name: str, value: Secret, state: Path) -> None:
    clock = SystemClock()
    async with opened_store(places(FLEET, state), clock) as store:
        await store.write(Seal(name, value, clock.now()))


async def _names(state: Path) -> tuple[str, ...]:
    async with books(state) as store:
        return await store.sealed_names()
