"""One cold tester, from the saved file to Ready, by the whole controller."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml

from api.demo.folder import EXAMPLES, LEAST, write_fleet
from controller.places import Places, opened_store
from controller.records import Event, Phase
from controller.running import Controller
from controller.store import Store
from reconcilers.clock import SystemClock
from specs.fleet import Timing
from specs.loading import load_folder
from specs.quantities import duration_text
from tests.bench.chain import SUPERVISOR
from tests.bench.worlds import Outside

T = TypeVar("T")

TESTER = "alice"
SETTINGS = ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN", "HERO_VOICE_URL", "SHARED_VOICE_TOKEN", "OPENROUTER_API_KEY")
LIMIT = 900.0  # real seconds: only a failure takes so long
LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Cold:
    """`began`, `ready`: the world's clock. `events`: what the controller told, by the world's clock."""

    began: float
    ready: float
    events: tuple[tuple[float, Event], ...]

    @property
    def reached(self) -> float:
        """The first look over SSH: the machine has found its network."""
        return next(at for at, told in self.events if (told.step, told.reason) == ("MachineAccess", "InSync"))

    @property
    def took(self) -> float:
        return self.ready - self.began

    def told(self) -> tuple[str, ...]:
        """The events in words, each with its moment since the beginning."""
        return tuple(f"{at - self.began:8.1f} {e.step:<20} {e.reason:<20} {e.message[:100]}" for at, e in self.events)


@cache
def components() -> tuple[str, ...]:
    """Alice's, the supervisor first."""
    loaded = load_folder(EXAMPLES, datetime.now(UTC).date(), frozenset(), None)
    names = [component.name for component in loaded.testers[TESTER].desired.components]
    return tuple(sorted(names, key=lambda name: name != SUPERVISOR))


def settings_by_hand() -> dict[str, str]:
    """What is written into a machine's secrets besides the sign-in."""
    return dict.fromkeys(SETTINGS, "made-by-hand")


def usual_times(fleet: Path, speed: float) -> None:
    """The Fleet's timing as it is by default, as much shorter as the world is faster; the demo's own is more patient."""
    document = yaml.safe_load(fleet.read_text())
    usual, fields = Timing(), Timing.model_fields
    spans = {fields[name].alias or name: getattr(usual, name) / speed for name in LEAST}
    document["spec"]["timing"] = {
        name: duration_text(timedelta(milliseconds=round(span / timedelta(milliseconds=1))))
        for name, span in spans.items()
    }
    fleet.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


async def cold_run(outside: Outside, root: Path) -> Cold:
    """The example fleet's alice alone. Raises TimeoutError when she is not Ready in time."""
    folder = write_fleet(root, outside.addresses)
    mine = (folder / f"{TESTER}.yaml").read_text()
    for path in folder.glob("*.yaml"):
        if path.name != "fleet.yaml":
            path.unlink()
    usual_times(folder / "fleet.yaml", outside.speed)
    places = Places(folder, root / "controller")
    async with opened_store(places, SystemClock()) as store:
        controller = Controller(places, store, chance=random.Random(1))
        running = asyncio.ensure_future(controller.run())
        try:
            await _until(store.fleet, running)
            began = outside.now()
            (folder / f"{TESTER}.yaml").write_text(mine)
            ready_at = await _until(lambda: _ready_at(store), running)
            told = tuple(
                (outside.at(each.at.timestamp()), each) for each in reversed(await store.events(TESTER, limit=500))
            )
            return Cold(began, outside.at(ready_at.timestamp()), told)
        finally:
            controller.stop.set()
            await running


async def _ready_at(store: Store) -> datetime | None:
    found = [each for each in await store.testers() if each.phase is Phase.READY]
    return found[0].ready_at if found else None


async def _until(told: Callable[[], Awaitable[T | None]], running: asyncio.Future[None]) -> T:
    """What `told` says as soon as it says something. Raises TimeoutError, and what the controller ends with before that."""
    for _ in range(int(LIMIT / LOOK_EVERY)):
        found = await told()
        if found is not None:
            return found
        if running.done():
            running.result()
        await asyncio.sleep(LOOK_EVERY)
    raise TimeoutError(f"{TESTER} was not Ready within {LIMIT:.0f} real seconds")
