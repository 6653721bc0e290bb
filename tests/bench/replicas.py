"""Replicas on one PostgreSQL: passes per second by 1, 2 and 4, take-over after kill -9, wake by NOTIFY, writes per pass.

    python -m tests.bench.replicas [--json FILE] [--testers 400] [--seconds 10] [--only passes|take-over|wakes]

A pass asks one thing that takes 50 ms; the world is no part of it. PostgreSQL runs beside on the same machine, without fsync.
Taken over is who has a pass begun elsewhere; when that pass has ended is told as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import psycopg

from controller.places import Places, opened_store
from controller.records import PutFleet, PutTester
from controller.replicas.shares import SHARDS, shard_of
from controller.replicas.words import Word, Words
from controller.store.address import normal
from controller.store.line import open_line
from controller.store.locks import LOCKS
from reconcilers.clock import SystemClock
from tests.bench.report import Figure, Report, median, versions
from tests.controller.fakes import FLEET, a_tester, record_of
from tests.postgres import serving_postgres

WARM = 3.0  # seconds
WAKES = 500
TAKEN = 3  # rounds
LIMIT = 60.0  # seconds for anything
UNITS = {"passes per second": "1/s", "CPU ms per pass": "ms", "commits per pass": "", "changes per pass": ""}
HELD = """SELECT application_name, objid::int FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %s AND objid < %s"""


@dataclass
class Diary:
    """Of a process that is a replica: where it writes down what it does."""

    process: int
    path: Path

    def told(self, what: str) -> Iterator[tuple[float, str]]:
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            kind, at, of = line.split()
            if kind == what:
                yield float(at), of

    @property
    def lives(self) -> bool:
        return Path(f"/proc/{self.process}").exists()

    @property
    def cpu(self) -> float:
        """Seconds of the processor until now."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Child(Diary):
    """One replica that we began."""

    begun: asyncio.subprocess.Process

    async def end(self) -> None:
        self.begun.send_signal(signal.SIGTERM)
        await self.begun.wait()


BEGUN: list[asyncio.subprocess.Process] = []


def end_all() -> None:
    """Whatever went wrong, nobody is left behind."""
    for process in BEGUN:
        if process.returncode is None:
            process.kill()


async def begin(url: str, state: Path, *, changes: bool = False, busy: bool = True) -> Child:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.replica", stdin=asyncio.subprocess.PIPE
    )
    number = len(BEGUN)
    BEGUN.append(process)
    assert process.stdin is not None
    diary = state / f"diary-{number}"
    told = {"url": url, "state": str(state), "number": number, "diary": str(diary), "changes": changes, "busy": busy}
    process.stdin.write(f"{json.dumps(told)}\n".encode())
    return Child(process.pid, diary, process)


async def holders(url: str) -> dict[int, str]:
    """By shard: the application that holds it."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        rows = await (await admin.execute(HELD, [LOCKS, SHARDS])).fetchall()
    return {shard: str(name) for name, shard in rows}


async def shared_by(url: str, count: int) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            held = list((await holders(url)).values())
            many = [held.count(each) for each in set(held)]
            if len(many) == count and sum(many) == SHARDS and max(many) - min(many) <= 1:
                return
            await asyncio.sleep(0.1)


async def fill(url: str, state: Path, testers: int) -> None:
    async with opened_store(Places(state, state, url), SystemClock()) as store:
        rows = (PutTester(record_of(a_tester(f"t{number}"))) for number in range(testers))
        await store.write(PutFleet(FLEET.model_dump_json(by_alias=True), "r1"), *rows)


async def prime(url: str, state: Path, testers: int) -> None:
    """Everybody's first pass, which makes its thing, is no part of what is measured."""
    child = await begin(url, state, busy=False)
    async with opened_store(Places(state, state, url), SystemClock()) as store, asyncio.timeout(LIMIT):
        while sum(one.observed_generation > 0 for one in await store.testers()) < testers:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    await child.end()


async def rate(url: str, state: Path, count: int, seconds: float, changes: bool) -> dict[str, Any]:
    """So many replicas, for so long, once they share everything."""
    children = [await begin(url, state, changes=changes) for _ in range(count)]
    await shared_by(url, count)
    await asyncio.sleep(WARM)
    began, spent = time.monotonic(), sum(child.cpu for child in children)
    await asyncio.sleep(seconds)
    over, spent = time.monotonic(), sum(child.cpu for child in children) - spent
    for child in children:
        await child.end()

    def within(what: str) -> list[str]:
        return [of for child in children for at, of in child.told(what) if began <= at < over]

    passes, written = len(within("ended")), within("wrote")
    found = {
        "passes per second": round(passes / (over - began), 1),
        "commits per pass": round(len(written) / passes, 3),
        "changes per pass": round(sum(map(int, written)) / passes, 3),
        "CPU ms per pass": round(1000 * spent / passes, 3),
    }
    print(count, found, file=sys.stderr, flush=True)
    return found


async def take_over(url: str, state: Path, rounds: int, busy: bool) -> list[tuple[float, float, int]]:
    """Seconds from kill -9 until the last of its testers has a pass begun elsewhere, until such a pass of each has ended, and
    how many they are."""
    names = [name async for name in _names(url, state)]
    children = [await begin(url, state, busy=busy) for _ in range(3)]
    found = []
    for number in range(rounds):
        await shared_by(url, 3)
        await asyncio.sleep(WARM)
        victim = children.pop(0)
        theirs = {shard for shard, who in (await holders(url)).items() if f"-{victim.process}-" in who}
        wanted = {name for name in names if shard_of(name) in theirs}
        killed = time.monotonic()
        victim.begun.kill()
        begun, ended = [await all_of(children, what, wanted, killed) for what in ("begun", "ended")]
        found.append((begun, ended, len(wanted)))
        print("at once" if busy else "at rest", found[-1], file=sys.stderr, flush=True)
        if number + 1 < rounds:
            children.append(await begin(url, state, busy=busy))
    for child in children:
        await child.end()
    return found


async def _names(url: str, state: Path) -> Any:
    async with opened_store(Places(state, state, url), SystemClock()) as store:
        for name in await store.names():
            yield name


async def all_of(children: Sequence[Diary], what: str, wanted: set[str], since: float) -> float:
    """Seconds until each of these was in a diary."""
    async with asyncio.timeout(LIMIT):
        while True:
            first: dict[str, float] = {}
            for at, name in sorted(told for child in children for told in child.told(what) if told[0] > since):
                first.setdefault(name, at)
            if wanted <= first.keys():
                return max(first[name] for name in wanted) - since
            await asyncio.sleep(0.5)  # reading them takes time from those who are measured


async def wakes(url: str) -> list[float]:
    """Seconds from a word to its being heard by another replica, one after the other."""
    heard: asyncio.Queue[Word] = asyncio.Queue()
    address, clock = normal(url), SystemClock()
    one = Words("one", lambda: open_line(address, "one"), lambda word: None, clock)
    two = Words("two", lambda: open_line(address, "two"), heard.put_nowait, clock)
    running = [asyncio.ensure_future(each.run()) for each in (one, two)]
    await heard.get()
    await asyncio.sleep(0.5)
    found = []
    for number in range(WAKES):
        began = time.perf_counter()
        one.say(wake=[f"t{number}"])
        await heard.get()
        found.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return found


KINDS = {"at rest": False, "a change each": True}


async def measured(testers: int, seconds: float, only: str) -> Report:
    report = Report(
        "replicas",
        ["A pass asks one thing that takes 50 ms. PostgreSQL runs beside, on the same machine, without fsync."],
    )
    report.versions = versions("psycopg", "sqlalchemy")
    with serving_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        state, url = Path(folder), postgres.uri
        await fill(url, state, testers)
        await prime(url, state, testers)
        with psycopg.connect(url) as admin:
            (report.versions["postgresql"],) = admin.execute("SHOW server_version").fetchone() or ("unknown",)
        if only in ("", "wakes"):
            heard = quantiles(await wakes(url), n=100)
            report.add(Figure("wake by NOTIFY, p50", 1000 * heard[49], "ms", WAKES))
            report.add(Figure("wake by NOTIFY, p99", 1000 * heard[98], "ms", WAKES, goal=5))
        if only in ("", "take-over"):
            for kind, busy in (("at rest", False), ("never at rest", True)):
                await _taken(report, url, state, kind, busy)
        if only in ("", "passes"):
            for kind, changes in KINDS.items():
                await _rates(report, url, state, kind, seconds, changes)
    return report


async def _taken(report: Report, url: str, state: Path, kind: str, busy: bool) -> None:
    taken = await take_over(url, state, TAKEN, busy)
    many = max(count for _, _, count in taken)
    begun, ended = [one for one, _, _ in taken], [one for _, one, _ in taken]
    report.add(median(f"{kind}: kill -9 until each of its testers is in work elsewhere", begun, "s", many, goal=5))
    report.add(median(f"{kind}: kill -9 until each was looked at elsewhere", ended, "s", many))


async def _rates(report: Report, url: str, state: Path, kind: str, seconds: float, changes: bool) -> None:
    base: Figure | None = None
    for count in (1, 2, 4):
        found = await rate(url, state, count, seconds, changes)
        for name, unit in UNITS.items():
            figure = report.add(Figure(f"{kind}, {count} replicas: {name}", found[name], unit))
            if name == "passes per second":
                base = base or figure
                report.ratio(f"{kind}: passes per second, {count} replicas to one", figure, base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--testers", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", default="", choices=["", "passes", "take-over", "wakes"])
    asked = parser.parse_args()
    try:
        asyncio.run(measured(asked.testers, asked.seconds, asked.only)).told(asked.json)
    finally:
        end_all()


if __name__ == "__main__":
    main()
