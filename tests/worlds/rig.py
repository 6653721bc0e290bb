"""The whole controller in virtual time, against the simulator in-process: weeks in seconds, the same for the same seed.

    @in_virtual_time
    async def test_lesson_10_a_machine_that_is_slow_to_answer_is_waited_for(tmp_path: Path) -> None:
        slow = {"system": "compute", "method": "deploy_vm", "kind": "slow_network", "options": {"seconds": 900}}
        async with world(tmp_path, ["alice"], faults=[slow]) as w:
            await w.ready("alice", within=timedelta(hours=1))
            assert w.books()["vms"] == 1

Everything of ours is the real thing: controller, SQLite store, clients with their gates and limits, with the Fleet's usual
timings. Only where a socket would be opened the world's own objects stand: `wire.WorldTransport` under the HTTP clients,
`machine.WorldMachines` for the machines. Latencies are the simulator's. Engines and mail by Resend are there unless `fleet`
says otherwise.

    world(root, testers, seed=1, faults=(), fleet=None, daemons=1)
        testers   names, or name → fields of the spec
        faults    for `world.drift.add_fault`; `at` and `until` may be given as timedeltas from the start
        fleet     laid over the Fleet's spec, mapping by mapping: {"safety": {"maxLost": 0}}

    w.world, w.yard               the simulator (w.world.drift does harm), and what is on its machines (w.yard.named(vm))
    w.controller, w.store         of the present life
    w.clock, w.elapsed            UTC now as the controller has it (`w.clock.offset`: wrong by so much); the time since the start
    w.disk                        what the store lies on
    w.hooks                       backends' CallHooks, also for later lives; w.store.hooks are the store's
    w.write(name, **spec)         a tester's file; w.edit(name, **spec) lays over what it says; w.remove(name)
    w.write_fleet(**spec)         the Fleet anew, laid over what it says
    await w.ready(*names, within=…)     all Ready at their present generation
    await w.gone(*names, within=…)      no row is left of them
    await w.until(cond, what, within)   cond may be a coroutine function; asked whenever something happened
    await w.settled(within=…)           two passes over everybody without news: no writing call, no commit but of proofs
    await w.run_for(span)
    w.kill(), await w.stop(), await w.start(), await w.restart(graceful=False)
    w.books(), w.writes(since=0), w.vm(name), w.fqdn(name), await w.sign_in(name, user)
    await w.events(name), await w.conditions(name), await w.report(), await w.trace()

`until` and its kin raise AssertionError with a report on where everybody stands when their time is over. The world's
violations (an open door, a second mail, …) are raised at the end of the block; `w.excuse(kind)` expects one.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import yaml

from controller.fresh import FreshenFacts
from controller.intake import Revision, Taken
from controller.places import Places
from controller.records import Change, Condition, Event, Phase, TesterRecord
from controller.rests import PutRest
from controller.running import Controller
from controller.store import KeySource, Store
from examples.simulator.log import Entry
from examples.simulator.signin import COCKPIT, walk
from examples.simulator.world import World
from reconcilers.backends.limits import CallHook
from reconcilers.backends.opening import Options
from tests.e2e.rig import ENGINES_AND_MAIL, fleet_document, tester_document
from tests.reconcilers.data import merged
from tests.worlds.addresses import addresses_of
from tests.worlds.files import Disk, Writer, hurried, prepared
from tests.worlds.ground import Yard
from tests.worlds.loop import START, Life, VirtualClock, VirtualWorldClock
from tests.worlds.options import options_of
from tests.worlds.source import QuietFolder, by_clock
from tests.worlds.trace import trace_of
from tests.worlds.wire import WorldTransport

TICK = timedelta(seconds=1)
LOOKED_AGAIN = timedelta(seconds=30)  # conditions on the world itself may change though nothing happens
PATIENCE = timedelta(hours=2)
QUIET = (FreshenFacts, PutRest)  # written now and then though nothing is another than it was (law 8)
REAL_ONLY = ("network", "timing", "limits")
"""Parts of the end-to-end tests' Fleet that are there for sockets and real seconds."""

Spec = Mapping[str, Any]


class Rig:
    """A world with a controller; see the module."""

    def __init__(self, root: Path, seed: int, daemons: int) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self._time = VirtualClock()
        self.world = World(seed=seed, daemons=daemons, clock=VirtualWorldClock())
        self.yard = Yard(self.world)
        self.places = Places(root / "fleet", root / "state")
        self.disk = Disk(self.places)
        self.hooks: list[CallHook] = []
        self.lives = 0
        self.controller: Controller
        self.store: Store
        self._life: Life | None = None
        self._writer: Writer
        self._running: asyncio.Task[None] | None = None
        self._transport = WorldTransport(self.world)
        self._excused: set[str] = set()
        self._taken: Mapping[str, str] = {}  # the files of the last reading that was taken in
        self._begun = self._time.now()
        self.addresses = addresses_of(self.world, root)

    # -- the folder

    def write(self, name: str, **spec: Any) -> None:
        """A tester's file, whole."""
        self._save(name, tester_document(name, **spec))

    def edit(self, name: str, **spec: Any) -> None:
        """A tester's file with this laid over what it says."""
        self._save(name, merged(self._document(name), {"spec": spec}))

    def write_fleet(self, **spec: Any) -> None:
        """The Fleet with this laid over what it says."""
        self._save("fleet", merged(self._document("fleet"), {"spec": spec}))

    def remove(self, name: str) -> None:
        (self.places.folder / f"{name}.yaml").unlink()
        self.rescan()

    def rescan(self) -> None:
        """The folder, and whatever its secrets refer to, is read now."""
        if self._life is not None and isinstance(self.controller.source, QuietFolder):
            self.controller.source.changed()

    def _document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.places.folder / f"{name}.yaml").read_text())
        return found

    def _save(self, name: str, document: Mapping[str, Any]) -> None:
        (self.places.folder / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        self.rescan()

    # -- lives

    async def start(self) -> None:
        """A new life of the controller on the same state."""
        self.lives += 1
        life = self._life = Life()
        self.store = await life.run(self._opened())
        self.controller = Controller(
            self.places,
            self.store,
            self.clock,
            random.Random(f"{self.seed}/{self.lives}"),
            options=self.options(),
            source_of=QuietFolder,
            timetable=by_clock,
        )
        self._taken = {}
        self.controller.listeners.append(self._took)
        self._running = life.run(self.controller.run())

    def _took(self, revision: Revision, _: Taken) -> None:
        self._taken = revision.loaded.files

    def _all_taken_in(self) -> bool:
        """The folder as it is now was taken in, in this life."""
        files = self.places.folder.glob("*.yaml")
        return self._taken == {each.name: sha256(each.read_bytes()).hexdigest() for each in files}

    async def _opened(self) -> Store:
        store = await Store.open(self.places.url, KeySource({}, self.places.key_file), self.clock)
        self._writer = hurried(store, self.disk)
        return store

    def options(self) -> Options:
        """Whatever opens clients upon this world."""
        return options_of(self.yard, self._transport, self.hooks)

    def kill(self) -> None:
        """Kill -9: not one more line of the controller runs; what it had asked the world for is done all the same."""
        if self._life is not None:
            self._life.end()
            self._writer.let_go()
            self._life = self._running = None

    async def stop(self) -> None:
        """As SIGTERM does. Raises what the controller raised."""
        if self._life is None or self._running is None:
            return
        self.controller.stop.set()
        try:
            await self._running
        finally:
            await self.store.aclose()
            self._life = self._running = None

    async def restart(self, *, graceful: bool = False) -> None:
        """End this life and begin another one."""
        if graceful:
            await self.stop()
        else:
            self.kill()
        await self.start()

    # -- waiting

    @property
    def elapsed(self) -> timedelta:
        return self._time.now() - self._begun

    async def run_for(self, span: timedelta) -> None:
        await self.clock.sleep(span)

    async def until(self, cond: Callable[[], Any], what: str = "it", within: timedelta = PATIENCE) -> None:
        """Until `cond`, a function or a coroutine function, holds."""
        limit = self._time.now() + within
        while True:
            holds = cond()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            if self._time.now() >= limit:
                raise AssertionError(f"never came within {within}: {what}\n{await self.report()}")
            await self._news(limit)

    async def _news(self, limit: datetime) -> None:
        """Until something has happened: a commit, a call, or a while."""
        before = (self.store.commits, len(self.world.log), self.controller.engine.passes)
        again = min(limit, self._time.now() + LOOKED_AGAIN)
        while self._time.now() < again:
            await self.clock.sleep(TICK)
            if self._running is not None and self._running.done():
                self._running.result()
                raise AssertionError("the controller ended by itself")
            if (self.store.commits, len(self.world.log), self.controller.engine.passes) != before:
                return

    async def ready(self, *names: str, within: timedelta = PATIENCE) -> None:
        """Until these testers are Ready at their present generation, and their files have been taken in."""

        def holds(records: dict[str, TesterRecord]) -> bool:
            return self._all_taken_in() and all(
                name in records
                and records[name].phase is Phase.READY
                and records[name].observed_generation == records[name].generation
                for name in names
            )

        await self.until(self._of_the_books(holds), f"{', '.join(names)} Ready", within)

    async def gone(self, *names: str, within: timedelta = PATIENCE) -> None:
        """Until nothing of these testers is left in our books."""

        def holds(records: dict[str, TesterRecord]) -> bool:
            return not set(names) & set(records)

        await self.until(self._of_the_books(holds), f"{', '.join(names)} gone", within)

    def _of_the_books(self, holds: Callable[[dict[str, TesterRecord]], bool]) -> Callable[[], Awaitable[bool]]:
        """A condition on our own books: read again only when something was committed or taken in."""
        seen: tuple[Store | None, int, Mapping[str, str]] = (None, -1, {})

        async def changed() -> bool:
            nonlocal seen
            before, seen = seen, (self.store, self.store.commits, self._taken)
            return seen != before and holds({record.name: record for record in await self.store.testers()})

        return changed

    async def settled(self, within: timedelta = PATIENCE) -> None:
        """Until two passes over everybody have gone by without a writing call, and without a commit but of who rests and
        when something was last proven: each proof has its own time, so that hardly two passes in a row may go by without one."""
        count = len(await self.store.testers())
        news, before, passes = 0, (-1, -1), 0

        def committed(changes: tuple[Change, ...]) -> None:
            nonlocal news
            news += not all(isinstance(change, QUIET) for change in changes)

        def holds() -> bool:
            nonlocal before, passes
            now = (news, len(self.writes()))
            if now != before:
                before, passes = now, self.controller.engine.passes
            return self.controller.engine.passes >= passes + 2 * count

        self.store.listeners.append(committed)
        await self.until(holds, "rest", within)
        self.store.listeners.remove(committed)

    # -- looking

    def books(self) -> dict[str, Any]:
        return self.world.books()

    def writes(self, since: int = 0) -> list[Entry]:
        """Every writing call that the world has seen, after entry number `since` of its log."""
        return self.world.log.writes(since)

    def vm(self, name: str) -> str:
        """The VM of a tester that has exactly one."""
        (found,) = [
            vm.name for one in self.world.state.daemons.values() for vm in one.vms.values() if _of(vm.name, name)
        ]
        return found

    def fqdn(self, name: str) -> str:
        """The public name of a tester that has exactly one."""
        (found,) = [gateway.fqdn for _, gateway in self.world.grid.gateways() if gateway.name.startswith(name)]
        return found

    async def sign_in(self, name: str, user: str, path: str = COCKPIT) -> tuple[int, str]:
        """Where a person ends up who opens the tester's address as this account of Forge: (status, text)."""
        async with (
            httpx.AsyncClient(transport=self._transport) as public,
            httpx.AsyncClient(transport=self._transport, headers={"X-Sim-User": user}) as forge,
        ):
            return await walk(public, forge, self.world.realm.forge_url, f"https://{self.fqdn(name)}{path}")

    async def events(self, name: str | None = None) -> list[Event]:
        """Oldest first."""
        return list(reversed(await self.store.events(name, limit=100_000)))

    async def conditions(self, name: str) -> dict[str, Condition]:
        """By type."""
        return {condition.type: condition for condition in await self.store.conditions(name)}

    async def report(self) -> str:
        """Where everybody stands."""
        lines = []
        for record in await self.store.testers():
            lines.append(f"{record.name}: {record.phase} {record.progress}% {record.current}")
            conditions = (await self.conditions(record.name)).values()
            lines += [f"    {each.type}: {each.status} {each.reason}: {each.message}" for each in conditions]
            lines += [
                f"    +{each.at - self._begun} {each.reason}: {each.message[:300]}"
                for each in (await self.events(record.name))[-25:]
            ]
        return "\n".join(lines)

    async def trace(self) -> str:
        """Everything that happened, in order, with virtual times: calls, events, journal. Without any secret."""
        return await trace_of(self.world, self.store, self._begun)

    def excuse(self, kind: str) -> None:
        """A violation of the world that this test expects."""
        self._excused.add(kind)

    def check(self) -> None:
        """Raises AssertionError for what must never be true in the world, and was."""
        found = [f"{one.kind}: {one.what}" for one in self.world.violations if one.kind not in self._excused]
        assert not found, found


def _of(vm: str, tester: str) -> bool:
    return vm.startswith(f"{tester}_")


def _fleet(rig: Rig, over: Spec) -> dict[str, Any]:
    document = fleet_document(rig.addresses, **ENGINES_AND_MAIL)
    usual = {key: value for key, value in document["spec"].items() if key not in REAL_ONLY}
    return {**document, "spec": merged(usual, over)}


def _fault(rig: Rig, fault: Spec) -> dict[str, Any]:
    start = rig.world.clock.now()
    return {
        key: start + value.total_seconds() if isinstance(value, timedelta) else value for key, value in fault.items()
    }


@asynccontextmanager
async def world(
    root: Path,
    testers: Mapping[str, Spec] | Iterable[str],
    *,
    seed: int = 1,
    faults: Iterable[Spec] = (),
    fleet: Spec | None = None,
    daemons: int = 1,
) -> AsyncIterator[Rig]:
    """A world, a folder of specs, and a controller that keeps it; see the module."""
    root.mkdir(parents=True, exist_ok=True)
    rig = Rig(root, seed, daemons)
    rig.places.folder.mkdir(parents=True)
    prepared(rig.places)
    for fault in faults:
        rig.world.drift.add_fault(**_fault(rig, fault))
    rig._save("fleet", _fleet(rig, fleet or {}))
    specs = testers if isinstance(testers, Mapping) else {name: {} for name in testers}
    for name, spec in specs.items():
        rig.write(name, **spec)
    await rig.start()
    try:
        yield rig
    except BaseException:
        rig.kill()
        raise
    await rig.stop()
    rig.check()


__all__ = ["START", "Rig", "world"]
