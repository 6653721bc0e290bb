"""`python -m tests.bench.reaction`: how soon the controller acts on what somebody has saved or pushed.

Over real sockets, a real git server process and the real watching of a folder; the first action is the first call for the
new tester that arrives at the outside, a write (its account is made). Times are real, by the machine's own clock: look at the
load that is printed with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from examples.simulator.world import World
from tests.e2e.git_rig import GitFleet, pushed_fleet
from tests.e2e.rig import FEW, Fleet, fleet_of

TIMES = 20
WITH_GIT, WITH_FOLDER = 1.0, 0.2
"""The targets, in seconds."""

HANGS = {
    "system": "compute",
    "method": "deploy_vm",
    "kind": "slow",
    "times": None,
    "options": {"seconds": 1e7},
}
"""Nobody gets a machine: what comes after the first action would only load our own."""


class FirstCalls:
    """By the name of a tester: when the first writing call for it came."""

    def __init__(self, world: World) -> None:
        self.at: dict[str, float] = {}
        self._log = world.log
        self._told = asyncio.Event()
        self._add, world.log.add = world.log.add, self._heard  # type: ignore[method-assign]
        self._expected = ""

    def _heard(self, *about: Any) -> None:
        self._add(*about)
        entry = self._log.entries[-1]
        if entry.writing and entry.what.startswith("/api/v1/admin/users") and self._expected not in self.at:
            self.at[self._expected] = time.monotonic()
            self._told.set()

    async def of(self, name: str, do: Callable[[], Awaitable[None]]) -> float:
        """When the first call for this tester came, after `do`."""
        self._expected = name
        self._told.clear()
        await do()
        async with asyncio.timeout(60):
            await self._told.wait()
        return self.at[name]


async def save_to_action(root: Path, times: int) -> list[float]:
    """Seconds from a saved file to the first action."""
    async with fleet_of(root, {}, **FEW) as fleet:
        calls = await _begun(fleet)
        found = []
        for number in range(times):
            name, began = f"tester{number}", time.monotonic()

            async def save(name: str = name) -> None:
                fleet.write(name)

            found.append(await calls.of(name, save) - began)
            await _rest(fleet, name)
        return found


async def push_to_action(root: Path, times: int) -> tuple[list[float], list[float]]:
    """Seconds from the beginning of `git push`, and from the moment at which the server has the commit, to the first action."""
    async with _quiet_git(root) as fleet:
        calls = await _begun(fleet)
        whole, since = [], []
        for number in range(times):
            name = f"tester{number}"
            fleet.clone.write(name)
            await fleet.clone.commit(name)
            began = time.monotonic()

            async def push() -> None:
                await fleet.clone.push_commits()

            at = await calls.of(name, push)
            whole.append(at - began)
            since.append(at - float((fleet.server.root / "pushed-at").read_text()))
            await _rest(fleet, name)
        return whole, since


@asynccontextmanager
async def _quiet_git(root: Path) -> AsyncIterator[GitFleet]:
    async with pushed_fleet(root, {}, **FEW) as fleet:
        yield fleet


async def _begun(fleet: Fleet) -> FirstCalls:
    fleet.world.drift.add_fault(**HANGS)
    await fleet.taken_in()
    return FirstCalls(fleet.world)


async def _rest(fleet: Fleet, name: str) -> None:
    """Until the pass is over: the next one's figure is not to be this one's work."""

    async def holds() -> bool:
        record = await fleet.store.tester(name)
        return record is not None and record.observed_generation > 0

    await fleet.until(holds, f"a pass over {name}")
    await asyncio.sleep(0.5)


def figures(seconds: list[float], target: float) -> dict[str, float | bool]:
    told = sorted(seconds)
    return {
        "median": round(statistics.median(told), 3),
        "worst": round(told[-1], 3),
        "target": target,
        "met": statistics.median(told) < target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reaction", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=TIMES)
    times = parser.parse_args().times
    logging.disable(logging.ERROR)  # the calls that hang are cut off at the end, and the simulator's servers tell of it
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="bench-reaction-") as root:
        saved = asyncio.run(save_to_action(Path(root), times))
    with tempfile.TemporaryDirectory(prefix="bench-reaction-") as root:
        whole, since = asyncio.run(push_to_action(Path(root), times))
    told = {
        "save to first action": figures(saved, WITH_FOLDER),
        "push at the server to first action": figures(since, WITH_GIT),
        "beginning of git push to first action": figures(whole, WITH_GIT),
    }
    for what, each in told.items():
        met = "met" if each["met"] else "MISSED"
        print(
            f"{what:<40} median {each['median']:.3f} s, worst {each['worst']:.3f} s (target {each['target']} s: {met})"
        )
    print(f"{times} times each, {os.cpu_count()} cores, load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
