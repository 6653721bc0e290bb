"""The options that most commands share, and what they stand for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from api.complaint import Complaint
from api.terminal import Output
from controller.queries import Queries
from controller.running import Places, opened_store
from controller.store import Store
from reconcilers.clock import SystemClock

DATABASE_VARIABLE = "DATABASE_URL"

FleetFolder = Annotated[
    Path, typer.Option("--fleet", envvar="TESTERCTL_FLEET", help="Folder of YAML files that say what should be.")
]
StateFolder = Annotated[
    Path, typer.Option("--state", envvar="TESTERCTL_STATE", help="Folder of the controller's own books and key.")
]
OutputForm = Annotated[Output, typer.Option("--output", "-o", help="`text` for people, `json` for programs.")]

FLEET = Path("fleet")
STATE = Path(".testerctl")


def places(fleet: Path, state: Path) -> Places:
    """Where this controller's things are; a database other than the state folder's comes from DATABASE_URL."""
    return Places(fleet, state, os.environ.get(DATABASE_VARIABLE, ""))


def has_books(where: Places) -> bool:
    """Whether a controller has ever worked here: looking must not make a store."""
    return bool(where.database_url) or (where.state / "controller.db").exists()


@asynccontextmanager
async def books(state: Path) -> AsyncIterator[Store]:
    """The store of a controller that has worked here. Raises Complaint when there is none."""
    where = places(FLEET, state)
    if not has_books(where):
        raise Complaint(
            f"There are no books in {state}: no controller has worked there. Start one with "
            f"`testerctl run --state {state}`, or point --state (or TESTERCTL_STATE) to the folder of the one that runs."
        )
    async with opened_store(where, SystemClock()) as store:
        yield store


@asynccontextmanager
async def queries(state: Path) -> AsyncIterator[Queries]:
    """What may be asked of those books."""
    async with books(state) as store:
        yield Queries(store)
