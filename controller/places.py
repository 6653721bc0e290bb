"""Where a controller's things are, and opening its books: all that who only reads them needs of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.store import KeySource, Store
from reconcilers.clock import Clock


@dataclass
class Places:
    """Where this controller's things are."""

    folder: Path  # of specs
    state: Path  # a folder of its own: the store and the sealing key
    database_url: str = ""  # "": SQLite in `state`
    secrets: Path | None = None  # where relative `file:` references start; None: in the folder of specs

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.state / 'controller.db'}"

    @property
    def files(self) -> Path:
        """Where relative `file:` references start."""
        return self.folder if self.secrets is None else self.secrets

    @property
    def mirror(self) -> Path:
        """The copy of the git repository, where the specs come from one."""
        return self.state / "mirror.git"

    @property
    def pulls(self) -> Path:
        """The same for what pull requests bring along."""
        return self.state / "pulls.git"

    @property
    def key_file(self) -> Path:
        return self.state / "sealing.key"


@asynccontextmanager
async def opened_store(places: Places, clock: Clock) -> AsyncIterator[Store]:
    """The store of these places. Raises StoreError or SealingError with a readable paragraph."""
    places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await Store.open(places.url, KeySource(os.environ, places.key_file), clock)
    try:
        yield store
    finally:
        await store.aclose()
