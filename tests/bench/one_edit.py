"""`python -m tests.bench.one_edit`: one edit among thousands, from the written file to the first outside call for its tester.

In real seconds, with the real watching of the folder, while all others are at rest, and while all of them are looked at at once.
The outside is that of `tests/bench/ten_thousand.py`: it answers after 50 ms over HTTP, a machine after 0.3 s. What is waited
for by intent: up to 60 ms until the notifications of one save have gathered, and 60 ms between two readings that must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from controller.queue import Urgency
from reconcilers.clock import SystemClock
from tests.bench.report import Figure, Report, versions
from tests.bench.settled import Sample, sampled, spec_of
from tests.bench.ten_thousand import Fleet, fleet_of
from tests.worlds.loop import run

PATIENCE = 120.0  # seconds
BETWEEN = 1.0


async def one_edit(fleet: Fleet, number: int, friend: str) -> float:
    """Seconds until the machine of a tester whose file was written is called."""
    called: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def heard(whose: int) -> None:
        if whose == number and not called.done() and fleet.controller.engine.queue.urgency_of(name) is Urgency.CHANGED:
            called.set_result(time.perf_counter())

    one = fleet.outside.copies[number]
    name = one.name
    fleet.outside.listeners.append(heard)
    began = time.perf_counter()
    (fleet.places.folder / f"{name}.yaml").write_text(spec_of(one, allowlist=[friend]))
    try:
        return await asyncio.wait_for(called, PATIENCE) - began
    finally:
        fleet.outside.listeners.remove(heard)


async def several(fleet: Fleet, times: int, who: str, before: Callable[[], Awaitable[None]]) -> list[float]:
    found = []
    for each in range(times):
        await before()
        found.append(await one_edit(fleet, (each * 37) % len(fleet.outside.copies), f"{who}{each}"))
        await asyncio.sleep(BETWEEN)
    return found


async def lived(sample: Sample, number: int, times: int, root: Path) -> tuple[list[float], list[float]]:
    async with fleet_of(sample, number, root, SystemClock()) as fleet:
        running = asyncio.ensure_future(fleet.controller.run())
        await fleet.span(fleet.all_known)
        queue = fleet.controller.engine.queue

        async def quiet() -> None:
            while queue.working or queue.depth():  # noqa: ASYNC110 - nothing tells when it is quiet
                await asyncio.sleep(0.05)

        async def all_at_once() -> None:
            for one in fleet.outside.copies:
                queue.add(one.name, timedelta(0), Urgency.RESYNC)
            await asyncio.sleep(0.2)

        idle = await several(fleet, times, "bob", quiet)
        busy = await several(fleet, times, "sara", all_at_once)
        fleet.controller.stop.set()
        await running
        return idle, busy


def share(found: list[float], part: float) -> float:
    """A percentile, in milliseconds; of few values the worst."""
    return 1000 * sorted(found)[min(len(found) - 1, int(len(found) * part))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.one_edit", description="One edit among thousands.")
    parser.add_argument("--testers", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("one_edit", versions=versions("watchfiles"))
    with tempfile.TemporaryDirectory(prefix="bench-edit-") as root:
        sample = run(sampled(Path(root) / "sample"))
        idle, busy = asyncio.run(lived(sample, options.testers, options.times, Path(root) / "fleet"))
    for name, found, goal in (("at rest", idle, 150.0), ("in a full resync", busy, 500.0)):
        what = f"one edit among {options.testers:,} {name}"
        report.add(Figure(f"{what}, p50", 1000 * statistics.median(found), "ms", len(found)))
        report.add(Figure(f"{what}, p99", share(found, 0.99), "ms", len(found), goal=goal))
    report.told(options.json)


if __name__ == "__main__":
    main()
