"""`make bench-month`: does the memory of a controller grow over a simulated month of fifty testers?

In virtual time (`tests/worlds`): the whole controller with its store, one resync each hour. Each day somebody edits a file and
something drifts; each fifth day a tester leaves and another comes. The world is in the same process, so whatever it and the
rig only note down is thrown away each day: what grows is ours.

Printed for some of the days: resident memory, objects that the collector knows, bytes and rows of the store, and what our
own containers hold; then the types and containers that have grown most since the second day. The store keeps ninety days of
history: it grows for so long, on disk.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from controller.store.sqlite import SqliteDatabase
from controller.store.tables import metadata
from examples.simulator.drift import Drift
from tests.bench.growth import Held, by_type, containers, grown, resident
from tests.lessons.conftest import SELDOM
from tests.worlds.loop import run
from tests.worlds.rig import Rig, world

TOLD = (1, 2, 5, 10, 20, 30)
SETTLED = 2
"""The day from which on nothing should grow: by then everybody is there, and every kind of look has been taken once."""
MOST_TYPES = 15
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
REPLACED_EVERY = 5  # days
COMES = timedelta(hours=6)
"""For everybody to come: eight machines at a time take about a quarter of an hour."""
FLEET: dict[str, Any] = {
    "componentSets": {"demo": ["hero_books"]},
    "engines": [],
    "timing": {**SELDOM, "resync": "1h", "outsideProofEvery": "6h"},
    "safety": {"maxRemovals": 3},
}
DRIFTS: tuple[Callable[[Drift, str], None], ...] = (
    lambda drift, vm: drift.kill_service(vm, "hero_books"),
    lambda drift, vm: drift.misreport_service(vm, "hero_books", "failed"),
    lambda drift, vm: drift.add_authorized_key(vm, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDriftedIn someone@elsewhere"),
)


def spec_of(name: str) -> dict[str, Any]:
    """One of whom nothing is left after the removal."""
    identity = {"email": f"{name}@example.org", "whenRemoved": "delete"}
    return {"identity": identity, "machine": {"keepAfterRemoval": "0s"}}


class Month:
    """A fleet by days."""

    def __init__(self, rig: Rig, names: list[str]) -> None:
        self.rig = rig
        self.names = names
        self.calls = 0
        self._numbers = count(len(names))

    async def day(self, number: int) -> None:
        """One day of little life; then what only the world noted down is thrown away."""
        rig, names = self.rig, self.names
        ends = rig.elapsed + DAY
        await rig.run_for(HOUR)
        edited = names[number % len(names)]
        rig.edit(edited, allowlist=["bob"] if number % 2 else ["bob", "sara"])
        await rig.run_for(HOUR)
        drifted = names[number * 7 % len(names)]
        DRIFTS[number % len(DRIFTS)](rig.world.drift, rig.vm(drifted))
        if number % REPLACED_EVERY == 0:
            await self._replaced()
        await rig.run_for(ends - rig.elapsed - HOUR)
        await rig.ready(*names, within=HOUR)
        await rig.run_for(ends - rig.elapsed)
        self._trim()

    async def _replaced(self) -> None:
        gone, new = self.names.pop(0), f"tester{next(self._numbers)}"
        self.rig.remove(gone)
        self.rig.write(new, **spec_of(new))
        self.names.append(new)
        await self.rig.gone(gone)

    def _trim(self) -> None:
        made = self.rig.world
        self.calls += len(made.log)
        made.log.entries.clear()
        made.mailbox.clear()
        made.state.post.keys.clear()
        made.state.forge.codes.clear()
        for daemon in made.state.daemons.values():
            daemon.freed.clear()

    async def held(self, number: int) -> Held:
        """What the process holds now, right after `day`."""
        types = by_type()
        stored = sum(each.stat().st_size for each in self.rig.places.state.glob("controller.db*"))
        own = containers(self.rig.controller)
        return Held(number, resident(), types.total(), stored, self.calls, types, own, _rows(self.rig))


def _rows(rig: Rig) -> dict[str, int]:
    database = rig.store._database
    assert isinstance(database, SqliteDatabase)
    with database._reader.connect() as connection:
        tables = metadata.sorted_tables
        return {each.name: connection.execute(select(func.count()).select_from(each)).scalar_one() for each in tables}


async def lived(root: Path, testers: int, days: int, told: Callable[[Held], None]) -> list[Held]:
    names = [f"tester{number}" for number in range(testers)]
    moments = sorted({day for day in TOLD if day < days} | {days})
    found: list[Held] = []
    async with world(root, {name: spec_of(name) for name in names}, fleet=FLEET, daemons=1 + testers // 20) as rig:
        month = Month(rig, names)
        await rig.ready(*names, within=COMES)
        await month.held(0)  # looking takes memory of its own, the first time
        for number in range(1, days + 1):
            await month.day(number)
            if number in moments:
                found.append(await month.held(number))
                told(found[-1])
    return found


def line(held: Held) -> str:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (
        f"{held.day:>4} {held.resident / 2**20:>9.1f} {held.objects:>10,} {sum(held.containers.values()):>11,}"
        f" {held.stored / 2**20:>9.2f} {sum(held.rows.values()):>9,} {held.calls:>9,} {used.ru_utime + used.ru_stime:>7.0f}"
    )


HEAD = (
    f"{'day':>4} {'RSS MiB':>9} {'objects':>10} {'in ours':>11} {'store MiB':>9} {'rows':>9} {'calls':>9} {'CPU s':>7}"
)


def in_words(found: list[Held]) -> str:
    """What has grown since everything had settled."""
    first = next((held for held in found if held.day >= SETTLED), found[0])
    last = found[-1]
    lines = [f"\nBetween day {first.day} and day {last.day}:"]
    for what, before, after in (
        ("objects", first.types, last.types),
        ("in our containers", first.containers, last.containers),
        ("rows of the store", first.rows, last.rows),
    ):
        rows = grown(before, after, MOST_TYPES)
        lines.append(f"\n{what} that grew most" + ("" if rows else ": none"))
        lines += [f"  {then:>9,} → {now:>9,}  {name}" for name, then, now in rows]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.month", description="Memory over a simulated month.")
    parser.add_argument("--testers", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-month-") as root:
        work = lived(Path(root), options.testers, options.days, lambda held: print(line(held), flush=True))
        found = run(work)
    print(in_words(found))


if __name__ == "__main__":
    main()
