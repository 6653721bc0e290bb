"""Replicas on one PostgreSQL: passes per second by 1, 2 and 4, take-over after kill -9, wake by NOTIFY, writes per pass.

    python -m tests.bench.replicas [--json FILE] [--testers 400] [--seconds 10]

A pass asks one thing that takes 50 ms; the world is no part of it. PostgreSQL runs beside on the same machine, without fsync.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import psycopg

from controller.places import Places, opened_store
from controller.records import PutFleet, PutTester
from controller.replicas.shares import SHARDS
from controller.replicas.words import Word, Words
from controller.store.address import normal
from controller.store.line import open_line
from controller.store.locks import LOCKS
from reconcilers.clock import SystemClock
from tests.bench.report import Figure, Report, median, versions
from tests.controller.fakes import FLEET, a_tester, record_of
from tests.postgres import serving_postgres

WARM = 4.0  # seconds
WAKES = 500
UNITS = {"passes per second": "1/s", "CPU ms per pass": "ms", "commits per pass": "", "changes per pass": ""}
HELD = """SELECT pid, count(*) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %s AND objid < %s GROUP BY 1"""


@dataclass
class Child:
    process: asyncio.subprocess.Process

    async def end(self) -> dict[str, Any]:
        self.process.send_signal(signal.SIGTERM)
        out, _ = await self.process.communicate()
        told: dict[str, Any] = json.loads(out)
        return told


BEGUN: list[asyncio.subprocess.Process] = []


def end_all() -> None:
    """Whatever went wrong, nobody is left behind."""
    for process in BEGUN:
        if process.returncode is None:
            process.kill()


async def begin(url: str, state: Path, number: int, *, changes: bool = False, busy: bool = True) -> Child:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.replica",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    BEGUN.append(process)
    assert process.stdin is not None
    told = {"url": url, "state": str(state), "number": number, "changes": changes, "busy": busy}
    process.stdin.write(f"{json.dumps(told)}\n".encode())
    return Child(process)


async def shared_by(url: str, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin, asyncio.timeout(120):
        while True:
            held = [some for _, some in await (await admin.execute(HELD, [LOCKS, SHARDS])).fetchall()]
            if len(held) == count and sum(held) == SHARDS and max(held) - min(held) <= 1:
                return
            await asyncio.sleep(0.1)


async def fill(url: str, state: Path, testers: int) -> None:
    async with opened_store(Places(state, state, url), SystemClock()) as store:
        rows = (PutTester(record_of(a_tester(f"t{number}"))) for number in range(testers))
        await store.write(PutFleet(FLEET.model_dump_json(by_alias=True), "r1"), *rows)


async def prime(url: str, state: Path, testers: int) -> None:
    """Everybody's first pass, which makes its thing, is no part of what is measured."""
    child = await begin(url, state, 99, busy=False)
    async with opened_store(Places(state, state, url), SystemClock()) as store:
        while sum(one.observed_generation > 0 for one in await store.testers()) < testers:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    await child.end()


async def rate(url: str, state: Path, count: int, seconds: float, changes: bool) -> dict[str, Any]:
    """So many replicas, for so long, once they share everything."""
    children = [await begin(url, state, number, changes=changes) for number in range(count)]
    await shared_by(url, count)
    await asyncio.sleep(WARM)
    began = time.monotonic()
    await asyncio.sleep(seconds)
    over = time.monotonic()
    told = [await child.end() for child in children]

    def within(key: str) -> list[Any]:
        return [each[1] for one in told for each in one[key] if began <= each[0] < over]

    passes, written = len(within("ended")), within("written")
    everything = sum(len(one["ended"]) for one in told)
    found = {
        "replicas": count,
        "passes per second": round(passes / (over - began), 1),
        "commits per pass": round(len(written) / passes, 3),
        "changes per pass": round(sum(written) / passes, 3),
        "CPU ms per pass": round(1000 * sum(one["cpu"] for one in told) / everything, 3),
    }
    print(found, file=sys.stderr, flush=True)
    return found


async def take_over(url: str, state: Path, rounds: int) -> list[float]:
    """Seconds from kill -9 until each of its testers has had a whole pass elsewhere: the last of them."""
    found = []
    children = [await begin(url, state, number, busy=False) for number in range(3)]
    for number in range(rounds):
        await shared_by(url, 3)
        await asyncio.sleep(WARM)
        victim, survivors = children[0], children[1:]
        killed = time.monotonic()
        victim.process.kill()
        await victim.process.wait()
        await asyncio.sleep(12)
        told = await asyncio.gather(*(child.end() for child in survivors))
        first: dict[str, float] = {}  # at rest nobody is looked at but those who were taken over
        for at, name in sorted((at, name) for one in told for at, name in one["ended"] if at > killed):
            first.setdefault(name, at)
        found.append(max(first.values()) - killed)
        if number + 1 < rounds:
            children = [await begin(url, state, 10 * number + each, busy=False) for each in range(3)]
    return found


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


async def measured(testers: int, seconds: float) -> Report:
    report = Report(
        "replicas",
        ["A pass asks one thing that takes 50 ms. PostgreSQL runs beside, on the same machine, without fsync."],
    )
    report.versions = versions("psycopg", "sqlalchemy")
    with serving_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        await fill(postgres.uri, state, testers)
        await prime(postgres.uri, state, testers)
        with psycopg.connect(postgres.uri) as admin:
            (report.versions["postgresql"],) = admin.execute("SHOW server_version").fetchone() or ("unknown",)
        for kind, changes in KINDS.items():
            await _rates(report, postgres.uri, state, kind, seconds, changes)
        taken = await take_over(postgres.uri, state, 3)
        heard = quantiles(await wakes(postgres.uri), n=100)
    report.add(median("kill -9 until its last tester was looked at elsewhere", taken, "s", len(taken), goal=5))
    report.add(Figure("wake by NOTIFY, p50", 1000 * heard[49], "ms", WAKES))
    report.add(Figure("wake by NOTIFY, p99", 1000 * heard[98], "ms", WAKES, goal=5))
    return report


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
    asked = parser.parse_args()
    try:
        asyncio.run(measured(asked.testers, asked.seconds)).told(asked.json)
    finally:
        end_all()


if __name__ == "__main__":
    main()
