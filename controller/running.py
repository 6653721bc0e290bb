"""The whole controller running: store, source, engine and housekeeping, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from controller.chores import Chore, Timetable, scheduled
from controller.engine import Engine
from controller.intake import Revision, Taken
from controller.orphans import Orphans
from controller.sources.folder import FolderSource, Known
from controller.store import KeySource, Store, StoreError, alone
from controller.world import World
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import Clock, SystemClock
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from reconcilers.steps import all_steps
from specs.fleet import Fleet
from specs.gone import gone_of, standing

log = logging.getLogger("controller")

HISTORY = timedelta(days=90)
RESCAN = timedelta(minutes=1)
PRUNE = timedelta(hours=6)
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


@asynccontextmanager
async def working_store(places: Places, clock: Clock) -> AsyncIterator[Store]:
    """The store of these places for a controller that works on it, and no other one meanwhile. Raises as `opened_store`
    does, and StoreError, saying who it is, while another controller works on the same books."""
    async with alone(places.url, clock), opened_store(places, clock) as store:
        yield store


def open_world(
    fleet: Fleet, secrets: Mapping[str, Secret], folder: Path, clock: Clock, options: Options | None = None
) -> World:
    """The world that a Fleet describes; no connection is made yet. `secrets` by reference, `folder` for relative `file:`s.

    Raises Blocked when a credential is missing or cannot be used.
    """
    left = standing(fleet)
    backends = open_backends(left, secrets, clock, replace(options or Options(), folder=folder))
    looks = Looks(backends, clock, left.spec.timing.look_age)
    return World(left, backends, looks, all_steps(backends), gone_of(fleet))


@dataclass
class Controller:
    """One running controller. `listeners` hear of every intake (the demo and the tests use it).

    `options`, `source_of` and `timetable` are what a world in virtual time replaces: its way out, the watching of the
    folder, and whatever keeps intervals by the machine's clock.
    """

    places: Places
    store: Store
    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.Random)
    listeners: list[Callable[[Revision, Taken], None]] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    source_of: Callable[[Path, Clock, Known], FolderSource] = FolderSource
    timetable: Timetable = scheduled

    def __post_init__(self) -> None:
        self.engine = Engine(self.store, self.clock, self._open_world, self.places.folder, self.chance)
        self.source = self.source_of(self.places.folder, self.clock, self._known)
        self.orphans = Orphans(self.store, self.clock)
        self.stop = asyncio.Event()

    async def run(self, *beside: Awaitable[None]) -> None:
        """Work until `stop` is set, or until something that should run for ever ends. `beside`: the API, for one."""
        jobs = [
            asyncio.ensure_future(work)
            for work in (self._follow_source(), self.engine.run(), self.stop.wait(), *beside)
        ]
        try:
            with self.timetable(self._chores()):
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            self.stop.set()
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
        return open_world(fleet, secrets, self.places.folder, self.clock, self.options)

    def _chores(self) -> tuple[Chore, ...]:
        return (
            Chore(self._rescan, RESCAN),
            Chore(lambda: self.engine.look_at_all(RESCAN), SAFETY_NET),
            Chore(lambda: self.orphans.look(self.engine.world), RESCAN),
            Chore(self._prune, PRUNE, jitter=timedelta(minutes=10)),
        )

    async def _rescan(self) -> None:
        """A coroutine, so that it runs in the loop: the scheduler gives plain functions to a thread."""
        self.source.rescan()

    async def _prune(self) -> None:
        try:
            await self.store.prune(self.clock.now() - HISTORY)
        except StoreError as error:
            log.warning("history is not pruned: %s", error)
