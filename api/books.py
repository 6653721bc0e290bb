"""Where a controller keeps its books, and opening them. Looking never makes any."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.complaint import Complaint
from api.options import FLEET
from controller.places import Places, opened_store
from controller.queries import Queries
from controller.sources.fetched import fetched_at
from controller.store import Keyring, Store
from controller.store.address import is_postgres, normal, place_of
from reconcilers.clock import Clock, SystemClock

DATABASE_VARIABLE = "DATABASE_URL"
IN_MEMORY = "sqlite://"


def places(fleet: Path, state: Path, secrets: Path | None = None) -> Places:
    """Where this controller's things are; a database other than the state folder's comes from DATABASE_URL."""
    return Places(fleet, state, os.environ.get(DATABASE_VARIABLE, ""), secrets)


def has_books(where: Places) -> bool:
    """Whether a controller has ever worked here: looking must not make a store. Raises StoreError for an odd address."""
    address = normal(where.url)
    return is_postgres(address) or os.path.lexists(str(address.database))  # a link that leads nowhere is to be told


@asynccontextmanager
async def books_or_none(where: Places, clock: Clock) -> AsyncIterator[Store]:
    """The controller's books; empty ones in memory where it has never worked."""
    if has_books(where):
        async with opened_store(where, clock) as store:
            yield store
        return
    store = await Store.open(IN_MEMORY, Keyring.generate(), clock)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def books(state: Path) -> AsyncIterator[Store]:
    """The store of a controller that has worked here. Raises Complaint when there is none."""
    where = places(FLEET, state)
    if not has_books(where):
        place = f"{place_of(normal(where.url))} ({DATABASE_VARIABLE})" if where.database_url else str(state)
        raise Complaint(
            f"There are no books in {place}: no controller has worked there. Start one with "
            f"`testerctl run --state {state}`, or point --state (or TESTERCTL_STATE) to the folder of the one that runs."
        )
    async with opened_store(where, SystemClock()) as store:
        yield store


@asynccontextmanager
async def queries(state: Path) -> AsyncIterator[Queries]:
    """What may be asked of those books."""
    mirror = places(FLEET, state).mirror
    async with books(state) as store:
        yield Queries(store, good_at=lambda: fetched_at(mirror))
