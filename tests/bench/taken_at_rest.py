"""Take-over of settled testers: what they rest on is kept in the store, so that one look and one comparison each will do.

    python -m tests.bench.taken_at_rest [--json FILE] [--testers 1000]

Three replicas with the whole controller and the real reconcilers on one PostgreSQL, which runs beside them without fsync. The
outside are stand-ins in each process (`tests/bench/settled.py`): HTTP answers after 50 ms, a machine after 0.3 s, and the first
time 0.7 s later. One replica is killed (-9), again and again; the last time what is kept is thrown away just before, for
comparison. Processor seconds are those of the two that go on, until each of its testers was looked at.
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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from controller.replicas.shares import shard_of
from tests.bench.replicas import WARM, Diary, all_of, holders, shared_by
from tests.bench.report import Figure, Report, median, versions
from tests.postgres import serving_postgres

ROUNDS = 2  # with what is kept
A_MOMENT = 0.5  # seconds
LIMIT = 600.0  # seconds for anything


@dataclass(frozen=True)
class Taken:
    """Seconds from a kill until each of these testers was begun with elsewhere, and until that had ended."""

    testers: int
    begun: float
    ended: float
    cpu: float  # seconds of those who took over

    @property
    def each(self) -> float:
        """Milliseconds of processor."""
        return 1000 * self.cpu / self.testers


@dataclass
class Team:
    """Replicas that one nursery begins."""

    nursery: asyncio.subprocess.Process
    root: Path
    url: str
    all: list[Diary] = field(default_factory=list)

    async def begin(self, *, fills: bool = False) -> Diary:
        number = len(self.all)
        diary = self.root / f"diary-{number}"
        told = {"fills": fills, "diary": str(diary), "log": str(self.root / f"log-{number}")}
        assert self.nursery.stdin is not None
        self.nursery.stdin.write(f"{json.dumps(told)}\n".encode())
        self.all.append(Diary(await self.said(), diary))
        return self.all[-1]

    async def said(self) -> int:
        assert self.nursery.stdout is not None
        return int(await self.nursery.stdout.readline())

    async def until_gone(self, one: Diary) -> None:
        async with asyncio.timeout(LIMIT):
            while one.lives:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    async def until_looked_at(self, replicas: list[Diary], names: set[str]) -> None:
        """Until each of these was looked at by whoever of these has it now."""
        async with asyncio.timeout(LIMIT):
            while True:
                seen = {one.process: {name for _, name in one.told("ended")} for one in replicas}
                holder = {shard: int(who.split("-")[-2]) for shard, who in (await holders(self.url)).items()}
                if all(name in seen.get(holder.get(shard_of(name), 0), ()) for name in names):
                    return
                await asyncio.sleep(A_MOMENT)


@asynccontextmanager
async def team_of(root: Path, url: str, testers: int) -> AsyncIterator[Team]:
    nursery = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.replica_at_rest", str(root), url, str(testers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    team = Team(nursery, root, url)
    try:
        yield team
    finally:
        for one in team.all:
            with suppress(ProcessLookupError):
                os.kill(one.process, signal.SIGKILL)
        nursery.kill()
        await nursery.wait()


async def taken(team: Team, replicas: list[Diary], names: set[str], *, kept: bool) -> Taken:
    """The first of the replicas is killed, and taken from the list."""
    await shared_by(team.url, 3)
    await team.until_looked_at(replicas, names)
    await asyncio.sleep(WARM)
    victim = replicas.pop(0)
    theirs = {shard for shard, who in (await holders(team.url)).items() if f"-{victim.process}-" in who}
    wanted = {name for name in names if shard_of(name) in theirs}
    if not kept:
        with psycopg.connect(team.url, autocommit=True) as admin:
            admin.execute("DELETE FROM rests")
    spent, killed = sum(one.cpu for one in replicas), time.monotonic()
    os.kill(victim.process, signal.SIGKILL)
    ended = await all_of(replicas, "ended", wanted, killed)
    spent = sum(one.cpu for one in replicas) - spent
    found = Taken(len(wanted), await all_of(replicas, "begun", wanted, killed), ended, spent)
    print("kept" if kept else "thrown away", found, file=sys.stderr, flush=True)
    return found


async def measured(root: Path, url: str, testers: int) -> tuple[list[Taken], Taken]:
    """With what they rest on, and without."""
    names = {f"t{number:05d}" for number in range(testers)}
    async with team_of(root, url, testers) as team:
        await team.until_gone(await team.begin(fills=True))
        first = await team.begin()
        await team.until_looked_at([first], names)
        os.kill(first.process, signal.SIGTERM)  # writes down who rests
        await team.until_gone(first)
        replicas = [await team.begin() for _ in range(3)]
        found = []
        for _ in range(ROUNDS):
            found.append(await taken(team, replicas, names, kept=True))
            replicas.append(await team.begin())
        return found, await taken(team, replicas, names, kept=False)


def report_of(kept: list[Taken], whole: Taken) -> Report:
    report = Report("taken_at_rest", ["PostgreSQL runs beside, on the same machine, without fsync."])
    report.versions = versions("psycopg", "sqlalchemy")
    many = max(one.testers for one in kept)
    for what, rounds in (("at rest", kept), ("at rest, nothing kept", [whole])):
        begun, ended, each = ([getattr(one, part) for one in rounds] for part in ("begun", "ended", "each"))
        goal = 5 if rounds is kept else None
        report.add(median(f"{what}: kill -9 until each of its testers is in work elsewhere", begun, "s", many, goal))
        report.add(median(f"{what}: kill -9 until each was looked at elsewhere", ended, "s", many))
        report.add(median(f"{what}: processor for each", each, "ms", many))
    usual, dear = (Figure("", one.each, "ms") for one in (kept[-1], whole))
    report.ratio("processor for each, nothing kept to kept", dear, usual)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--testers", type=int, default=1_000)
    asked = parser.parse_args()
    with serving_postgres() as postgres, tempfile.TemporaryDirectory(prefix="bench-taken-") as folder:
        found = asyncio.run(measured(Path(folder), postgres.uri, asked.testers))
    report_of(*found).told(asked.json)


if __name__ == "__main__":
    main()
