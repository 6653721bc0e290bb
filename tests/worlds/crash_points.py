"""The process dies at every boundary of six lives, and what becomes of them is what becomes of them when nobody dies.

    make crash-points
    python -m tests.worlds.crash_points [SCENARIO …] [--point N] [--every K --offset O] [--doubles N --seed S]

A scenario (`tests/worlds/crash_scenarios.py`) is run once; at each boundary (`tests/worlds/deaths.py`) a copy of it dies,
begins again on the same store, and goes on to the scenario's end. What the world and the books are then
(`tests/worlds/crash_state.py`) must be what they are at the end of the one that lived. Virtual time and the same seed make
the numbers of the boundaries the same in every run of the same code: `--point N` dies at one of them alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.worlds.crash_scenarios import SCENARIOS, Scenario, a_pass_more, fleet_of, with_one_engine
from tests.worlds.crash_state import State, differences, state_of
from tests.worlds.deaths import Children, Chosen, CountingLoop, Doubles, Point, Points, troubled
from tests.worlds.rig import world
from tests.worlds.watch import Watch

MAKING = (
    "deploy_vm",
    "deploy_webgateway",
    "delete_vm",
    "delete_webgateway",
    "POST /api/",
    "PATCH /api/",
    "DELETE /api/",
    "mail: send",
)
"""Calls that make, change or delete something that there may be but one of."""


@dataclass(frozen=True)
class Told:
    """What a run of a scenario came to: boundaries counted, deaths tried, which of them ended otherwise."""

    scenario: str
    counted: int
    covered: int
    deaths: int
    doubles: int
    failures: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.scenario}: {self.counted} boundaries; {self.deaths} different deaths, which are those of {self.covered} of "
            f"them; {self.doubles} double deaths; {len(self.failures)} ended otherwise"
        )


def run_scenario(scenario: Scenario, chosen: Chosen, jobs: int = 1, doubles: Doubles | None = None) -> Told:
    """Runs it once alive, and from each chosen boundary on once more after a death; so many children at once.

    Raises AssertionError when something that must hold did not even in the one that lived.
    """
    with tempfile.TemporaryDirectory(prefix="crash-points-", ignore_cleanup_errors=True) as root:
        children = Children(Path(root), jobs)
        points = Points(chosen, children, doubles)
        loop = CountingLoop()
        try:
            wanted = loop.run_until_complete(_life_of(scenario, points, Path(root) / "world"))
        except BaseException as error:
            if points.folder is not None:
                points.report(troubled(error))
            raise
        if points.folder is not None:
            points.report({"state": wanted})
        loop.wind_up()
        loop.close()
        assert not wanted["watched"], f"{scenario.name}, where nobody died: {wanted['watched']}"
        return _judged(scenario, points, wanted, children.finish())


async def _life_of(scenario: Scenario, points: Points, root: Path) -> State:
    """The scenario's end, in the process that nobody killed. A child reports its own, and does not come back."""
    root.mkdir()
    specs = {"alice": scenario.tester}
    async with world(root, specs, fleet=fleet_of(root)) as w:
        with_one_engine(w)
        watch = Watch(w)
        points.watch(w)
        if scenario.ready_first:
            await w.ready("alice")
            await w.settled()
        points.open = True
        scenario.begin(w)
        await scenario.goal(w)
        await a_pass_more(w)
        points.close()
        await w.settled()
        state = await state_of(w) | {"watched": [f"{one.kind}: {one.text}" for one in watch.violations]}
        if points.folder is not None:
            points.report({"state": state})
        return state


def _judged(scenario: Scenario, points: Points, wanted: State, ended: Sequence[tuple[Point, dict[str, Any]]]) -> Told:
    failures, doubles = [], 0
    for point, report in ended:
        for told in (report, *report.get("doubles", ())):
            wrong = [told["trouble"]] if "trouble" in told else differences(wanted, told["state"])
            if wrong:
                died = " and ".join(told.get("deaths", [str(point)]))
                failures.append(f"{scenario.name}, dead at {died}:\n" + "\n".join(f"    {line}" for line in wrong))
        doubles += len(report.get("doubles", ()))
    return Told(scenario.name, points.number, points.covered, len(ended), doubles, tuple(failures))


def share(every: int, offset: int) -> Chosen:
    """Every so many boundaries."""
    return lambda number, what: number % every == offset % every


def share_and_made(every: int, offset: int) -> Chosen:
    """Every so many boundaries, and those after every call that makes or deletes something: answered, and not written down."""
    return lambda number, what: (
        number % every == offset % every or (what.startswith("after ") and any(each in what for each in MAKING))
    )


def main() -> int:
    """The exit code: 1 if anything ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--point", type=int, help="only this boundary")
    parser.add_argument("--every", type=int, default=1, help="only every so many boundaries")
    parser.add_argument("--offset", type=int, default=0, help="beginning with this one")
    parser.add_argument("--doubles", type=float, default=0.0, help="second deaths after each first one, on average")
    parser.add_argument("--seed", type=int, default=1, help="of the second deaths")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    given = parser.parse_args()
    chosen = share(given.every, given.offset) if given.point is None else lambda number, what: number == given.point
    doubles = Doubles(given.doubles, given.seed) if given.doubles else None
    all_told = []
    for name in given.scenario:
        began = time.monotonic()
        told = run_scenario(SCENARIOS[name], chosen, given.jobs, doubles)
        print(*told.failures, f"{told} ({time.monotonic() - began:.0f} s)", sep="\n", flush=True)
        all_told.append(told)
    print(
        f"{sum(each.covered for each in all_told)} crash points, {sum(each.deaths for each in all_told)} different deaths, "
        f"{sum(each.doubles for each in all_told)} double deaths: "
        f"{sum(len(each.failures) for each in all_told)} ended otherwise"
    )
    return 1 if any(each.failures for each in all_told) else 0


if __name__ == "__main__":
    sys.exit(main())
