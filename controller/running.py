"""The whole controller running: store, source, engine and housekeeping, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from controller.at_forge import AtForge
from controller.chores import Chore, Timetable, scheduled
from controller.engine import Engine
from controller.fleet_troubles import FleetTroubles
from controller.intake import Revision, Taken
from controller.noticing import EVERY as NOTICES_EVERY
from controller.noticing import Noticing
from controller.orphans import Orphans
from controller.places import Places, opened_store
from controller.publishing import EVERY, Publisher
from controller.pulls import PullRequests
from controller.sources.folder import FolderSource
from controller.sources.git import GitSource
from controller.sources.mirror import Mirror, Repository
from controller.sources.source import Known, Source
from controller.store import Store, StoreError, alone
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
WORLD_COMES = timedelta(seconds=1)


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


@dataclass(frozen=True)
class FromGit:
    """A repository as the source. `comments`: whether plans are told as comments of pull requests too."""

    repository: Repository
    comments: bool = False


@dataclass
class Controller:
    """One running controller. `listeners` hear of every intake (the demo and the tests use it).

    `git`: where the specs come from instead of the folder; `dashboard`: the public address of the pages, for links.
    `options`, `source_of` and `timetable` are what a world in virtual time replaces: its way out, the watching of the folder,
    and whatever keeps intervals by the machine's clock.
    """

    places: Places
    store: Store
    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.Random)
    listeners: list[Callable[[Revision, Taken], None]] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    source_of: Callable[[Path, Clock, Known], Source] = FolderSource
    timetable: Timetable = scheduled
    git: FromGit | None = None
    dashboard: str = ""

    def __post_init__(self) -> None:
        self.engine = Engine(self.store, self.clock, self._open_world, self.places.files, self.chance)
        self.source = self._source()
        self.orphans = Orphans(self.store, self.clock)
        self.troubles = FleetTroubles(self.store, self.clock, self.engine.queue.add)
        self.noticing = Noticing(self.store, self.clock, lambda: self.engine.world, self.dashboard)
        self.publisher: Publisher | None = None
        self.pulls: PullRequests | None = None
        if self.git is not None:
            there = AtForge(lambda: self.engine.world, self.git.repository.url, self.dashboard)
            mirror = Mirror(self.git.repository, self.places.pulls)
            self.publisher = Publisher(self.store, self.clock, there.tell)
            self.pulls = PullRequests(there, mirror, self.engine, self.git.comments)
        self.stop = asyncio.Event()

    def _source(self) -> Source:
        if self.git is None:
            return self.source_of(self.places.folder, self.clock, self._known)
        return GitSource(Mirror(self.git.repository, self.places.mirror), self.clock, self._known, self._in_force)

    async def run(self, *beside: Awaitable[None]) -> None:
        """Work until `stop` is set, or until something that should run for ever ends. `beside`: the API, for one."""
        if self.pulls is not None:
            beside = (*beside, self.pulls.run())
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

    async def first_fleet(self) -> Fleet:
        """The Fleet in force, as soon as there is one."""
        while self.engine.world is None:
            await self.clock.sleep(WORLD_COMES)
        return self.engine.world.fleet

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

    async def _in_force(self) -> str:
        source = await self.store.source()
        return source.revision if source is not None else ""

    def _open_world(self, fleet: Fleet, secrets: dict[str, Secret]) -> World:
        options = replace(self.options, counted=self.engine.meters.called)
        return open_world(fleet, secrets, self.places.files, self.clock, options)

    def _chores(self) -> tuple[Chore, ...]:
        return (
            Chore(self._rescan, RESCAN),
            Chore(lambda: self.engine.look_at_all(RESCAN), SAFETY_NET),
            Chore(lambda: self.orphans.look(self.engine.world), RESCAN),
            Chore(lambda: self.troubles.look(self.engine.world), RESCAN),
            Chore(self.noticing.look, NOTICES_EVERY),
            Chore(self._prune, PRUNE, jitter=timedelta(minutes=10)),
            *self._chores_of_git(),
        )

    def _chores_of_git(self) -> tuple[Chore, ...]:
        if self.publisher is None or self.pulls is None:
            return ()
        publisher, pulls = self.publisher, self.pulls

        async def publish() -> None:
            if self.engine.world is not None:  # before that nobody can be told, and nothing is lost
                await publisher.look()

        async def ring() -> None:
            pulls.ring()

        return (Chore(publish, EVERY), Chore(ring, RESCAN))

    async def _rescan(self) -> None:
        """A coroutine, so that it runs in the loop: the scheduler gives plain functions to a thread."""
        self.source.rescan()

    async def _prune(self) -> None:
        try:
            await self.store.prune(self.clock.now() - HISTORY)
        except StoreError as error:
            log.warning("history is not pruned: %s", error)
