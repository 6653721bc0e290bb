"""What pages of a thousand testers cost the server, and how large they are: `python -m tests.bench.pages [TESTERS]`.

Server time is the processor's, of one request through the whole application, without the wire. *Cold*: after a write, when
nothing can be reused. *Warm*: the same again. Busy: a fleet in which everybody is on the way at once.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from api.server import make_app
from api.window import Window
from controller.places import Places, opened_store
from controller.records import Phase, SetStatus
from controller.running import Controller
from reconcilers.clock import SystemClock
from tests.browser.people import USUAL, Person
from tests.browser.stage import Stage, a_world, many, revisions

MOST_TIME: Final = 0.2  # seconds of the fleet page
MOST_SIZE: Final = 300_000  # bytes of it
ROUNDS: Final = 5
PATHS: Final = (
    "/",
    "/?part=testers",
    "/?part=needs",
    "/?q=tester00",
    "/?sort=-state",
    "/?p=5",
    "/testers/tester0001",
    "/components",
    "/nodes",
    "/revisions",
    "/events",
)


@dataclass(frozen=True)
class Cost:
    """Of one page: seconds after a write and again, and bytes."""

    path: str
    cold: float
    warm: float
    size: int


def busy(count: int) -> tuple[Person, ...]:
    """All of them on the way."""
    dora = next(one for one in USUAL if one.phase is Phase.WAITING)
    return tuple(replace(dora, name=f"tester{n:04d}") for n in range(count))


@asynccontextmanager
async def asked(people: Sequence[Person]) -> AsyncIterator[tuple[Stage, httpx.AsyncClient]]:
    """A client of an application over filled books."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        where = Places(Path(folder) / "fleet", Path(folder) / "state")
        async with opened_store(where, clock) as store:
            controller = Controller(where, store, clock)
            controller.engine._world = a_world(clock, tuple(people))
            stage = Stage(controller, "http://127.0.0.1:8484")
            await store.write(*revisions(clock.now()))
            await stage.show(*people)
            transport = httpx.ASGITransport(make_app(Window(controller)))
            async with httpx.AsyncClient(transport=transport, base_url=stage.url) as client:
                yield stage, client


async def cost(stage: Stage, client: httpx.AsyncClient, path: str) -> Cost:
    """The median of some rounds."""
    cold, warm, size = [], [], 0
    await client.get(path)
    for number in range(ROUNDS):
        await stage.store.write(SetStatus("tester0001", Phase.WAITING, number, "", 1, None))
        cold.append(await _seconds(client, path))
        warm.append(await _seconds(client, path))
        size = len((await client.get(path)).content)
    return Cost(path, sorted(cold)[ROUNDS // 2], sorted(warm)[ROUNDS // 2], size)


async def _seconds(client: httpx.AsyncClient, path: str) -> float:
    began = time.process_time()
    answer = await client.get(path)
    answer.raise_for_status()
    return time.process_time() - began


async def main(count: int) -> int:
    """Prints the figures; 1 when the fleet page costs too much."""
    worst = 0
    for title, people in (("settled", many(count)), ("busy", busy(count))):
        async with asked(people) as (stage, client):
            print(f"{count} testers, {title}: server time after a write, and again; size")
            for path in PATHS:
                found = await cost(stage, client, path)
                print(
                    f"  {found.path:<24} {found.cold * 1000:6.0f} ms  {found.warm * 1000:6.0f} ms  {found.size / 1000:6.0f} KB"
                )
                if path == "/" and (found.cold > MOST_TIME or found.size > MOST_SIZE):
                    worst = 1
    return worst


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
