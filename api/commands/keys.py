"""`testerctl keys`: the keys under which secrets are sealed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from api.books import books
from api.options import STATE, StateFolder
from api.terminal import err, progress, text

group = typer.Typer(
    name="keys", help="The keys under which secrets are sealed.", no_args_is_help=True, rich_markup_mode=None
)


@group.callback()
def keys() -> None:
    """Commands about the sealing keys."""


@group.command("rotate")
def rotate(state: StateFolder = STATE) -> None:
    """Make a fresh key, seal every secret anew with it, and drop the old ones. Safe while the controller runs."""
    with progress("sealing every secret anew"):
        count = asyncio.run(_rotate(state))
    err().print(text(f"{count} secrets are sealed with a fresh key; back the key file up, the old one is worthless."))


async def _rotate(state: Path) -> int:
    """A crash between the moments leaves both keys in the file, and the next call finishes."""
    async with books(state) as store:
        count = await store.reseal(store.keyring.current().rotated())
        await store.drop_old_keys()
        return count
