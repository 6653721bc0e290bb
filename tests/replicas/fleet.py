"""Several real replicas over one make-believe world and one real PostgreSQL, and what may befall them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from controller.places import Places, opened_store
from controller.records import Phase
from controller.replicas.shares import SHARDS, Rhythm
from controller.store import Store
from controller.store.locks import LOCKS
from examples.simulator.server import Addresses
from examples.simulator.world import World
from reconcilers.clock import SystemClock
from tests.e2e.rig import serving_world

QUICK = Rhythm()
OURS = Path(__file__).parents[2]
"""The program that is tested, as a folder."""
LIMIT = 300.0  # real seconds to wait for anything: generous, since only a failure waits so long

HISTORY = """
CREATE TABLE IF NOT EXISTS lease_history (key int, epoch bigint, at timestamptz DEFAULT clock_timestamp());
CREATE OR REPLACE FUNCTION remember() RETURNS trigger AS $$
BEGIN INSERT INTO lease_history (key, epoch) VALUES (NEW.key, NEW.epoch); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER remember AFTER INSERT OR UPDATE ON leases FOR EACH ROW EXECUTE FUNCTION remember();
"""
_HOLDERS = """
SELECT a.application_name, count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = %s AND l.objid < %s GROUP BY 1
"""
_SETTLED = "SELECT name FROM testers WHERE phase = %s AND observed_generation = generation"


@dataclass
class Replica:
    """One process, and the files in which it writes down what it does."""

    number: int
    process: int
    folder: Path
    _read: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Each call that it has begun, as long as it could write."""
        return [told for told in self._told if "took" not in told]

    @property
    def takings(self) -> list[tuple[int, float]]:
        """Each lock of a lease that it has got, and when it knew: it had it by then."""
        return [(key, told["at"]) for told in self._told if "took" in told for key in told["took"]]

    @property
    def _told(self) -> list[dict[str, Any]]:
        """What is new is read: a crowd tells tens of thousands of things, and is asked again and again."""
        file = self.folder / f"calls-{self.number}"
        new = b""
        if file.exists():
            with file.open("rb") as opened:
                opened.seek(self._offset)
                new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._read += map(json.loads, whole.splitlines())
        return self._read

    @property
    def log(self) -> str:
        return (self.folder / f"log-{self.number}").read_text()

    def send(self, what: signal.Signals) -> None:
        os.kill(self.process, what)


@dataclass
class Replicas:
    """A world, its database, and the replicas that were ever begun."""

    world: World
    addresses: Addresses
    places: Places
    store: Store  # only to look
    folder: Path
    rhythm: Rhythm
    all: list[Replica] = field(default_factory=list)
    nurseries: dict[Path, asyncio.subprocess.Process] = field(default_factory=dict)

    async def begin(self, url: str = "", program: Path = OURS) -> Replica:
        number = len(self.all)
        told = {
            "folder": str(self.places.folder),
            "state": str(self.places.state),
            "url": url or self.places.url,
            "calls": str(self.folder / f"calls-{number}"),
            "log": str(self.folder / f"log-{number}"),
            **{part: getattr(self.rhythm, part).total_seconds() for part in ("lease", "beat", "margin")},
        }
        if program not in self.nurseries:
            self.nurseries[program] = await _nursery_of(program)
        nursery = self.nurseries[program]
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(f"{json.dumps(told)}\n".encode())
        process = int(await nursery.stdout.readline())
        self.all.append(Replica(number, process, self.folder))
        return self.all[-1]

    async def until(self, holds: Callable[[], Any], what: str, limit: float = LIMIT) -> None:
        """Poll an async condition; a failure says where everybody stands."""
        try:
            async with asyncio.timeout(limit):
                while not await holds():  # noqa: ASYNC110 - it is about other processes
                    await asyncio.sleep(0.2)
        except TimeoutError:
            logs = "\n".join(f"--- {each.number}\n{each.log[-3000:]}" for each in self.all)
            raise AssertionError(f"never came: {what}\n{await self.stand()}\n{logs}") from None

    async def stand(self) -> str:
        held = [f"{name}: {count}" for name, count in (await self.holders()).items()]
        late = [one for one in await self.store.testers() if one.phase is not Phase.READY]
        return "\n".join([*held, *(f"{one.name}: {one.phase} {one.progress}% {one.current}" for one in late[:50])])

    async def holders(self) -> dict[str, int]:
        """By replica: how many shards it holds, as the server says."""
        async with await psycopg.AsyncConnection.connect(self.places.url, autocommit=True) as admin:
            rows = await (await admin.execute(_HOLDERS, [LOCKS, SHARDS])).fetchall()
        return dict(rows)

    async def shared_by(self, count: int, limit: float = LIMIT) -> None:
        """Until so many replicas hold all shards between them, evenly."""

        async def holds() -> bool:
            held = (await self.holders()).values()
            return len(held) == count and sum(held) == SHARDS and max(held) - min(held) <= 1

        await self.until(holds, f"{count} replicas share everything", limit)

    async def ready(self, names: Iterable[str], limit: float = LIMIT) -> None:
        """Until these are Ready at their present generation."""
        wanted = set(names)

        async def holds() -> bool:
            async with await psycopg.AsyncConnection.connect(self.places.url, autocommit=True) as admin:
                rows = await (await admin.execute(_SETTLED, [Phase.READY.value])).fetchall()
            return wanted <= {name for (name,) in rows}

        await self.until(holds, f"{len(wanted)} testers Ready", limit)

    async def looked_at_again(self, limit: float = LIMIT) -> set[str]:
        """Wait until every machine has been looked at anew; those that were not within the limit nobody looks after."""
        before = self._looks()
        left = set(before)
        try:
            async with asyncio.timeout(limit):
                while left:
                    await asyncio.sleep(0.5)
                    now = self._looks()
                    left = {system for system in left if now[system] == before[system]}
        except TimeoutError:
            pass
        return left

    def _looks(self) -> Counter[str]:
        """How often each machine was asked for anything."""
        systems = (str(call["system"]) for each in self.all for call in each.calls)
        return Counter(system for system in systems if system.startswith("machine "))

    async def begun_too_late(self) -> list[dict[str, Any]]:
        """Calls that a replica began under a lease that had been taken by somebody else by then, ever."""
        async with await psycopg.AsyncConnection.connect(self.places.url, autocommit=True) as admin:
            rows = await (
                await admin.execute("SELECT key, epoch, extract(epoch FROM at) FROM lease_history")
            ).fetchall()
        raised = {(key, epoch): float(at) for key, epoch, at in rows}
        takings = [taking for replica in self.all for taking in replica.takings]
        return too_late(await self._begun(), raised, takings)

    async def _begun(self) -> list[dict[str, Any]]:
        """All calls, as told by those who began them."""
        return [{**call, "replica": replica.number} for replica in self.all for call in replica.calls]


def too_late(
    calls: Iterable[dict[str, Any]], raised: Mapping[tuple[int, int], float], takings: Iterable[tuple[int, float]]
) -> list[dict[str, Any]]:
    """Those of calls `under` a lease (key and epoch) that were begun `at` a moment after its lock had been taken by the next one.

    `raised`: when a lease's epoch was, which comes after its lock is taken; `takings`: of which key, and when at the latest.
    """
    moments: dict[int, list[float]] = {}
    for key, at in [*takings, *((key, at) for (key, _), at in raised.items())]:
        moments.setdefault(key, []).append(at)
    for each in moments.values():
        each.sort()
    found = []
    for call in calls:
        if call["under"] is None:
            continue  # it reads, and for nobody: no tester's call is let go without a lease
        key, epoch = call["under"]
        ours, others = raised[key, epoch], moments[key]
        later = bisect_right(others, ours)
        if later < len(others) and call["at"] > others[later]:
            found.append({**call, "late by": call["at"] - others[later]})
    return found


async def _nursery_of(program: Path) -> asyncio.subprocess.Process:
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.replicas.child", cwd=program, **pipes)


@asynccontextmanager
async def replicas_of(
    root: Path, url: str, testers: dict[str, dict[str, Any]], rhythm: Rhythm = QUICK, **fleet_spec: Any
) -> AsyncIterator[Replicas]:
    """A world, a folder of specs and a database; replicas are begun by the test."""
    async with serving_world(root, testers, **fleet_spec) as (world, addresses, served):
        places = Places(served.folder, served.state, url)
        async with opened_store(places, SystemClock()) as store:
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute(HISTORY)
            fleet = Replicas(world, addresses, places, store, root, rhythm)
            try:
                yield fleet
            finally:
                for replica in fleet.all:
                    for what in (signal.SIGCONT, signal.SIGKILL):
                        try:
                            replica.send(what)
                        except ProcessLookupError:
                            break
                for nursery in fleet.nurseries.values():
                    nursery.kill()
                    await nursery.wait()
