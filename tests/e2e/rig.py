"""A whole controller over a whole make-believe world: real HTTP, real SSH, a real store; only the outside is simulated."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from controller.engine import Engine
from controller.places import Places, opened_store
from controller.records import Event, Phase
from controller.running import Controller
from controller.store import Store
from examples.simulator.log import Entry
from examples.simulator.server import Addresses, serving
from examples.simulator.world import World
from reconcilers.clock import SystemClock
from tests.reconcilers.data import merged
from tests.reconcilers.driver import both_engines, by_resend

SPEED = 240.0  # simulated seconds in a real one
LIMIT = 120.0  # real seconds to wait for anything: generous, since only a failure waits so long
POLL = 0.05  # real seconds between two looks at the books
PROVIDER_KEY = "sk-or-canary-1234567890"

FEW: dict[str, Any] = {"componentSets": {"demo": ["hero_books", "hero_slides"]}}
"""For a Fleet: less to install, where installing is not what a test is about."""
ENGINES_AND_MAIL: dict[str, Any] = {"engines": both_engines, "mail": by_resend}
"""For a Fleet: the world's shared engines, and its way for mail."""
TIMING = {
    "resync": "2s",
    "poll": "200ms",
    "lookAge": "100ms",
    "listingGrace": "1s",
    "deployLimit": "30s",
    "gatewayLimit": "30s",
    "reachableLimit": "60s",
    "installLimit": "60s",
    "proofLimit": "20s",
    "backoffBase": "300ms",
    "backoffCeiling": "2s",
    "outsideProofEvery": "10m",
}
"""Shortened as much as the world is sped up."""
SYSTEMS = ("forge", "compute", "machine", "outside", "engine", "mail")


def tester_document(name: str, **spec: Any) -> dict[str, Any]:
    body = {"identity": {"email": f"{name}@example.org"}, "machine": {"keepAfterRemoval": "0s"}, **spec}
    return {"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": name}, "spec": body}


def fleet_document(addresses: Addresses, **spec: Any) -> dict[str, Any]:
    """A Fleet for the simulated world, `spec` laid over it. A part that depends on the world's addresses is a function of
    them."""
    os.environ.update({"SIM_FORGE_TOKEN": addresses.forge_token, "SIM_OPENROUTER": PROVIDER_KEY})
    os.environ.update({"SIM_COMPUTE_SECRET": addresses.compute[0].secret, "RESEND": addresses.resend_key})
    usual = {
        "admins": [{"account": "mik"}, {"account": "sara"}],
        "installer": {"privateKey": f"file:{addresses.installer_key_file}"},
        "forge": {"url": addresses.forge_url, "token": "env:SIM_FORGE_TOKEN"},
        "compute": [
            {
                "name": daemon.name,
                "url": daemon.url,
                "secret": "env:SIM_COMPUTE_SECRET",
                "gatewayDomain": daemon.gateway_domain,
                "nodes": [{"sid": node["sid"], "gridNode": node["grid_node"]} for node in daemon.nodes],
            }
            for daemon in addresses.compute
        ],
        "machineAccess": {"labUrl": addresses.lab_url},
        "network": {
            "myceliumProxy": addresses.socks,
            "outsideProxy": addresses.socks,
            "certificateAuthority": f"file:{addresses.ca_file}",
        },
        "providers": {"openrouter": {"setting": "OPENROUTER_API_KEY", "default": "env:SIM_OPENROUTER"}},
        "safety": {"maxRemovals": 3},
        "limits": {system: {"inFlight": 32, "perSecond": 500} for system in SYSTEMS},
        "timing": TIMING,
    }
    given = {key: part(addresses) if callable(part) else part for key, part in spec.items()}
    head = {"apiVersion": "hero.tester/v1", "kind": "Fleet", "metadata": {"name": "sandbox"}}
    return {**head, "spec": merged(usual, given)}


@dataclass(frozen=True)
class SeenPass:
    """One pass over a tester that has ended. `first` and `last`: how long the world's log was before and after."""

    tester: str
    first: int
    last: int


@dataclass
class Passes:
    """Watches an engine's passes. Those that run now are in `running`."""

    world: World
    ended: list[SeenPass] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)

    def watch(self, engine: Engine) -> None:
        look = engine.look

        async def watched(name: str) -> timedelta | None:
            self.running[name] = len(self.world.log)
            try:
                return await look(name)
            finally:
                self.ended.append(SeenPass(name, self.running.pop(name), len(self.world.log)))

        engine.look = watched  # type: ignore[method-assign]


@dataclass
class Fleet:
    """A running fleet: the world, the controller, and what a test may do to both."""

    world: World
    addresses: Addresses
    places: Places
    store: Store
    controller: Controller
    done: asyncio.Future[None]
    passes: Passes
    readings: list[str]  # the revisions of the folder that were taken in

    def write(self, name: str, **spec: Any) -> None:
        save(self.places.folder / f"{name}.yaml", tester_document(name, **spec))

    def remove(self, name: str) -> None:
        (self.places.folder / f"{name}.yaml").unlink()

    async def until(self, holds: Callable[[], Any], what: str, limit: float = LIMIT) -> None:
        """Poll an async condition; a failure says where everybody stands."""
        try:
            async with asyncio.timeout(limit):
                while not await holds():
                    if self.done.done():
                        self.done.result()
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise AssertionError(f"never came: {what}\n" + await self.report()) from None

    async def taken_in(self) -> None:
        """Until this controller has read the folder."""

        async def holds() -> bool:
            return bool(self.readings)

        await self.until(holds, "a reading of the folder")

    async def ready(self, *names: str) -> None:
        """Until these testers are Ready at their present generation, and their files have been taken in."""

        async def holds() -> bool:
            records = {record.name: record for record in await self.store.testers()}
            return all(
                name in records
                and records[name].phase is Phase.READY
                and records[name].observed_generation == records[name].generation
                for name in names
            )

        await self.until(holds, f"{', '.join(names)} Ready")

    def look_at(self, name: str) -> None:
        """A pass over this tester now; nobody waits for the next resync."""
        self.controller.engine.queue.add(name)

    async def at_rest(self, name: str) -> None:
        """Until no pass over this tester is under way."""

        async def holds() -> bool:
            return name not in self.passes.running

        await self.until(holds, f"the end of {name}'s pass")

    async def round(self) -> None:
        """One whole pass over everybody, begun now."""
        begun = len(self.passes.ended)
        owing = {record.name for record in await self.store.testers()}
        late = set(self.passes.running)  # a pass that runs already may have looked at things before now
        await self.controller.engine.look_at_all(timedelta(0))

        async def holds() -> bool:
            ended = [one.tester for one in self.passes.ended[begun:]]
            return all(ended.count(name) > (name in late) for name in owing)

        await self.until(holds, "a pass over everybody")

    async def settled(self) -> None:
        """Until two whole rounds over everybody have gone by without a writing call or a commit."""
        quiet = 0

        async def rests() -> bool:
            nonlocal quiet
            before = self.written()
            await self.round()
            quiet = quiet + 1 if self.written() == before else 0
            return quiet == 2

        await self.until(rests, "rest")

    def written(self) -> tuple[int, int]:
        """How much has been written so far: outside, and in the books."""
        return len(self.writes()), self.store.commits

    def writes(self) -> list[Entry]:
        """Every writing call that the world has seen."""
        return self.world.log.writes()

    def books(self) -> dict[str, Any]:
        return self.world.books()

    def vm(self, name: str) -> str:
        """The VM of a tester that has exactly one."""
        daemons = self.books()["daemons"].values()
        (found,) = [vm["name"] for daemon in daemons for vm in daemon["vms"] if vm["name"].startswith(f"{name}_")]
        return str(found)

    def vms(self, name: str) -> list[str]:
        return [
            vm.name
            for daemon in self.world.daemons.values()
            for vm in daemon.state.vms.values()
            if vm.name.startswith(f"{name}_")
        ]

    def gateways(self, name: str) -> list[str]:
        """The public addresses of a tester."""
        return [str(row.fqdn) for _, row in self.world.grid.gateways() if row.name.startswith(name)]

    def fqdn(self, name: str) -> str:
        """The public address of a tester that has exactly one."""
        (found,) = self.gateways(name)
        return found

    async def told(self, name: str, after: int = 0) -> list[Event]:
        return [event for event in reversed(await self.store.events(name, limit=500)) if event.id > after]

    async def mark(self) -> int:
        """The newest event's id: what comes later is after it."""
        newest = await self.store.events(limit=1)
        return newest[0].id if newest else 0

    async def report(self) -> str:
        lines = []
        for record in await self.store.testers():
            lines.append(f"{record.name}: {record.phase} {record.progress}% {record.current}")
            lines += [
                f"    {c.type}: {c.status} {c.reason}: {c.message}" for c in await self.store.conditions(record.name)
            ]
            lines += [
                f"    {e.at:%H:%M:%S} {e.reason}: {e.message[:300]}" for e in (await self.told(record.name))[-25:]
            ]
        return "\n".join(lines)


def save(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False))


@asynccontextmanager
async def controlling(world: World, addresses: Addresses, places: Places) -> AsyncIterator[Fleet]:
    """One life of the controller, ended as SIGTERM ends it."""
    async with opened_store(places, SystemClock()) as store:
        controller = Controller(places, store, chance=random.Random(1))
        passes, readings = Passes(world), list[str]()
        passes.watch(controller.engine)
        controller.listeners.append(lambda revision, _: readings.append(revision.id))
        done = asyncio.ensure_future(controller.run())
        try:
            yield Fleet(world, addresses, places, store, controller, done, passes, readings)
        finally:
            controller.stop.set()
            await done


@asynccontextmanager
async def serving_world(
    root: Path, testers: dict[str, dict[str, Any]], speed: float = SPEED, **fleet_spec: Any
) -> AsyncIterator[tuple[World, Addresses, Places]]:
    """A world, and a folder of specs; nobody reads it yet."""
    state = root / "world"
    world = World(seed=1, speed=speed, state_dir=state)
    async with serving(world, state) as addresses:
        places = Places(root / "fleet", root / "state")
        places.folder.mkdir()
        save(places.folder / "fleet.yaml", fleet_document(addresses, **fleet_spec))
        for name, spec in testers.items():
            save(places.folder / f"{name}.yaml", tester_document(name, **spec))
        yield world, addresses, places


@asynccontextmanager
async def fleet_of(root: Path, testers: dict[str, dict[str, Any]], **fleet_spec: Any) -> AsyncIterator[Fleet]:
    """A world, a folder of specs and a controller that keeps it."""
    async with serving_world(root, testers, **fleet_spec) as served, controlling(*served) as fleet:
        yield fleet
