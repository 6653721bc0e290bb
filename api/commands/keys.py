"""`testerctl keys`: the keys under which secrets are sealed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from api.books import books
from api.complaint import Complaint
from api.options import STATE, StateFolder
from api.terminal import err, progress, text
from controller.store import StoreError

KEPT_BOTH = "Nothing is lost: the key file has a fresh key beside the old ones by now. Do it again when that is mended."

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
        ring = store.keyring.current().rotated()
        try:
            count = await store.reseal(ring)
        except StoreError as error:
            raise Complaint(f"{error} {KEPT_BOTH}") from error
        await store.drop_old_keys()
        return count
