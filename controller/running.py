"""The whole controller running: store, source, engine and housekeeping, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from controller.chores import Chore, Timetable, scheduled
from controller.engine import Engine
from controller.fleet_troubles import FleetTroubles
from controller.in_use import last_good_fleet
from controller.intake import Revision, Taken
from controller.orphans import Orphans
from controller.places import Places, opened_store
from controller.replicas.shares import Rhythm
from controller.sources.compared import Compared
from controller.sources.folder import FolderSource
from controller.sources.git import GitSource
from controller.sources.mirror import Mirror, Repository
from controller.sources.source import Known, Source
from controller.store import Store, StoreError, alone
from controller.store.address import is_postgres, normal
from controller.store.errors import NotNow
from controller.telling.at_forge import AtForge
from controller.telling.noticing import EVERY as NOTICES_EVERY
from controller.telling.noticing import Noticing
from controller.telling.publishing import EVERY, Publisher
from controller.telling.pulls import PullRequests
from controller.world import World
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import Clock, SystemClock
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from reconcilers.steps import all_steps
from specs.fleet import Fleet
from specs.gone import gone_of, standing

if TYPE_CHECKING:
    from controller.replicas.crew import Crew

log = logging.getLogger("controller")

HISTORY = timedelta(days=90)
RESCAN = timedelta(minutes=1)
PRUNE = timedelta(hours=6)
SAFETY_NET = timedelta(minutes=30)  # every tester is queued at least so often, should a wake-up ever be lost
STORE_RETRY = timedelta(seconds=5)
STORE_TRIES = 12
"""At a start, while somebody else holds the store, or its server does not answer: as after a boot that starts both."""
WORLD_COMES = timedelta(seconds=1)


@asynccontextmanager
async def working_store(places: Places, clock: Clock) -> AsyncIterator[Store]:
    """The store of these places for a controller that works on it. A file is one controller's at a time: raises as
    `opened_store` does, and StoreError, saying who it is, while another controller works on the same books. A server is shared
    by replicas, who keep out of each other's way themselves. What may pass by itself is waited for, with words in the log."""
    async with AsyncExitStack() as held:
        if not is_shared(places):
            await held.enter_async_context(alone(places.url, clock))
        yield await _opened_at_last(held, places, clock)


async def _opened_at_last(held: AsyncExitStack, places: Places, clock: Clock) -> Store:
    """Raises as `opened_store` does; NotNow only after it was tried often enough."""
    for left in range(STORE_TRIES - 1, 0, -1):
        try:
            return await held.enter_async_context(opened_store(places, clock))
        except NotNow as error:
            log.warning("nothing is begun yet; it is tried again every few seconds, %s times more: %s", left, error)
        await clock.sleep(STORE_RETRY)
    return await held.enter_async_context(opened_store(places, clock))


def is_shared(places: Places) -> bool:
    """Whether several controllers may work on the store of these places."""
    return is_postgres(normal(places.url))


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
    `replicas`: how it shares a store on a server with others; None: the store is its own alone.
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
    replicas: Rhythm | None = None

    def __post_init__(self) -> None:
        self.engine = Engine(self.store, self.clock, self._open_world, self.places.files, self.chance)
        self.source = self._source()
        self._begin_fleet_chores()
        self.stop = asyncio.Event()
        self.crew = self._join(self.replicas) if self.replicas is not None else None

    def _begin_fleet_chores(self) -> None:
        """What is done once for the fleet, with nothing remembered: what was told is in the books."""
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

    def _join(self, rhythm: Rhythm) -> Crew:
        from controller.replicas.crew import Crew  # only who shares a server pays for its driver

        crew = Crew(self.engine, self.places.url, self.clock, self.chance, rhythm)
        crew.follow, crew.lead, crew.rang = self._follow_source, self._lead, self._rang
        return crew

    def _source(self) -> Source:
        if self.git is None:
            return self.source_of(self.places.folder, self.clock, self._known)
        return GitSource(Mirror(self.git.repository, self.places.mirror), self.clock, self._known, self._in_force)

    async def run(self, *beside: Awaitable[None]) -> None:
        """Work until `stop` is set, or until something that should run for ever ends. `beside`: the API, for one."""
        ours = (self._follow_source(), self._lead()) if self.crew is None else (self.crew.run(),)
        jobs = [asyncio.ensure_future(work) for work in (*ours, self._work(), self.stop.wait(), *beside)]
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

    async def _work(self) -> None:
        """As soon as the store lets the engine begin: what an earlier process left open is written down first of all."""
        while True:
            try:
                return await self.engine.run()
            except NotNow as error:
                log.warning("nothing is begun yet: %s", error)
                await self.clock.sleep(STORE_RETRY)

    async def first_fleet(self) -> Fleet:
        """The Fleet in force, as soon as there is one."""
        while self.engine.world is None:
            await self.clock.sleep(WORLD_COMES)
        return self.engine.world.fleet

    def _rang(self) -> None:
        """The source, and pull requests, are to be looked at now: said by another replica's window."""
        self.source.rescan()
        if self.pulls is not None:
            self.pulls.ring()

    async def _lead(self) -> None:
        """Until it is another replica's turn."""
        if self.crew is not None:
            self._begin_fleet_chores()  # others have told since what we last knew of
        if self.pulls is not None:
            await self.pulls.run()
        await asyncio.Event().wait()

    def _once(self, chore: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Done by one replica for all."""

        async def done() -> None:
            if self.crew is None:
                await chore()
            else:
                await self.crew.as_leader(chore)

        return done

    async def _follow_source(self) -> None:
        """A store that cannot be read for a moment ends one reading of the source, not the controller."""
        while not self.stop.is_set():
            compared = Compared(self.clock)
            try:
                async with aclosing(self.source.revisions(self.stop)) as revisions:
                    async for revision in revisions:
                        await self._take_in(revision, compared)
            except StoreError as error:
                log.warning("the source is not read now: %s", error)
                await self.clock.sleep(STORE_RETRY)

    async def _take_in(self, revision: Revision, compared: Compared) -> None:
        """A store that cannot be written now must not lose a revision: it is taken in as soon as it can."""
        while not self.stop.is_set():
            try:
                taken = await self._compare(revision, compared)
            except StoreError as error:
                log.warning("revision %s is not taken in yet: %s", revision.id, error)
                await self.clock.sleep(STORE_RETRY)
                continue
            for listener in self.listeners:
                listener(revision, taken)
            return

    async def _compare(self, revision: Revision, compared: Compared) -> Taken:
        fleet = revision.loaded.fleet
        if fleet is not None and compared.tells_nothing_new(revision):
            await self.engine.adopt(fleet)  # what its credentials refer to may hold something else by now
            return Taken(fleet=fleet)
        taken = await self.engine.take_in(revision)
        compared.note(revision, taken)
        return taken

    async def _known(self) -> tuple[frozenset[str], Fleet | None]:
        return frozenset(await self.store.names()), await last_good_fleet(self.store)

    async def _in_force(self) -> str:
        source = await self.store.source()
        return source.revision if source is not None else ""

    def _open_world(self, fleet: Fleet, secrets: dict[str, Secret]) -> World:
        options = replace(self.options, counted=self.engine.meters.called)
        if self.crew is not None:
            options = replace(options, hooks=(*options.hooks, self.crew), sharing=self.crew.sharing)
        return open_world(fleet, secrets, self.places.files, self.clock, options)

    def _chores(self) -> tuple[Chore, ...]:
        return (
            Chore(self._rescan, RESCAN),
            Chore(lambda: self.engine.look_at_all(RESCAN), SAFETY_NET),
            Chore(self._once(lambda: self.orphans.look(self.engine.world)), RESCAN),
            Chore(self._once(lambda: self.troubles.look(self.engine.world)), RESCAN),
            Chore(self._once(lambda: self.noticing.look()), NOTICES_EVERY),
            Chore(self._once(self._prune), PRUNE, jitter=timedelta(minutes=10)),
            *self._chores_of_git(),
        )

    def _chores_of_git(self) -> tuple[Chore, ...]:
        if self.git is None:
            return ()

        async def publish() -> None:
            if self.publisher is not None and self.engine.world is not None:  # before that nobody can be told
                await self.publisher.look()

        async def ring() -> None:
            if self.pulls is not None:
                self.pulls.ring()

        return (Chore(self._once(publish), EVERY), Chore(ring, RESCAN))

    async def _rescan(self) -> None:
        """A coroutine, so that it runs in the loop: the scheduler gives plain functions to a thread."""
        self.source.rescan()

    async def _prune(self) -> None:
        try:
            await self.store.prune(self.clock.now() - HISTORY)
        except StoreError as error:
            log.warning("history is not pruned: %s", error)
