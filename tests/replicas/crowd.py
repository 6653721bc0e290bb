"""Replicas under faults at the size of a fleet: real processes, a real PostgreSQL, and a world that bears hundreds of testers.

    python -m tests.replicas.crowd [--testers 200] [--replicas 3] [--faults 12] [--seed 1] [--speed 60] [--seconds 0]
        [--keep FOLDER]

While all testers come up, and specs are added, edited and removed, whatever may befall replicas befalls them, drawn from the
seed: kill -9, SIGSTOP for longer and for less than the lease, cut off from the database by a relay, SIGTERM, sessions ended by
the server, and the server itself restarted, as after a crash and in order. In the end everybody is Ready, everything was made
once, no mail was sent twice, no door ever stood open, nobody is forgotten, and no call was begun by a replica after the
database had given its lease to another.

With `--seconds` it ends before the end: what befalls them goes on for so long, and only what must never have been is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import yaml
from sqlalchemy import make_url

from controller.places import Places, opened_store
from controller.records import Phase
from controller.replicas.shares import Rhythm
from examples.simulator.server import Addresses
from reconcilers.clock import SystemClock
from tests.e2e.rig import ENGINES_AND_MAIL, SYSTEMS, TIMING, fleet_document, tester_document
from tests.postgres import Postgres, serving_postgres
from tests.reconcilers.data import merged
from tests.replicas.crowd_world import Somewhere
from tests.replicas.fleet import HISTORY, OURS, Replica, Replicas
from tests.replicas.relay import Relay, relay
from tests.worlds.files import prepared

CREATES = ("/api/v1/admin/users", "/api/v1/user/applications/oauth2", "deploy_vm", "deploy_webgateway")
AT_LEISURE = {
    "resync": "60s",
    "poll": "2s",
    "lookAge": "5s",
    "listingGrace": "2s",
    "deployLimit": "60s",
    "gatewayLimit": "60s",
    "reachableLimit": "5m",
    "installLimit": "5m",
    "proofLimit": "2m",
    "backoffBase": "500ms",
    "backoffCeiling": "5s",
}
LIMIT = 32  # calls in flight at each system
FORGOTTEN = 120.0  # real seconds: two resyncs


@dataclass
class Crowd(Replicas):
    """Replicas over a world that is somewhere, each behind a relay of its own."""

    somewhere: Somewhere = field(kw_only=True)
    postgres: Postgres = field(kw_only=True)
    stack: AsyncExitStack = field(kw_only=True)
    nursery: asyncio.subprocess.Process = field(kw_only=True)
    chance: random.Random = field(kw_only=True)
    living: dict[int, Relay] = field(default_factory=dict)  # by number
    wanted: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)

    async def begin(self, url: str = "", program: Path = OURS) -> Replica:
        cut = await self.stack.enter_async_context(relay(self.postgres.socket))
        far = make_url(self.places.url).set(host="127.0.0.1", port=cut.port, query={})
        number = len(self.all)
        told = {
            "folder": str(self.places.folder),
            "state": str(self.places.state),
            "url": far.render_as_string(hide_password=False),
            "calls": str(self.folder / f"calls-{number}"),
            "log": str(self.folder / f"log-{number}"),
            "world": str(self.somewhere.socket),
            "systems": self.somewhere.systems,
            **{part: getattr(self.rhythm, part).total_seconds() for part in ("lease", "beat", "margin")},
        }
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(f"{json.dumps(told)}\n".encode())
        self.all.append(Replica(number, int(await self.nursery.stdout.readline()), self.folder))
        self.living[number] = cut
        return self.all[-1]

    # -- specs

    def write(self, name: str, **spec: Any) -> None:
        path = self.places.folder / f"{name}.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(tester_document(name, **spec), sort_keys=False))
        fresh.rename(path)
        self.wanted.add(name)

    def people_change(self) -> None:
        """Some are edited, one is added, one is removed."""
        for name in self.chance.sample(sorted(self.wanted), min(3, len(self.wanted))):
            self.write(name, allowlist=[self.chance.choice(("bob", "carol", "dave"))])
            self.told["edited"] += 1
        self.write(f"new{self.told['added']}")
        self.told["added"] += 1
        gone = self.chance.choice(sorted(self.wanted))
        (self.places.folder / f"{gone}.yaml").unlink()
        self.wanted.discard(gone)
        self.removed.add(gone)
        self.told["removed"] += 1

    # -- faults

    async def something_befalls_somebody(self) -> str:
        """One fault, for as long as it takes, and its end."""
        await self.bury_who_could_not_begin()
        number = self.chance.choice(sorted(self.living))
        one, way, lease = self.all[number], self.living[number], self.rhythm.lease.total_seconds()
        longer, shorter = lease + self.chance.uniform(1, 12), self.chance.uniform(0.5, lease - 1.5)
        faults: dict[str, Callable[[], Awaitable[object]]] = {
            "killed": lambda: self._ends(one, signal.SIGKILL),
            "told to end": lambda: self._ends(one, signal.SIGTERM),
            "stopped for longer than the lease": lambda: self._is_stopped(one, longer),
            "stopped for less than the lease": lambda: self._is_stopped(one, shorter),
            "cut off for longer than the lease": lambda: self._is_cut_off(way, longer),
            "cut off for less than the lease": lambda: self._is_cut_off(way, shorter),
            "PostgreSQL restarted at once": lambda: asyncio.to_thread(self.postgres.restart),
            "PostgreSQL restarted in order": lambda: asyncio.to_thread(self.postgres.restart, "fast"),
            "some sessions ended by the server": self._sessions_end,
        }
        what = self.chance.choice(sorted(faults))
        self.told[what] += 1
        await faults[what]()
        return f"replica {number}: {what}"

    async def bury_who_could_not_begin(self) -> None:
        """Who is befallen by something before it has opened its store says so, and ends: it is begun again, as a supervisor
        would. Whoever ends by itself later has a mistake."""
        for number in sorted(self.living):
            if not Path(f"/proc/{self.all[number].process}").exists():
                assert " works on " not in self.all[number].log, self.all[number].log[-5000:]
                self.told["could not begin"] += 1
                del self.living[number]
                await self.begin()

    async def holders(self) -> dict[str, int]:
        """Whoever waits for some to share everything would wait for ever for one that has ended while it began."""
        await self.bury_who_could_not_begin()
        return await super().holders()

    async def _ends(self, one: Replica, how: signal.Signals) -> None:
        one.send(how)
        del self.living[one.number]
        await asyncio.sleep(self.chance.choice((0, 1, 8)))
        await self.begin()

    async def _is_stopped(self, one: Replica, seconds: float) -> None:
        one.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        one.send(signal.SIGCONT)

    async def _is_cut_off(self, way: Relay, seconds: float) -> None:
        way.open.clear()
        await asyncio.sleep(seconds)
        way.open.set()

    async def _sessions_end(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.places.url, autocommit=True) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE random() < 0.3 AND pid <> pg_backend_pid() "
                "AND application_name LIKE 'tester-controller%'"
            )

    # -- how it stands

    async def stands(self) -> str:
        records = [record for record in await self.store.testers() if record.name in self.wanted]
        ready = sum(one.phase is Phase.READY for one in records)
        log, violations, asked = await self.somewhere.ask(
            lambda: (
                len(self.somewhere.world.log),
                len(self.somewhere.world.violations),
                len(self.somewhere.counters.begun),
            )
        )
        late = len(await self.begun_too_late())
        return (
            f"{ready} of {len(self.wanted)} Ready, {asked} calls ({log} seen by the world), {late} begun too late, "
            f"{violations} violations"
        )

    async def _begun(self) -> list[dict[str, Any]]:
        """As those who began them tell, who may have been stopped before they could send them; and as the world has seen them."""
        seen = await self.somewhere.ask(lambda: list(self.somewhere.counters.begun))
        return [*await super()._begun(), *seen]

    async def gone(self, limit: float) -> None:
        async def holds() -> bool:
            return not self.removed & set(await self.store.names())

        await self.until(holds, f"{len(self.removed)} testers gone", limit)

    def _looks(self) -> Counter[str]:
        """Of machines that stand."""
        standing = {f"machine {key}" for key in self.somewhere.world.machines}
        return Counter({system: count for system, count in super()._looks().items() if system in standing})

    async def takings(self) -> int:
        async with await psycopg.AsyncConnection.connect(self.places.url, autocommit=True) as admin:
            row = await (await admin.execute("SELECT count(*) FROM lease_history")).fetchone()
        return int(row[0]) if row else 0

    async def what_must_never_be(self) -> list[str]:
        found = [f"begun too late: {call}" for call in await self.begun_too_late()]
        return found + await self.somewhere.ask(self._wrongs)

    def _wrongs(self) -> list[str]:
        """Of the world's."""
        made, mails, ever = self._made(), self._mails(), len(self.wanted | self.removed)
        found = [f"violation: {each}" for each in self.somewhere.world.books()["violations"]]
        found += [f"{made[kind]} times {kind} for {ever} testers" for kind in CREATES if made[kind] > ever]
        found += [f"{count} mails to {to}" for to, count in mails.items() if count > 1]
        most = self.somewhere.counters.most.items()
        return found + [f"{count} calls at once at {what}" for what, count in most if what and count > LIMIT]

    def what_is_missing(self) -> list[str]:
        """When everybody is Ready, and who was removed is gone. Asked in the world's thread."""
        books, many, made, mails = self.somewhere.world.books(), len(self.wanted), self._made(), self._mails()
        stands = {kind: books[kind] for kind in ("vms", "gateways")} | {"apps": len(books["apps"])}
        found = [f"{count} {kind} stand for {many} testers" for kind, count in stands.items() if count != many]
        found += [f"{made[kind]} times {kind} for {many} testers" for kind in CREATES if made[kind] < many]
        return found + [f"no mail to {name}" for name in sorted(self.wanted) if not mails[f"{name}@example.org"]]

    def _made(self) -> Counter[str]:
        """How many of each kind, ever."""
        writes = self.somewhere.world.log.writes()
        done = [one for one in writes if one.status < 300 and one.method not in ("PATCH", "DELETE")]
        return Counter(kind for one in done for kind in CREATES if kind in f"{one.method} {one.what}")

    def _mails(self) -> Counter[str]:
        return Counter(to for mail in self.somewhere.world.books()["mailbox"] for to in mail["to"])


def _fleet(addresses: Addresses, **over: Any) -> dict[str, Any]:
    document = fleet_document(addresses, **ENGINES_AND_MAIL)
    usual = {key: value for key, value in document["spec"].items() if key != "network"}
    limits = {system: {"inFlight": LIMIT, "perSecond": 500} for system in SYSTEMS}
    given = {"componentSets": {"demo": ["hero_books"]}, "timing": {**TIMING, **AT_LEISURE}, "limits": limits}
    return {**document, "spec": merged(merged(usual, given), {"safety": {"maxRemovals": 10}, **over})}


@asynccontextmanager
async def crowd_of(root: Path, testers: int, seed: int, speed: float, **fleet: Any) -> AsyncIterator[Crowd]:
    """A world, specs and a PostgreSQL; replicas are begun by whoever wants them."""
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(serving_postgres())
        somewhere = stack.enter_context(Somewhere(root, seed, speed).living())
        places = Places(root / "fleet", root / "state", postgres.uri)
        places.folder.mkdir()
        prepared(places)
        (places.folder / "fleet.yaml").write_text(yaml.safe_dump(_fleet(somewhere.addresses, **fleet)))
        store = await stack.enter_async_context(opened_store(places, SystemClock()))
        with psycopg.connect(places.url, autocommit=True) as admin:
            admin.execute(HISTORY)
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        nursery = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.replicas.crowd_child", cwd=OURS, **pipes
        )
        given = {"somewhere": somewhere, "postgres": postgres, "stack": stack, "nursery": nursery}
        crowd = Crowd(
            somewhere.world, somewhere.addresses, places, store, root, Rhythm(), chance=random.Random(seed), **given
        )
        for number in range(testers):
            crowd.write(f"t{number}")
        try:
            yield crowd
        finally:
            for replica in crowd.all:
                for what in (signal.SIGCONT, signal.SIGKILL):
                    try:
                        replica.send(what)
                    except ProcessLookupError:
                        break
            nursery.kill()
            await nursery.wait()


# ---------------------------------------------------------------------------------------------------- one run


async def all_befalls_them(
    crowd: Crowd, replicas: int, faults: int, limit: float, say: Callable[[str], None]
) -> list[str]:
    """What was not as it must be. Raises AssertionError when somebody does not come up."""
    for _ in range(replicas):
        await crowd.begin()
    for number in range(faults):
        await asyncio.sleep(crowd.chance.uniform(0, 10))
        if number % 2:
            crowd.people_change()
        told = await crowd.something_befalls_somebody()
        say(f"{told}; {await crowd.stands()}")
    await crowd.shared_by(replicas, limit)
    say(f"all of it is over; {await crowd.stands()}")
    await asyncio.sleep(2 * crowd.rhythm.lease.total_seconds())
    await crowd.somewhere.ask(lambda: setattr(crowd.somewhere.counters, "calm", True))
    await crowd.ready(crowd.wanted, limit)
    await crowd.gone(limit)
    say(f"everybody is Ready; {await crowd.stands()}")
    forgotten = await crowd.looked_at_again(max(limit, FORGOTTEN))
    found = [f"nobody looks after {each}" for each in sorted(forgotten)]
    found += [f"never ended: {entry}" for entry in await crowd.store.unfinished()]
    found += await crowd.what_must_never_be()
    return found + await crowd.somewhere.ask(crowd.what_is_missing)


async def some_befalls_them(crowd: Crowd, replicas: int, seconds: float, say: Callable[[str], None]) -> list[str]:
    """For so long; what must never have been by then. Who is on the way is left there."""
    for _ in range(replicas):
        await crowd.begin()
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(crowd.chance.uniform(0, 10))
        crowd.people_change()
        told = await crowd.something_befalls_somebody()
        say(f"{told}; {await crowd.stands()}")
    await crowd.bury_who_could_not_begin()
    return await crowd.what_must_never_be()


async def main(asked: argparse.Namespace) -> list[str]:
    root = Path(asked.keep or tempfile.mkdtemp(prefix="crowd-"))
    root.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    try:
        async with crowd_of(root, asked.testers, asked.seed, asked.speed) as crowd:
            if asked.seconds:
                found = await some_befalls_them(crowd, asked.replicas, asked.seconds, say)
            else:
                found = await all_befalls_them(crowd, asked.replicas, asked.faults, asked.limit, say)
            most = {what: count for what, count in crowd.somewhere.counters.most.items() if what}
            say(f"{dict(crowd.told)}; leases taken {await crowd.takings()} times; most calls at once when calm: {most}")
            late = [call["late by"] for call in await crowd.begun_too_late()]
            say(f"calls begun too late: {len(late)}; wrong: {found or 'nothing'}")
        return found
    finally:
        if not asked.keep:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--testers", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=0, help="end after so many, whoever is on the way")
    parser.add_argument("--limit", type=float, default=1800, help="seconds to wait for anything")
    parser.add_argument("--keep", default="", help="a folder in which logs stay")
    sys.exit(1 if asyncio.run(main(parser.parse_args())) else 0)
