"""`testerctl copy`: the books of a controller that is stopped, into another database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from api.books import books, places
from api.complaint import Complaint
from api.options import FLEET, STATE, StateFolder
from api.terminal import err, text
from controller.store import alone
from controller.store.address import normal
from controller.store.copying import copy
from reconcilers.clock import SystemClock


def command(
    to: Annotated[str, typer.Argument(help="The database, empty: postgresql://user:password@host/name.")],
    state: StateFolder = STATE,
) -> None:
    """Copy the books into another database."""
    count = asyncio.run(_copy(state, to))
    words = f"{count} rows are copied. The sealing key goes with them: the other controllers need it, too."
    err().print(text(words), soft_wrap=True)


async def _copy(state: Path, to: str) -> int:
    """Raises Complaint, StoreError; also when a controller works on the books, or on the other database."""
    source, clock = places(FLEET, state).url, SystemClock()
    if normal(source) == normal(to):
        raise Complaint("The books are in that very database: with DATABASE_URL set, they are read there. Unset it.")
    async with books(state), alone(source, clock), alone(to, clock):
        return await asyncio.to_thread(copy, source, to)
