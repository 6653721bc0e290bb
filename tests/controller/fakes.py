"""A small outside for the engine's tests: things by name in a dictionary, and steps that keep them, with faults on demand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.engine import Engine
from controller.records import TesterRecord
from controller.store import Store
from controller.world import World
from reconcilers.actions import Action, Effect, FieldChange, Finding, Step, Wait
from reconcilers.backends.limits import ask_before_writing
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import (
    AccountFacts,
    Facts,
    GatewayFacts,
    MachineFacts,
    ObjectState,
    OutsideObject,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
)
from reconcilers.looks import Looks, TesterLooks
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.desired import DesiredTester, desire, digest
from specs.fleet import Fleet
from specs.tester import Tester

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

FLEET = Fleet.model_validate(
    {
        "apiVersion": "hero.tester/v1",
        "kind": "Fleet",
        "metadata": {"name": "sandbox"},
        "spec": {
            "admins": [{"account": "mik"}],
            "installer": {"privateKey": "env:INSTALLER_KEY"},
            "forge": {"url": "https://forge.example.org", "token": "env:FORGE_TOKEN"},
            "compute": [
                {
                    "name": "gent",
                    "url": "http://127.0.0.1:1",
                    "secret": "env:COMPUTE_SECRET",
                    "gatewayDomain": "gent.example.org",
                    "nodes": [{"sid": "0001", "gridNode": "2"}],
                }
            ],
        },
    }
)
GRACE = FLEET.spec.timing.listing_grace
OTHER_FLEET = FLEET.model_copy(update={"metadata": FLEET.metadata.model_copy(update={"name": "other"})})


class ManualClock:
    """Time passes only when a test says so."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    async def sleep(self, span: timedelta) -> None:
        self.at += span

    def pass_by(self, span: timedelta) -> None:
        self.at += span


def a_tester(name: str, **spec: Any) -> DesiredTester:
    body = {"identity": {"email": f"{name}@example.org"}, "machine": {"keepAfterRemoval": "0s"}, **spec}
    document = {"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": name}, "spec": body}
    return desire(Tester.model_validate(document), FLEET, catalogue())


def record_of(desired: DesiredTester, uid: str = "x7k2p9", **more: Any) -> TesterRecord:
    fields: dict[str, Any] = {
        "name": desired.name,
        "uid": uid,
        "generation": 1,
        "desired": desired,
        "digest": digest(desired),
        "source_file": "" if "removed_at" in more else f"{desired.name}.yaml",  # gone from the folder
        "source_line": 1,
        "revision": "r1",
        "added_at": START,
        "changed_at": START,
    }
    return TesterRecord(**{**fields, **more})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks bring about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - it may be about a file or a row, which set no event
            await asyncio.sleep(0.01)


Fault = Callable[[Action], Awaitable[None]]


@dataclass
class Outside:
    """What there is, and every write that was made."""

    things: dict[str, dict[str, str]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # there, and not shown by listings
    calls: list[str] = field(default_factory=list)
    queued: list[Fault] = field(default_factory=list)  # each used up by one call, which has not had its turn yet
    before: list[Fault] = field(default_factory=list)  # each used up by one call; raising keeps the effect away
    after: list[Fault] = field(default_factory=list)  # likewise, after the effect
    count: int = 0

    async def fault(self, faults: list[Fault], action: Action) -> None:
        if faults:
            await faults.pop(0)(action)


def failing(error: BaseException) -> Fault:
    async def fault(action: Action) -> None:
        raise error

    return fault


@dataclass
class Seen:
    name: str
    fields: dict[str, str]


LEARNT: dict[str, Callable[[Seen], StepFacts]] = {
    "account": lambda seen: AccountFacts(account=seen.name),
    "machine": lambda seen: MachineFacts(daemon="gent", vm_id=seen.fields["id"], vm_name=seen.name, address="400::1"),
    "gateway": lambda seen: GatewayFacts(
        daemon="gent", gateway_id="1", gateway_name=seen.name, fqdn=f"{seen.name}.example.org"
    ),
    "sign_in_app": lambda seen: SignInAppFacts(client_id=seen.fields["id"], redirect_uri=seen.fields.get("value", "")),
    "sign_in_gate": lambda seen: SignInGateFacts(proven=seen.fields.get("value", "")),
}


class FakeStep(Base):
    """Keeps one thing named after its row, whose field `value` must be what `wanted` says."""

    def __init__(
        self,
        name: str,
        outside: Outside,
        *,
        needs: tuple[str, ...] = (),
        leaves: str = "standing",
        fixed_name: str = "",
        limit: timedelta | None = None,
    ) -> None:
        self.name = name
        self.needs = needs
        self.makes = True
        self.leaves = leaves
        self.outside = outside
        self.fixed_name = fixed_name
        self.limit = limit
        self.wanted: Callable[[Facts], str] = lambda facts: "right"
        self.wait: Wait | None = None
        self.error: Exception | None = None
        self.protected: bool | None = None
        self.turns = 0
        self.on_observe: Callable[[], Awaitable[None]] | None = None

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
        self.turns += 1
        if self.on_observe is not None:
            await self.on_observe()
        if self.error is not None:
            raise self.error
        row = tester.facts.object
        name = row.name if row is not None else self.name_for(tester.desired, tester.facts, 1, 1)
        found = self.outside.things.get(name)
        return None if found is None or name in self.outside.hidden else Seen(name, dict(found))

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        name = facts.object.name if facts.object else self.fixed_name
        if desired is None:
            return (Action("delete", name, Effect.DELETE),) if observed else ()
        if observed is None:
            return (Action("create", name, Effect.CREATE, limit=self.limit),)
        wanted = self.wanted(facts)
        if observed.fields["value"] != wanted:
            change = FieldChange("value", observed.fields["value"], wanted)
            return (Action("change", name, changes=(change,), args=(wanted,)),)
        return (self.wait,) if self.wait is not None else ()

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        await self.outside.fault(self.outside.queued, action)
        await ask_before_writing()  # as every gate does
        await self.outside.fault(self.outside.before, action)
        name = action.target
        self.outside.calls.append(f"{action.verb} {name}")
        seen = await self._effect(action, name, tester, ports)
        await self.outside.fault(self.outside.after, action)
        return seen

    async def _effect(self, action: Action, name: str, tester: TesterView, ports: Ports) -> Seen | None:
        if action.verb == "delete":
            self.outside.things.pop(name, None)
            return None
        self.outside.count += 1
        if action.verb == "create":
            self.outside.things[name] = {"value": self.wanted(tester.facts), "id": str(self.outside.count)}
        else:
            self.outside.things[name]["value"] = action.args[0]
        return Seen(name, dict(self.outside.things[name]))

    def learn(self, observed: Seen, facts: Facts) -> StepFacts | None:
        return LEARNT[self.name](observed)

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return self.fixed_name or f"{self.name}-{facts.tester}-{incarnation}-{attempt}"

    def identity(self, observed: Seen) -> dict[str, str]:
        return {"id": observed.fields["id"]}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        return frozenset(self.outside.things) - self.outside.hidden

    def findings(self, desired: DesiredTester, observed: Any, facts: Facts) -> tuple[Finding, ...]:
        if self.protected is None:
            return ()
        return (Finding("SignInProtected", self.protected, "Probed", "every path asks for sign-in"),)


class RotatingStep(FakeStep):
    """Like an OAuth app: a change makes a new secret whose answer cannot be read again."""

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        planned = super().plan(desired, observed, facts)
        if desired is None or observed is None or not isinstance(facts.object, OutsideObject):
            return planned
        changed = any(isinstance(step, Action) and step.verb == "change" for step in planned)
        if changed or facts.sealed("client_secret") is None:
            wanted = self.wanted(facts)
            return (
                Action("rotate", facts.object.name, args=(wanted,), voids=("client_secret",), only_while=("machine",)),
            )
        return planned

    async def _effect(self, action: Action, name: str, tester: TesterView, ports: Ports) -> Seen | None:
        seen = await super()._effect(action, name, tester, ports)
        if action.verb in ("create", "rotate"):
            secret = f"secret-{self.outside.count}"
            self.outside.things[name]["secret"] = secret
            await self.outside.fault(self.outside.after, action)
            await ports.seal("client_secret", Secret(secret))
        return seen


@dataclass
class Rig:
    """An engine with fake steps over a real store, driven pass by pass."""

    engine: Engine
    store: Store
    clock: ManualClock
    outside: Outside
    steps: dict[str, FakeStep]
    closed: list[str]  # the Fleets whose clients were closed

    async def add(self, desired: DesiredTester, **more: Any) -> None:
        from controller.records import PutTester

        await self.store.write(PutTester(record_of(desired, **more)))

    async def run_pass(self, name: str = "alice") -> timedelta | None:
        wait = await self.engine.look(name)
        for operation in self.engine.operations.of(name):
            if operation.task is not None:
                await operation.task
        return wait

    async def until_quiet(self, name: str = "alice", most: int = 12) -> None:
        """Passes, with the time between them that each asks for, until one writes nothing."""
        for _ in range(most):
            commits, calls = self.store.commits, len(self.outside.calls)
            wait = await self.run_pass(name)
            if (self.store.commits, len(self.outside.calls)) == (commits, calls):
                return
            if wait is None:
                return
            self.clock.pass_by(wait)
        raise AssertionError(f"{name} does not come to rest: {self.outside.calls}")

    async def rows(self, step: str) -> list[tuple[str, ObjectState]]:
        return [(row.name, row.state) for row in await self.store.objects(step)]

    async def condition(self, kind: str, name: str = "alice") -> tuple[str, str]:
        found = {c.type: c for c in await self.store.conditions(name)}[kind]
        return str(found.status), found.reason

    async def told(self, name: str = "alice") -> list[str]:
        return [event.reason for event in await self.store.events(name)]


def rig(store: Store, clock: ManualClock, steps: list[FakeStep], outside: Outside) -> Rig:
    closed: list[str] = []

    class FakeBackends:
        def __init__(self, fleet: str) -> None:
            self.fleet = fleet

        async def aclose(self) -> None:
            closed.append(self.fleet)

    def open_world(fleet: Fleet, secrets: dict[str, Secret]) -> World:
        backends: Any = FakeBackends(fleet.metadata.name)
        return World(fleet, backends, Looks(backends, clock, fleet.spec.timing.look_age), steps)

    engine = Engine(store, clock, open_world, Path(), random.Random(1))
    return Rig(engine, store, clock, outside, {step.name: step for step in steps}, closed)
