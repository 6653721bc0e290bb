"""Drives reconcilers as the engine does, without its store, queue and clock: enough to live one tester's life in a world."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from examples.simulator.server import Addresses
from examples.simulator.world import World
from reconcilers.actions import Action, Effect, Finding
from reconcilers.actions import Step as Planned
from reconcilers.backends import Backends
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import Clock, SystemClock
from reconcilers.contract import Reconciler, TesterView
from reconcilers.errors import OutsideError, Transient
from reconcilers.facts import Facts, MachineFacts, ObjectState, OutsideObject, Promise, StepFacts
from reconcilers.looks import Looks, Published, TesterLooks
from reconcilers.secret import Secret
from reconcilers.steps import all_steps
from specs.desired import DesiredTester
from specs.fleet import Fleet
from tests.reconcilers.data import UID, a_tester, merged

PLACING: WeakKeyDictionary[World, asyncio.Lock] = WeakKeyDictionary()
"""One place at a time in a world, whichever tester asks. A lock belongs to the loop of one test."""
ONE_LOOK = timedelta(seconds=30)


@dataclass(frozen=True)
class Pace:
    """The time that a life goes by: seconds between two turns that only wait, and for one step to settle at most."""

    clock: Clock
    poll: float
    limit: float  # generous, never reached


REAL = Pace(SystemClock(), poll=0.02, limit=60.0)


class DidNotSettle(AssertionError):
    """A step still wants something after many rounds."""


def fleet_of(addresses: Addresses, **spec: Any) -> Fleet:
    """The Fleet that describes a simulated world, with a small component set."""
    described = {
        "admins": [{"account": "mik"}],
        "installer": {"privateKey": "env:INSTALLER_KEY"},
        "forge": {"url": addresses.forge_url, "token": "env:FORGE_TOKEN"},
        "compute": [
            {
                "name": each.name,
                "url": each.url,
                "secret": "env:COMPUTE",
                "gatewayDomain": each.gateway_domain,
                "nodes": [{"sid": node["sid"], "gridNode": node["grid_node"]} for node in each.nodes],
            }
            for each in addresses.compute
        ],
        "componentSets": {"demo": ["hero_db", "hero_indexer"]},
        "providers": {"openrouter": {"setting": "OPENROUTER_API_KEY", "default": "env:OPENROUTER"}},
        "machineAccess": {"labUrl": addresses.lab_url},
        "network": network_of(addresses),
        "timing": {"backoffBase": "1ms", "lookAge": "1s"},
        "limits": {
            "forge": {"inFlight": 32, "perSecond": 1000},
            "compute": {"inFlight": 16, "perSecond": 1000},
            "outside": {"inFlight": 16, "perSecond": 500},
            "machine": {"inFlight": 32, "perSecond": 500},
            "engine": {"inFlight": 16, "perSecond": 500},
            "mail": {"inFlight": 4, "perSecond": 100},
        },
    }
    head = {"apiVersion": "hero.tester/v1", "kind": "Fleet", "metadata": {"name": "lab"}}
    return Fleet.model_validate({**head, "spec": merged(described, spec)})


def network_of(addresses: Addresses) -> dict[str, str]:
    """The ways through a world's own network; nothing for a world without sockets."""
    if not addresses.socks:
        return {}
    authority = f"file:{addresses.ca_file}"
    return {"myceliumProxy": addresses.socks, "outsideProxy": addresses.socks, "certificateAuthority": authority}


def secrets_of(addresses: Addresses) -> dict[str, Secret]:
    return {
        "env:INSTALLER_KEY": Secret(Path(addresses.installer_key_file).read_bytes()),
        "env:FORGE_TOKEN": Secret(addresses.forge_token),
        "env:COMPUTE": Secret(addresses.compute[0].secret),
        "env:OPENROUTER": Secret("provider-key"),
        "env:RESEND": Secret(addresses.resend_key),
        "env:SMTP": Secret(addresses.smtp_password),
    }


def both_engines(addresses: Addresses) -> list[dict[str, Any]]:
    """For a Fleet's `engines`: those of the world."""
    settings = {
        "embedder": ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN"),
        "voice": ("HERO_VOICE_URL", "SHARED_VOICE_TOKEN"),
    }
    return [
        {
            "name": each.name,
            "url": each.url,
            "urlSetting": settings[each.name][0],
            "tokenSetting": settings[each.name][1],
            "registry": {
                "host": addresses.admin_machine.host,
                "hostKey": addresses.admin_machine.host_key,
                "context": each.context,
                "service": each.service,
            },
        }
        for each in addresses.engines
    ]


def by_resend(addresses: Addresses) -> dict[str, Any]:
    """For a Fleet's `mail`."""
    return {"from": "hero@example.org", "resendKey": "env:RESEND", "resendUrl": addresses.resend_url}


def by_smtp(addresses: Addresses) -> dict[str, Any]:
    """For a Fleet's `mail`."""
    server = {"host": addresses.smtp_host, "port": addresses.smtp_port, "startTls": False}
    return {"from": "hero@example.org", "smtp": server}


class _OneLook(Looks):
    """A cache for one turn; what Forge has published is kept by the lasting one."""

    def __init__(self, lasting: Looks) -> None:
        super().__init__(lasting.backends, lasting.clock, lasting.max_age)
        self.promised = lasting.promised
        self._lasting = lasting

    async def published(self, fleet: Fleet, channel: str) -> Published:
        return await self._lasting.published(fleet, channel)


@dataclass
class Life:
    """One tester's books, and the reconcilers. `did` is every action in order, as `step verb`."""

    world: World
    fleet: Fleet
    backends: Backends
    desired: DesiredTester
    steps: dict[str, Reconciler[Any]]
    secrets: dict[str, Secret]
    lasting: Looks
    pace: Pace = REAL
    options: Options | None = None
    facts: dict[str, StepFacts] = field(default_factory=dict)
    rows: dict[str, OutsideObject] = field(default_factory=dict)
    past: dict[str, tuple[OutsideObject, ...]] = field(default_factory=dict)  # by step: the rows before the present one
    forge_owner: str = ""
    leaving: bool = False
    did: list[str] = field(default_factory=list)
    actions: dict[str, list[Action]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fellows: list[Life] = field(default_factory=list)  # other testers of the same fleet: their machines need room too
    last: object = None  # plan or failure, for the message when it does not settle

    @property
    def vm(self) -> str:
        machine = self.facts["machine"]
        assert isinstance(machine, MachineFacts)
        return machine.key

    # ------------------------------------------------------------ the engine's part

    def view(self, step: str) -> TesterView:
        row = self.rows.get(step) or self._fresh(step)
        facts = Facts(
            self.desired.name,
            UID,
            self.fleet,
            dict(self.facts),
            row,
            dict(self.secrets),
            self.leaving,
            self.forge_owner,
            self.past.get(step, ()),
        )
        return TesterView(self.desired, facts)

    def _fresh(self, step: str) -> OutsideObject | None:
        if not self.steps[step].makes:
            return None
        plain = Facts(self.desired.name, UID, self.fleet, dict(self.facts))
        name = self.steps[step].name_for(self.desired, plain, 1, 1)
        return OutsideObject(self.desired.name, step, 1, 1, name, ObjectState.GONE)

    def looks(self) -> TesterLooks:
        """Nothing but the present will do; only what Forge has published is asked for as seldom as the Fleet says."""
        return TesterLooks(_OneLook(self.lasting), newer_than=self.now())

    def now(self) -> datetime:
        return self.pace.clock.now()

    async def promises(self) -> tuple[Promise, ...]:
        """Every row of a machine that says where it goes."""
        now = self.now()
        rows = [life.rows["machine"] for life in (self, *self.fellows) if "machine" in life.rows]
        return tuple(
            Promise(
                row.tester,
                row.identity["daemon"],
                row.identity["node_sid"],
                int(row.identity["memory_mb"]),
                int(row.identity["disk_gb"]),
                now - (row.since or now),
                row.state is ObjectState.INTENDED,
            )
            for row in rows
            if "node_sid" in row.identity and row.state in (ObjectState.INTENDED, ObjectState.EXISTING)
        )

    async def seen(self, step: str) -> Any:
        """Observe and learn, as at the start of a turn."""
        found = await self.steps[step].observe(self.view(step), self.looks())
        if found is not None and not self.leaving:
            self._learn(step, found)
        row = self.rows.get(step)
        if found is not None and row is not None and row.state is ObjectState.INTENDED:
            identity = {**row.identity, **self.steps[step].identity(found)}
            self.rows[step] = replace(row, state=ObjectState.EXISTING, identity=identity, since=self.now())
        return found

    def planned(self, step: str, found: Any) -> tuple[Planned, ...]:
        view = self.view(step)
        return self.steps[step].plan(None if self.leaving else view.desired, found, view.facts)

    async def plan(self, step: str) -> tuple[Planned, ...]:
        """What is planned for what is seen now: the same each time, and nobody outside is asked for it."""
        found = await self.seen(step)
        asked = len(self.world.log)
        planned = self.planned(step, found)
        assert self.planned(step, found) == planned
        assert len(self.world.log) == asked
        return planned

    async def perform(self, step: str, action: Action) -> None:
        """One action, with its row and its voided secrets written down before, and its answer after."""
        self.did.append(f"{step} {action.verb}")
        self.actions.setdefault(step, []).append(action)
        row = self.view(step).facts.object
        if action.effect is Effect.CREATE and row is not None:
            self.rows[step] = replace(row, state=ObjectState.INTENDED, since=self.now())
        if action.effect is Effect.DELETE and row is not None:
            identity = {**row.identity, **dict(action.marks)}
            self.rows[step] = replace(row, state=ObjectState.RETIRING, identity=identity)
        for name in action.voids:
            self.secrets.pop(f"{self.desired.name}/{name}", None)
        if action.records is not None:
            self.facts[step] = action.records
        answer = await self.steps[step].apply(action, self.view(step), Ports(self, step))
        if action.effect is Effect.DELETE and not self.leaving:
            await self.again(step)
        if answer is None or action.effect is Effect.DELETE:
            return
        if action.effect is Effect.CREATE:
            identity, now = {**self.rows[step].identity, **self.steps[step].identity(answer)}, self.now()
            self.rows[step] = replace(self.rows[step], state=ObjectState.EXISTING, identity=identity, since=now)
        self._learn(step, answer)

    def _learn(self, step: str, found: Any) -> None:
        learnt = self.steps[step].learn(found, self.view(step).facts)
        if learnt is not None:
            self.facts[step] = learnt

    # ------------------------------------------------------------ the tests' part

    async def reopen(self) -> None:
        """Clients anew, with the secrets of now, as after a restart."""
        old, self.backends = self.backends, open_backends(self.fleet, self.secrets, self.pace.clock, self.options)
        self.steps = {step.name: step for step in all_steps(self.backends)}
        self.lasting = Looks(self.backends, self.pace.clock, ONE_LOOK)
        self.lasting.promised = self.promises
        await old.aclose()

    async def settle(self, step: str) -> None:
        """Turn after turn until the plan is empty. Failures that may pass are tried again. Raises DidNotSettle."""
        self.last = None
        try:
            async with asyncio.timeout(self.pace.limit):
                while not await self._turn(step):  # noqa: ASYNC110 - the outside tells nobody when it changes
                    await asyncio.sleep(self.pace.poll)
        except TimeoutError:
            raise DidNotSettle(f"{step}: {self.last}") from None

    async def _turn(self, step: str) -> bool:
        """Act until there is nothing to do but wait. True: nothing at all is left."""
        try:
            while True:
                self.last = steps = await self.plan(step)
                for each in steps:
                    if isinstance(each, Action):
                        await self.perform(step, each)
                if not all(isinstance(each, Action) for each in steps):
                    return False
                if not steps:
                    return True
        except Transient as error:
            self.last = error
            return False

    async def converge(self, *names: str) -> None:
        """Settle these steps in graph order; all when none is named."""
        for name in names or tuple(self.steps):
            await self.settle(name)

    async def again(self, step: str) -> None:
        """Something that existed is no more: the next incarnation is due, as after the engine's missing window."""
        row = self.rows[step]
        name = self.steps[step].name_for(self.desired, self.view(step).facts, row.incarnation + 1, 1)
        self.past[step] = (*self.past.get(step, ()), replace(row, state=ObjectState.GONE))
        self.rows[step] = OutsideObject(self.desired.name, step, row.incarnation + 1, 1, name, ObjectState.GONE)
        self.facts.pop(step, None)
        if step == "machine":
            self.facts = {name: kept for name, kept in self.facts.items() if not kept.on_machine}

    async def findings(self, step: str) -> dict[str, Finding]:
        found = await self.seen(step)
        view = self.view(step)
        return {each.type: each for each in self.steps[step].findings(view.desired, found, view.facts)}


@dataclass
class Ports:
    """What `apply` asks of the engine, kept in the life's books."""

    life: Life
    step: str

    async def seal(self, name: str, value: Secret) -> None:
        self.life.secrets[f"{self.life.desired.name}/{name}"] = value

    async def record(self, facts: StepFacts) -> None:
        self.life.facts[self.step] = facts

    async def erase(self, name: str) -> None:
        self.life.secrets.pop(f"{self.life.desired.name}/{name}", None)

    async def place(self, identity: dict[str, str]) -> None:
        row = self.life.rows[self.step]
        self.life.rows[self.step] = replace(row, identity={**row.identity, **identity})

    def placing(self) -> asyncio.Lock:
        return PLACING.setdefault(self.life.world, asyncio.Lock())

    async def promises(self) -> tuple[Promise, ...]:
        return await self.life.promises()

    async def claim_forge(self, owner: str) -> str:
        self.life.forge_owner = self.life.forge_owner or owner
        return self.life.forge_owner

    async def note(self, text: str) -> None:
        self.life.notes.append(text)


def new_life(
    world: World,
    addresses: Addresses,
    spec: Mapping[str, Any] | None = None,
    *,
    pace: Pace = REAL,
    options: Options | None = None,
    **fleet_spec: Any,
) -> Life:
    """A tester that has nothing yet. A part of the Fleet that depends on the world's addresses is a function of them."""
    described = {key: part(addresses) if callable(part) else part for key, part in fleet_spec.items()}
    fleet = fleet_of(addresses, **described)
    secrets = secrets_of(addresses)
    backends = open_backends(fleet, secrets, pace.clock, options)
    steps = {step.name: step for step in all_steps(backends)}
    lasting = Looks(backends, pace.clock, ONE_LOOK)
    life = Life(world, fleet, backends, a_tester(fleet, **(spec or {})), steps, secrets, lasting, pace, options)
    lasting.promised = life.promises
    return life


__all__ = ["DidNotSettle", "Life", "OutsideError", "Pace", "new_life"]
