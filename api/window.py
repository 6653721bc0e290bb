"""What the read API may ask of a running controller: its queries, its clock, plans, and how it fares. Nothing here writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.job_logs import JobLog, read
from api.models import Alive, Check, Ready
from api.planning import plan_known
from controller.boards.needs import Need, needs
from controller.engine import fleet_references
from controller.metrics import exposed, is_stuck
from controller.news import News, news_of
from controller.passes.preview import Preview
from controller.queries import Queries
from controller.running import Controller
from controller.shelf import shelf_of
from controller.store import StoreError
from controller.world import World
from reconcilers.clock import Clock
from specs.desired import needs_of_secret


class NotOpen(Exception):
    """The controller has no usable Fleet yet, so there is no world to look at."""


@dataclass(frozen=True)
class Window:
    """The view of one controller."""

    controller: Controller

    @property
    def clock(self) -> Clock:
        return self.controller.clock

    @property
    def queries(self) -> Queries:
        controller = self.controller
        store, sightings = controller.store, controller.engine.sightings
        return Queries(store, sightings, lambda: controller.source.good_at, shelf_of(store))

    @property
    def news(self) -> News:
        """What changes in the books, from the first question on."""
        return news_of(self.controller.store)

    async def needs(self) -> tuple[Need, ...]:
        """What needs a person now, the gravest first. Raises StoreError."""
        return needs(await self.queries.ground(), self.controller.engine.world_error, self.clock.now())

    async def metrics(self) -> bytes:
        """As Prometheus reads them. Raises StoreError."""
        return await exposed(self.controller, self.queries)

    async def plan(self, name: str) -> Preview | None:
        """What the next pass would do; None: no such tester. Raises NotOpen, StoreError."""
        async with self._world_now() as world:
            return await plan_known(name, self.controller.store, world, self.controller.engine.references)

    async def logs(self, name: str, component: str | None = None) -> tuple[JobLog, ...] | None:
        """The end of every job's log, or all of one component's; None: no such tester.

        Raises NotOpen, StoreError, NoLog, and an OutsideError when the machine cannot be asked and our books kept nothing.
        """
        books = await self.controller.store.books(name)
        if books is None:
            return None
        async with self._world_now() as world:
            refs = [*fleet_references(world.fleet), *needs_of_secret(books.record.desired)]
            hidden = tuple((await self.controller.engine.references.resolve(refs)).values())
            return await read(books, world, hidden, component)

    @asynccontextmanager
    async def _world_now(self) -> AsyncIterator[World]:
        """The engine's world, which stays open while we look through it. Raises NotOpen."""
        world = self.controller.engine.world
        if world is None:
            raise NotOpen(self.controller.engine.world_error or "no Fleet has been read yet")
        world.users += 1
        try:
            yield world
        finally:
            await world.leave()

    def alive(self) -> Alive:
        """An answer at all says that the loop turns; the passes say that it works."""
        engine = self.controller.engine
        stuck = engine.world is not None and is_stuck(engine.queue.standing())
        return Alive(alive=not stuck, passes=engine.passes, stuck=stuck)

    async def ready(self) -> Ready:
        """Store readable, source readable, world open."""
        checks = (*await self._books(), self._opened())
        return Ready(ready=all(check.ok for check in checks), checks=checks)

    async def _books(self) -> tuple[Check, ...]:
        try:
            source = await self.queries.source()
        except StoreError as error:
            return (Check(name="store", ok=False, detail=str(error)),)
        store = Check(name="store", ok=True, detail="readable")
        if source is None:
            return store, Check(name="source", ok=False, detail="not read yet")
        errors = "; ".join(source.errors[:3]) if not source.readable else ""
        return store, Check(name="source", ok=source.readable, detail=errors or f"revision {source.revision}")

    def _opened(self) -> Check:
        engine = self.controller.engine
        detail = engine.world_error or ("open" if engine.world is not None else "no Fleet has been read yet")
        return Check(name="world", ok=engine.world is not None and not engine.world_error, detail=detail)
