"""`python -m tests.bench.ten_thousand`: what a fleet of settled testers costs while nothing happens, and how that grows.

The whole controller with its SQLite file, in virtual time: the outside answers after 50 ms, a look at a machine after 0.3 s, and
only the processor's time is real. HTTP ends at the clients' transport and SSH at the machines' shell (`tests/bench/settled.py`),
so what sockets cost on top is not in the figures as measured: beside them stands what the looks over SSH and the probes over TLS
would add at the floor that was seen for a bare loop (`--ssh`, `--tls`, and `--sign-in` for the first look at a machine, in
milliseconds), without what the stand-ins took to answer, which is counted apart.

Each size has a process of its own. A resync is five minutes, engines are none.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.collector import collecting_seldom
from controller.places import Places, opened_store
from controller.running import Controller
from controller.sources.folder import FolderSource
from controller.store import Store
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.opening import Options
from reconcilers.clock import Clock
from reconcilers.secret import Secret
from tests.bench.growth import resident
from tests.bench.report import Figure, Report, versions
from tests.bench.settled import Outside, OutsideShell, Sample, filled, sampled, spec_of
from tests.worlds.files import prepared
from tests.worlds.loop import VirtualClock, run
from tests.worlds.options import _trust
from tests.worlds.source import QuietFolder, by_clock

RESYNC = timedelta(minutes=5)
DOWN = timedelta(seconds=30)  # between two lives
SIZES = (100, 1_000, 10_000)
MIB = 1 << 20


@dataclass(frozen=True)
class Floors:
    """Milliseconds of processor for one, seen for bare loops on two cores; `sign_in`: opening a connection and one look."""

    ssh: float = 0.81
    tls: float = 4.0
    sign_in: float = 2.9


@dataclass
class Span:
    """What one span of virtual time took. `cpu` in seconds, `outside` of it by the stand-ins for what is outside."""

    cpu: float
    virtual: float
    passes: int
    commits: int
    outside: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def each(self) -> float:
        """Milliseconds of processor for one pass, everything else beside it included."""
        return 1000 * self.cpu / max(1, self.passes)

    @property
    def share(self) -> float:
        """Per cent of a core, as measured."""
        return 100 * self.cpu / self.virtual

    def with_sockets(self, ssh: float, tls: float) -> float:
        """Seconds of processor, with what sockets would add instead of the stand-ins."""
        sockets = self.calls.get("machine look", 0) * ssh + self.calls.get("outside probe", 0) * tls
        return self.cpu - self.outside + sockets / 1000


@dataclass
class Lived:
    """What a fleet of one size took. Memory in bytes: the process before the controller was started, and at rest."""

    testers: int
    cold: Span
    again: Span  # the same in the next life, after a stop
    rest: Span
    before: int
    resident: int
    intake: float  # seconds of processor from a changed file to its being taken in


class RescannedFolder(QuietFolder):
    """Nobody watches it, and it is read as a whole each minute, as by the real controller."""

    def rescan(self) -> None:
        FolderSource.rescan(self)


class Fleet:
    """A controller over copies of the sample."""

    def __init__(self, places: Places, outside: Outside, store: Store, clock: Clock, **options: Any) -> None:
        self.places, self.outside, self.store, self.clock = places, outside, store, clock
        self.options = options
        self.controller = Controller(places, store, clock, random.Random(1), options=self._options(), **options)

    def _options(self) -> Options:
        def machines(key: Secret, gate: Gate, places: int) -> ShellMachines:
            return ShellMachines(OutsideShell(self.outside, gate), places=places)

        names = ("forge", "outside", "mail", "compute compute1")
        return Options(transports=dict.fromkeys(names, self.outside), machines=machines, trust=_trust)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.ensure_future(self.controller.run())
        yield
        self.controller.stop.set()
        await running

    async def span(self, until: Callable[[], bool] | timedelta, poll: float = 0.5) -> Span:
        """From now until a function says so, or for a time."""
        engine, began, calls = self.controller.engine, self.clock.now(), Counter(self.outside.calls)
        cpu, passes, commits, outside = time.process_time(), engine.passes, self.store.commits, self.outside.cpu
        if isinstance(until, timedelta):
            await self.clock.sleep(until)
        else:
            while not until():  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(poll)
        return Span(
            time.process_time() - cpu,
            (self.clock.now() - began).total_seconds(),
            engine.passes - passes,
            self.store.commits - commits,
            self.outside.cpu - outside,
            {" ".join(call): number for call, number in (self.outside.calls - calls).items()},
        )

    def all_known(self) -> bool:
        seen = self.controller.engine.sightings
        return all(seen.looked_at(one.name) is not None for one in self.outside.copies)

    async def edited(self, number: int) -> float:
        """Seconds of processor until a changed file is taken in."""
        taken: list[object] = []
        self.controller.listeners.append(lambda *each: taken.append(each))
        one = self.outside.copies[number]
        (self.places.folder / f"{one.name}.yaml").write_text(spec_of(one, allowlist=["bob"]))
        source = self.controller.source
        assert isinstance(source, QuietFolder)
        source.changed()
        return (await self.span(lambda: bool(taken), 0.01)).cpu


@asynccontextmanager
async def fleet_of(
    sample: Sample, number: int, root: Path, clock: Clock | None = None, **options: Any
) -> AsyncIterator[Fleet]:
    """So many testers at rest; in virtual time without a clock."""
    places = Places(root / "fleet", root / "state", secrets=sample.folder)
    prepared(places)
    chosen = clock or VirtualClock()
    if clock is None:
        await chosen.sleep(sample.at - chosen.now())
        options = {"source_of": RescannedFolder, "timetable": by_clock, **options}
    async with collecting_seldom(chosen), opened_store(places, chosen) as store:
        copies = await filled(sample, number, places, store)
        yield Fleet(places, Outside(sample, copies, asyncio.sleep), store, chosen, **options)


@dataclass(frozen=True)
class Profiles:
    """Laid beside each other under `path` and the name of the part; "": nowhere."""

    path: str

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        if not self.path:
            yield
            return
        profile = cProfile.Profile(time.process_time)
        with profile:
            yield
        profile.dump_stats(f"{self.path}.{part}")


async def lived(sample: Sample, number: int, root: Path, profiles: Profiles) -> Lived:
    """Two lives: the first knows nobody, the second begins where the first one was stopped."""
    async with fleet_of(sample, number, root) as fleet:
        before = resident()
        async with fleet.running():
            with profiles.of("first"):
                cold = await fleet.span(fleet.all_known)
            await fleet.span(RESYNC * 1.5)
            with profiles.of("rest"):
                rest = await fleet.span(RESYNC * 2)
            kept = resident()
    await fleet.clock.sleep(DOWN)
    async with opened_store(fleet.places, fleet.clock) as store:
        second = Fleet(fleet.places, fleet.outside.anew(), store, fleet.clock, **fleet.options)
        async with second.running():
            with profiles.of("again"):
                again = await second.span(second.all_known)
            return Lived(number, cold, again, rest, before, kept, await second.edited(number // 2))


def one_size(number: int, profile: str = "") -> Lived:
    with tempfile.TemporaryDirectory(prefix="bench-rest-") as root:
        sample = run(sampled(Path(root) / "sample"))
        return run(lived(sample, number, Path(root) / "fleet", Profiles(profile)))


def in_a_process_of_its_own(number: int) -> Lived:
    command = [sys.executable, "-m", "tests.bench.ten_thousand", "--only", str(number)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    read = json.loads(told.splitlines()[-1])
    return Lived(**{**read, **{part: Span(**read[part]) for part in ("cold", "again", "rest")}})


def told(found: list[Lived], floors: Floors) -> Report:
    report = Report("ten_thousand")
    largest = found[-1]
    for one in found:
        name, rest, cold, looks = f"{one.testers:,} testers", one.rest, one.cold, one.rest.passes
        whole = 100 * rest.with_sockets(floors.ssh, floors.tls) / rest.virtual
        goals = (8.0, 350.0, 60.0) if one.testers == SIZES[-1] else (None, None, None)
        report.add(Figure(f"{name}: share of a core at rest, as measured", rest.share, "%", looks))
        report.add(
            Figure(f"{name}: of it by the stand-ins for the outside", 100 * rest.outside / rest.virtual, "%", looks)
        )
        report.add(Figure(f"{name}: with SSH and TLS at their floors instead", whole, "%", looks, goal=goals[0]))
        report.add(Figure(f"{name}: processor for a look and all beside it", rest.each, "ms", looks))
        report.add(Figure(f"{name}: memory at rest", one.resident / MIB, "MiB", goal=goals[1]))
        report.add(Figure(f"{name}: of it before the controller began", one.before / MIB, "MiB"))
        for of, span, goal in (("first start", cold, None), ("start after a stop", one.again, goals[2])):
            of, start = f"{name}: {of}, until all are known", span.with_sockets(floors.sign_in, floors.tls)
            report.add(Figure(f"{of}: processor as measured", span.cpu, "s", span.passes))
            report.add(Figure(f"{of}: with SSH and TLS at their floors", start, "s", span.passes, goal=goal))
            report.add(Figure(f"{of}: waits for the outside meanwhile", span.virtual, "s", span.passes))
        report.add(Figure(f"{name}: processor from a changed file to its intake", 1000 * one.intake, "ms"))
    flat = [one.rest.each for one in found]
    for one in found[:-1]:
        here, there = (Figure(f"{each.testers:,}", each.rest.each, "ms") for each in (one, largest))
        report.ratio(f"a look among {largest.testers:,} / among {one.testers:,}", there, here, goal=1.2)
    report.notes += [f"spread of a look: {max(flat) / min(flat):.2f}", *map(calls_of, found)]
    report.versions = versions("asyncssh", "httpx", "sqlalchemy", "pydantic")
    return report


def calls_of(one: Lived) -> str:
    resyncs = one.rest.virtual / RESYNC.total_seconds()
    words = ", ".join(f"{name} {number / resyncs:.0f}" for name, number in sorted(one.rest.calls.items()))
    return f"{one.testers:,} testers, calls in a resync: {words}; commits {one.rest.commits / resyncs:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ten_thousand", description="A fleet at rest.")
    parser.add_argument("--testers", type=int, nargs="*", default=SIZES)
    parser.add_argument("--only", type=int, help="one size, in this process, as JSON")
    parser.add_argument("--profile", default="", help="where to lay profiles of the starts and of the time at rest")
    parser.add_argument("--json", type=Path)
    for each in fields(Floors):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=float, default=each.default)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(asdict(one_size(options.only, options.profile))))
        return
    found = [in_a_process_of_its_own(number) for number in sorted(options.testers)]
    told(found, Floors(options.ssh, options.tls, options.sign_in)).told(options.json)
    print(f"largest of the processes: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
