"""The calls: never more of them than a backend's limit, and no writing one while nothing differs.

**TooManyAtOnce, TooFast.** Counted where the wire begins, below the gate. Each Fleet opens its wires anew, and a new process
begins with an empty bucket. A daemon has four of them, one for each kind of slow call and one for the rest (decision 0015), and
each of them the limits of `spec.limits.compute`: one meter counts all of them, with `WIRES` times as much. A second's calls may
come at once, then the mean holds, as the Fleet's documentation says. Machines are counted at their one gate: they have no wire.

**WroteForNothing.** A pass that ends with its tester Ready leaves a picture of all that the world has of the tester, and of what
its spec, the Fleet and the day ask for. A write that is begun for that tester while the picture is the same has no reason: at
once when two passes had left that picture and none had written, else the second time in a row (one pass may have looked
just before somebody did harm). Allowances: where something lied since, or just before, the controller may have been told of a
difference that there is not (what mail says concerns letters only); and of a release that was published it hears late, within
`releasesEvery` and a resync, and then installs a component.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from controller.records import JournalEntry, Phase
from examples.simulator.world import AUTHORISED, World
from reconcilers.backends.compute import LANES
from reconcilers.backends.limits import Call, CallHook, Gate
from reconcilers.backends.machine import Machines
from reconcilers.backends.opening import Options
from reconcilers.facts import ObjectState
from reconcilers.secret import Secret
from specs.fleet import BackendLimit, Limits

if TYPE_CHECKING:
    from tests.worlds.watch import Watch

ROUNDING = 1e-6  # calls
A_MINUTE = timedelta(minutes=1)
WIRES = {"compute": 1 + len(LANES)}
"""System → how many wires a client of it has, if more than one."""
TELLERS = ("forge", "compute", "machine", "engine")
INSTALLING = frozenset({"supervisor", "front_door", "components"})
"""The steps that install what was released."""


# ------------------------------------------------------------------------------------------------ limits


@dataclass
class Meter:
    """One client: how many calls are under way, and how full its bucket is. The controller's own count is not asked."""

    watch: Watch
    system: str
    limit: BackendLimit
    wires: int = 1
    under_way: int = 0
    level: float = 0.0
    at: float | None = None

    def begin(self) -> None:
        now = asyncio.get_running_loop().time()  # our clock may be set back
        in_flight, per_second = self.limit.in_flight * self.wires, self.limit.per_second * self.wires
        if self.at is not None:
            self.level = max(0.0, self.level - (now - self.at) * per_second)
        self.at, self.level, self.under_way = now, self.level + 1, self.under_way + 1
        if self.under_way > in_flight:
            text = f"{self.under_way} calls at {self.system} at once, {in_flight} are allowed"
            self.watch.violated("TooManyAtOnce", self.system, text)
        if self.level > per_second + ROUNDING:
            text = f"more than {per_second} calls a second at {self.system}"
            self.watch.violated("TooFast", self.system, text)

    def end(self) -> None:
        self.under_way -= 1


class MeteredTransport(httpx.AsyncBaseTransport):
    """A wire of its own upon the world's one transport. `deleted` is told of every machine that a daemon is asked to delete."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, meter: Meter, deleted: Callable[[str], None] | None = None
    ) -> None:
        self._inner = inner
        self._meter = meter
        self._deleted = deleted

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._meter.begin()
        if self._deleted is not None and b"delete_vm" in request.content:
            self._deleted(json.loads(request.content)["params"]["sid"])
        try:
            return await self._inner.handle_async_request(request)
        finally:
            self._meter.end()


class MeteredGate:
    """A hook on the machines' gate."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def before(self, call: Call) -> None:
        self._meter.begin()

    async def after(self, call: Call, failure: BaseException | None) -> None:
        self._meter.end()


class AndMeter(Sequence[CallHook]):
    """A gate's hooks, of which others are still to come, and the meter behind them."""

    def __init__(self, hooks: Sequence[CallHook], meter: MeteredGate) -> None:
        self._hooks = hooks
        self._meter = meter

    def __getitem__(self, index: Any) -> Any:
        return [*self._hooks, self._meter][index]

    def __len__(self) -> int:
        return len(self._hooks) + 1


class Wires(Mapping[str, httpx.AsyncBaseTransport]):
    """Transports by name; whoever asks for one gets a wire of its own, and as many as a client has share its meter."""

    def __init__(self, inner: Mapping[str, httpx.AsyncBaseTransport], watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._given: dict[str, tuple[Meter, int]] = {}  # the meter of the last client, and how many wires it has

    def __getitem__(self, name: str) -> httpx.AsyncBaseTransport:
        system, _, which = name.partition(" ")
        deleted = partial(self._watch.things.deleting, which) if system == "compute" else None
        return MeteredTransport(self._inner[name], self._meter(name, system), deleted)

    def _meter(self, name: str, system: str) -> Meter:
        wires = WIRES.get(system, 1)
        meter, given = self._given.get(name, (None, wires))
        if meter is None or given == wires:
            limit: BackendLimit = getattr(_limits(self._watch), system)
            meter, given = Meter(self._watch, name, limit, wires), 0
        self._given[name] = meter, given + 1
        return meter

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


class Calls:
    """Puts a meter at every wire that a life opens from now on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def counted(self, options: Options) -> Options:
        machines = options.machines
        assert machines is not None

        def metered(key: Secret, gate: Gate, places: int) -> Machines:
            meter = MeteredGate(Meter(self._watch, "machines", _limits(self._watch).machine))
            gate.hooks = AndMeter(gate.hooks, meter)
            made = machines(key, gate, places)
            made.answer = self._watch.looking(made.answer)  # type: ignore[method-assign]
            return made

        return replace(options, transports=Wires(options.transports, self._watch), machines=metered)


def _limits(watch: Watch) -> Limits:
    """As the books have the Fleet: it is written down before anything is opened for it."""
    return watch.books.fleet.spec.limits if watch.books.fleet is not None else Limits()


# ------------------------------------------------------------------------------------------------ quiet


@dataclass(frozen=True)
class _Picture:
    """`lasting`: the pass before this one left the same, and this one began later than what it saw may be old."""

    of: object
    at: datetime
    lasting: bool


class Quiet:
    """See the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._begun: dict[str, int] = {}  # writes, by tester
        self._pictures: dict[str, _Picture] = {}
        self._strikes: dict[str, int] = {}  # passes in a row that wrote without a difference
        self._released = self._releases()
        self._released_at: datetime | None = None

    def begun_of(self, tester: str) -> int:
        return self._begun.get(tester, 0)

    def begun(self, entry: JournalEntry) -> None:
        watch, name = self._watch, entry.tester
        watch.things.begun(entry)
        self._begun[name] = self.begun_of(name) + 1
        left = self._pictures.pop(name, None)
        if left is None:
            return
        if self._may_be_news(left, entry) or left.of != self._picture(name):
            self._strikes[name] = 0
            return
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if left.lasting or self._strikes[name] > 1:
            text = f"{entry.verb} {entry.target} of {name} ({entry.detail[:200]}), and nothing differs"
            watch.violated("WroteForNothing", f"{name} {watch.now()}", text)

    def _may_be_news(self, left: _Picture, entry: JournalEntry) -> bool:
        """Whether the controller may have heard only now of something that was so before."""
        watch, timing = self._watch, self._watch.timing
        self._look_at_releases()
        if watch.lied_since(left.at - timing.look_age, *TELLERS, *(("mail",) if entry.step == "welcome" else ())):
            return True
        if self._released_at is None or entry.step not in INSTALLING:
            return False
        return watch.now() - self._released_at < timing.releases_every + timing.resync + A_MINUTE

    def passed(self, tester: str, began: datetime, writes_before: int) -> None:
        watch, before = self._watch, self._pictures.pop(tester, None)
        record = watch.books.testers.get(tester)
        self._look_at_releases()
        if record is None or record.phase is not Phase.READY or record.observed_generation != record.generation:
            return
        going = (ObjectState.INTENDED, ObjectState.RETIRING)
        if any(row.state in going for key, row in watch.books.rows.items() if key[0] == tester):
            return
        now, quiet = self._picture(tester), self.begun_of(tester) == writes_before
        if quiet:
            self._strikes[tester] = 0
        old_enough = before is not None and began - before.at >= watch.timing.look_age
        lasting = quiet and old_enough and before is not None and before.of == now
        self._pictures[tester] = _Picture(now, watch.now(), lasting)

    def _look_at_releases(self) -> None:
        released = self._releases()
        if released != self._released:
            self._released, self._released_at = released, self._watch.now()

    def _releases(self) -> tuple[tuple[str, str], ...]:
        repositories = self._watch.rig.world.state.forge.repositories
        return tuple((row.name, row.broken) for one in repositories.values() for row in one.releases)

    def _picture(self, tester: str) -> object:
        watch, world = self._watch, self._watch.rig.world
        record, books = watch.books.testers.get(tester), watch.books
        if record is None:
            return None
        desired = record.desired
        dated = desired.expires or (desired.paused and desired.paused.until)
        return (
            record.generation,
            id(books.fleet),
            max(watch.days()) if dated else None,
            tuple(row for key, row in sorted(books.rows.items()) if key[0] == tester),
            _at_forge(world, tester, desired.account.name, watch),
            _on_the_grid(world, tester, watch),
            tuple(_at_engine(world, engine, tester, watch) for engine in world.state.engines),
        )


def _at_forge(world: World, tester: str, login: str, watch: Watch) -> object:
    forge = world.state.forge
    account = world.forge.account(login)
    apps = [app for app in forge.apps if watch.books.whose("sign_in_app", app.name) == tester]
    given = [(key, row.collaborators.get(login)) for key, row in forge.repositories.items() if row.collaborators]
    return (
        account and account.model_dump_json(),
        tuple(app.model_dump_json() for app in apps),
        tuple(given),
        tuple(sorted((token.account, *token.scopes) for token in forge.tokens.values())),
    )


def _on_the_grid(world: World, tester: str, watch: Watch) -> object:
    found: list[object] = []
    for name, daemon in world.state.daemons.items():
        for vm in daemon.vms.values():
            if watch.books.whose("machine", vm.name) == tester:
                machine = world.machines.get(f"{name}/{vm.sid}")
                reachable = world.daemons[name].reachable(vm)
                found.append((name, vm.sid, vm.failed, reachable, machine and _inside(machine)))
        found += [
            (name, gateway.sid, gateway.fqdn, *gateway.backends, gateway.failed)
            for gateway in daemon.gateways.values()
            if watch.books.whose("gateway", gateway.name) == tester
        ]
    return tuple(found)


def _inside(machine: Any) -> object:
    """What is on a machine, as far as anybody may see to it."""
    state = machine.state
    return (
        state.supervisor,
        state.lab,
        state.host_key,
        tuple(state.packages),
        tuple((name, one.version, one.running) for name, one in state.components.items()),
        tuple(
            (name, one.state, one.alive, one.works, one.pid, machine.healthy(name))
            for name, one in state.services.items()
        ),
        state.secret_changes,
        tuple((one.domain, one.auth_mode, one.backend, *one.public_paths) for one in state.domains.values()),
        repr(state.door),
        machine.files.read(AUTHORISED),
    )


def _at_engine(world: World, engine: Any, tester: str, watch: Watch) -> object:
    registered = world.engines.registered(engine)
    mine = [name for name in registered or () if watch.books.whose("engine_access", name) == tester]
    return (
        world.engines.listens(engine),
        registered is None,
        tuple((name, (registered or {})[name], engine.accepted.get(name)) for name in mine),
    )
