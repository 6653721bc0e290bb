"""A whole controller over a whole make-believe world: real HTTP, real SSH, a real store; only the outside is simulated."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from controller.records import Event, Phase
from controller.running import Controller, Places, opened_store
from controller.store import Store
from examples.simulator.server import Addresses, serving
from examples.simulator.world import World
from reconcilers.clock import SystemClock

SPEED = 240.0  # simulated seconds in a real one
LIMIT = 120.0  # real seconds to wait for anything: generous, since only a failure waits so long


def tester_document(name: str, **spec: Any) -> dict[str, Any]:
    body = {"identity": {"email": f"{name}@example.org"}, "machine": {"keepAfterRemoval": "0s"}, **spec}
    return {"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": name}, "spec": body}


def fleet_document(addresses: Addresses, **safety: Any) -> dict[str, Any]:
    """A Fleet for the simulated world, its times shortened as much as the world is sped up."""
    os.environ.update({"SIM_FORGE_TOKEN": addresses.forge_token, "SIM_OPENROUTER": "sk-or-canary-1234567890"})
    os.environ["SIM_COMPUTE_SECRET"] = addresses.compute[0].secret
    return {
        "apiVersion": "hero.tester/v1",
        "kind": "Fleet",
        "metadata": {"name": "sandbox"},
        "spec": {
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
            "safety": {"maxRemovals": 3, **safety},
            "timing": {
                "resync": "2s",
                "poll": "1s",
                "lookAge": "1s",
                "listingGrace": "3s",
                "deployLimit": "30s",
                "gatewayLimit": "30s",
                "reachableLimit": "60s",
                "installLimit": "60s",
                "proofLimit": "20s",
                "backoffBase": "1s",
                "backoffCeiling": "4s",
                "outsideProofEvery": "10m",
            },
        },
    }


@dataclass
class Fleet:
    """A running fleet: the world, the controller, and what a test may do to both."""

    world: World
    addresses: Addresses
    places: Places
    store: Store
    controller: Controller
    done: asyncio.Future[None]
    seen: int = field(default=0)

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
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never came: {what}\n" + await self.report()) from None

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

    async def settled(self) -> None:
        """Until two whole resyncs of everybody have gone by without a writing call or a commit."""
        count = len(await self.store.testers())
        before, passes = (-1, -1), 0

        async def holds() -> bool:
            nonlocal before, passes
            now = (self.store.commits, len(self.writes()))
            if now != before:
                before, passes = now, self.controller.engine.passes
            return self.controller.engine.passes >= passes + 2 * count

        await self.until(holds, "rest")

    def writes(self) -> list[Any]:
        """Every writing call that the world has seen."""
        return self.world.log.writes()

    def books(self) -> dict[str, Any]:
        return self.world.books()

    def vm(self, name: str) -> str:
        """The VM of a tester that has exactly one."""
        daemons = self.books()["daemons"].values()
        (found,) = [vm["name"] for daemon in daemons for vm in daemon["vms"] if vm["name"].startswith(f"{name}_")]
        return str(found)

    def fqdn(self, name: str) -> str:
        (found,) = [
            gateway["fqdn"]
            for daemon in self.books()["daemons"].values()
            for gateway in daemon["gateways"]
            if gateway["name"].startswith(name)
        ]
        return str(found)

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
        done = asyncio.ensure_future(controller.run())
        try:
            yield Fleet(world, addresses, places, store, controller, done)
        finally:
            controller.stop.set()
            await done


@asynccontextmanager
async def fleet_of(
    root: Path, testers: dict[str, dict[str, Any]], safety: dict[str, Any] | None = None, speed: float = SPEED
) -> AsyncIterator[Fleet]:
    """A world, a folder of specs and a controller that keeps it."""
    state = root / "world"
    world = World(seed=1, speed=speed, state_dir=state)
    async with serving(world, state) as addresses:
        places = Places(root / "fleet", root / "state")
        places.folder.mkdir()
        save(places.folder / "fleet.yaml", fleet_document(addresses, **(safety or {})))
        for name, spec in testers.items():
            save(places.folder / f"{name}.yaml", tester_document(name, **spec))
        async with controlling(world, addresses, places) as fleet:
            yield fleet
