"""The whole controller running: store, source, engine and housekeeping, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from controller.engine import Engine
from controller.intake import Revision, Taken
from controller.sources.folder import FolderSource
from controller.store import KeySource, Store, StoreError
from controller.world import World
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import Clock, SystemClock
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from reconcilers.steps import all_steps
from specs.fleet import Fleet

log = logging.getLogger("controller")

HISTORY = timedelta(days=90)
RESCAN = timedelta(minutes=1)
SAFETY_NET = timedelta(minutes=30)  # every tester is queued at least so often, should a wake-up ever be lost
STORE_RETRY = timedelta(seconds=5)


@dataclass
class Places:
    """Where this controller's things are."""

    folder: Path  # of specs
    state: Path  # a folder of its own: the store and the sealing key
    database_url: str = ""  # "": SQLite in `state`

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.state / 'controller.db'}"

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


def open_world(fleet: Fleet, secrets: Mapping[str, Secret], folder: Path, clock: Clock) -> World:
    """The world that a Fleet describes; no connection is made yet. `secrets` by reference, `folder` for relative `file:`s.

    Raises Blocked when a credential is missing or cannot be used.
    """
    backends = open_backends(fleet, secrets, clock, Options(folder=folder))
    return World(fleet, backends, Looks(backends, clock, fleet.spec.timing.look_age), all_steps(backends))


@dataclass
class Controller:
    """One running controller. `listeners` hear of every intake (the demo and the tests use it)."""

    places: Places
    store: Store
    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.Random)
    listeners: list[Callable[[Revision, Taken], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.store, self.clock, self._open_world, self.places.folder, self.chance)
        self.source = FolderSource(self.places.folder, self.clock, self._known)
        self.stop = asyncio.Event()

    async def run(self, *beside: Awaitable[None]) -> None:
        """Work until `stop` is set, or until something that should run for ever ends. `beside`: the API, for one."""
        jobs = [
            asyncio.ensure_future(work)
            for work in (self._follow_source(), self.engine.run(), self.stop.wait(), *beside)
        ]
        scheduler = self._housekeeping()
        scheduler.start()
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            self.stop.set()
            scheduler.shutdown(wait=False)
            await self.engine.stop()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _follow_source(self) -> None:
        """A store that cannot be read for a moment ends one reading of the source, not the controller."""
        while not self.stop.is_set():
            try:
                async with aclosing(self.source.revisions(self.stop)) as revisions:
                    async for revision in revisions:
                        await self._take_in(revision)
            except StoreError as error:
                log.warning("the source is not read now: %s", error)
                await self.clock.sleep(STORE_RETRY)

    async def _take_in(self, revision: Revision) -> None:
        """A store that cannot be written now must not lose a revision: it is taken in as soon as it can."""
        while not self.stop.is_set():
            try:
                taken = await self.engine.take_in(revision)
            except StoreError as error:
                log.warning("revision %s is not taken in yet: %s", revision.id, error)
                await self.clock.sleep(STORE_RETRY)
                continue
            for listener in self.listeners:
                listener(revision, taken)
            return

    async def _known(self) -> tuple[frozenset[str], Fleet | None]:
        return frozenset(record.name for record in await self.store.testers()), await self.engine.last_fleet()

    def _open_world(self, fleet: Fleet, secrets: dict[str, Secret]) -> World:
        return open_world(fleet, secrets, self.places.folder, self.clock)

    def _housekeeping(self) -> AsyncIOScheduler:
        late_is_better_than_never = {"misfire_grace_time": None, "coalesce": True}
        scheduler = AsyncIOScheduler(timezone="UTC", job_defaults=late_is_better_than_never)
        scheduler.add_job(self._rescan, "interval", seconds=RESCAN.total_seconds())
        scheduler.add_job(self.engine.look_at_all, "interval", [RESCAN], seconds=SAFETY_NET.total_seconds())
        scheduler.add_job(self._prune, "interval", hours=6, jitter=600)
        return scheduler

    async def _rescan(self) -> None:
        """A coroutine, so that it runs in the loop: the scheduler gives plain functions to a thread."""
        self.source.rescan()

    async def _prune(self) -> None:
        try:
            await self.store.prune(self.clock.now() - HISTORY)
        except StoreError as error:
            log.warning("history is not pruned: %s", error)
