"""What the read API may ask of a running controller: its queries, its clock, plans, and how it fares. Nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass

from api.models import Alive, Check, Ready
from api.planning import plan_known
from controller.preview import Preview
from controller.queries import Queries
from controller.running import Controller
from controller.store import StoreError
from reconcilers.clock import Clock


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
        return Queries(self.controller.store)

    async def plan(self, name: str) -> Preview | None:
        """What the next pass would do; None: no such tester. Raises NotOpen, StoreError."""
        engine = self.controller.engine
        world = engine.world
        if world is None:
            raise NotOpen(engine.world_error or "no Fleet has been read yet")
        world.users += 1
        try:
            return await plan_known(name, self.controller.store, world, engine.references)
        finally:
            await world.leave()

    def alive(self) -> Alive:
        """An answer at all says that the loop turns; the passes say that it works."""
        return Alive(alive=True, passes=self.controller.engine.passes)

    async def ready(self) -> Ready:
        """Store readable, source readable, world open."""
        checks = (*await self._books(), self._world())
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

    def _world(self) -> Check:
        engine = self.controller.engine
        detail = engine.world_error or ("open" if engine.world is not None else "no Fleet has been read yet")
        return Check(name="world", ok=engine.world is not None and not engine.world_error, detail=detail)
