"""`python -m tests.bench.one_edit`: one edit among thousands, from the written file, or the received webhook, to its first call.

In real seconds, with the real watching of the folder, a real git and real HTTP to our own API, while all others are at rest
and while all of them are looked at at once. The outside is that of `tests/bench/ten_thousand.py`: it answers after 50 ms over
HTTP, a machine after 0.3 s. An edit is a last day: the tester is as it should be again after one pass. Its first call is the
look at its machine; where that was looked at a moment ago, it is the answer at hand that counts.

Waited for by intent, and for files only: up to 20 ms until the notifications of one save have gathered, and 60 ms between
two readings that must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.queue import Urgency
from controller.records import TesterBooks
from controller.sources.source import Known
from reconcilers.backends.machine import MachineAddress, Question
from reconcilers.clock import Clock, SystemClock
from tests.bench.one_edit_sources import Pushed, Switched, rung
from tests.bench.report import Figure, Report, versions
from tests.bench.settled import FLEET, USUAL, Sample, sampled, spec_of
from tests.bench.ten_thousand import Fleet, fleet_of
from tests.worlds.loop import run

PATIENCE = 120.0  # seconds
BETWEEN = 0.5
LAST_DAYS = date(2031, 1, 1)
BEGUN = 0.2  # seconds that a resync has been under way for
TICK = 0.005

Tell = Callable[[], Awaitable[None]]
Edit = Callable[[str, str], Awaitable[Tell]]
"""Prepares that a tester's file says something new, given its name and its new text, and gives what tells us of it."""
Before = Callable[[str], Awaitable[None]]
"""Ends when it is time to edit, given whom."""


@dataclass(frozen=True)
class Found:
    """Seconds of each edit, and the longest that the loop did not turn meanwhile."""

    edits: list[float]
    stood: float


class Stood:
    """How long the loop does not turn: what one long piece of work, or the collector, costs everybody."""

    def __init__(self) -> None:
        self.longest = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def ticking() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(TICK)
                self.longest = max(self.longest, time.perf_counter() - began - TICK)

        task = asyncio.ensure_future(ticking())
        try:
            yield
        finally:
            task.cancel()


async def one_edit(fleet: Fleet, number: int, tell: Tell) -> float:
    """Seconds until the machine of a tester that was edited is called by a pass that knows of the edit."""
    called: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    world, store, one = fleet.controller.engine.world, fleet.store, fleet.outside.copies[number]
    assert world is not None
    looks, machine, books = world.looks, world.looks.machine, store.books
    before = await store.tester(one.name)
    known: list[bool] = []

    async def read(name: str, **more: Any) -> TesterBooks | None:
        found = await books(name, **more)
        if name == one.name and found is not None and before is not None:
            known.append(found.record.generation > before.generation)
        return found

    def heard(whose: int) -> None:
        if whose == number and not called.done() and any(known):
            called.set_result(time.perf_counter())

    async def at_hand(address: MachineAddress, question: Question, newer_than: datetime | None) -> Any:
        answer = await machine(address, question, newer_than)
        if address.key == one.key:
            heard(number)
        return answer

    fleet.outside.listeners.append(heard)
    looks.machine, store.books = at_hand, read  # type: ignore[method-assign]
    began = time.perf_counter()
    await tell()
    try:
        return await asyncio.wait_for(called, PATIENCE) - began
    finally:
        fleet.outside.listeners.remove(heard)
        looks.machine, store.books = machine, books  # type: ignore[method-assign]


async def several(fleet: Fleet, times: int, first: int, edit: Edit, before: Before) -> Found:
    """So many edits of different testers."""
    edits, stood, copies = [], Stood(), fleet.outside.copies
    for each in range(times):
        one = copies[(first + each * 37) % len(copies)]
        text = spec_of(one, expires=(LAST_DAYS + timedelta(days=first + each)).isoformat())
        tell = await edit(one.name, text)
        await before(one.name)
        async with stood.watched():
            edits.append(await one_edit(fleet, one.number, tell))
        await asyncio.sleep(BETWEEN)
    return Found(edits, stood.longest)


async def lived(sample: Sample, number: int, times: int, root: Path, waits: bool) -> dict[str, Found]:
    sources: list[Switched] = []

    def source_of(folder: Path, clock: Clock, known: Known) -> Switched:
        sources.append(Switched(folder, clock, known))
        return sources[-1]

    async with fleet_of(sample, number, root, SystemClock(), source_of=source_of) as fleet:
        (source,) = sources
        running = asyncio.ensure_future(fleet.controller.run())
        await fleet.span(fleet.all_known)
        found = await _all_ways(fleet, source, times, root, waits)
        fleet.controller.stop.set()
        await running
        return found


async def _all_ways(fleet: Fleet, source: Switched, times: int, root: Path, waits: bool) -> dict[str, Found]:
    """`waits`: so many are looked at in a resync that a line forms."""
    queue, chance = fleet.controller.engine.queue, random.Random(1)

    async def quiet(name: str) -> None:
        while queue.working or queue.depth():  # noqa: ASYNC110 - nothing tells when it is quiet
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1 * chance.random())

    def resync() -> None:
        """Where few are left of one, the next one begins."""
        if queue.depth() < len(fleet.outside.copies) / 4:
            for one in fleet.outside.copies:
                queue.add(one.name, timedelta(0), Urgency.RESYNC)

    async def all_at_once(name: str) -> None:
        resync()
        await asyncio.sleep(BEGUN * (1 + chance.random()))

    async def in_line(name: str) -> None:
        """The last one of as many as may be looked at at once."""
        while name not in queue.working or len(queue.working) < queue.others_at_once:
            resync()
            await asyncio.sleep(TICK)

    async def written(name: str, text: str) -> Tell:
        async def write() -> None:
            (fleet.places.folder / f"{name}.yaml").write_text(text)

        return write

    found = {
        "written, at rest": await several(fleet, times, 0, written, quiet),
        "written, in a full resync": await several(fleet, times, 11, written, all_at_once),
    }
    if waits:
        found["written, of who waits in it"] = await several(fleet, times, 23, written, in_line)
    pushed = Pushed(root / "git", fleet.places.folder)
    async with rung(fleet, source, pushed) as bell:

        async def push(name: str, text: str) -> Tell:
            await asyncio.to_thread(pushed.push, name, text)
            return bell.ring

        found["webhook, at rest"] = await several(fleet, times, 17, push, quiet)
        found["webhook, in a full resync"] = await several(fleet, times, 29, push, all_at_once)
        return found


def share(found: list[float], part: float) -> float:
    """A percentile, in milliseconds; of few values the worst."""
    return 1000 * sorted(found)[min(len(found) - 1, int(len(found) * part))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.one_edit", description="One edit among thousands.")
    parser.add_argument("--testers", type=int, nargs="*", default=(1_000, 10_000))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--usual-limits", action="store_true", help="not those of a fleet of thousands: a resync lasts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("one_edit", versions=versions("watchfiles"))
    for number in options.testers:
        with tempfile.TemporaryDirectory(prefix="bench-edit-") as root:
            sample = run(sampled(Path(root) / "sample", USUAL if options.usual_limits else FLEET))
            found = asyncio.run(lived(sample, number, options.times, Path(root) / "fleet", options.usual_limits))
            told(report, number, found)
    report.told(options.json)


def told(report: Report, number: int, found: dict[str, Found]) -> None:
    for way, each in found.items():
        what, goal = f"one edit among {number:,}, {way}", 150.0 if "rest" in way else 500.0
        report.add(Figure(f"{what}, p50", 1000 * statistics.median(each.edits), "ms", len(each.edits)))
        report.add(Figure(f"{what}, p99", share(each.edits, 0.99), "ms", len(each.edits), goal=goal))
        report.add(Figure(f"{what}, longest that the loop stood", 1000 * each.stood, "ms"))


if __name__ == "__main__":
    main()
