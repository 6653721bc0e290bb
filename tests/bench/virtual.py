"""The measurement in virtual time: the same figures whatever else the machine does, in two seconds for a seed.

The controller, its reconcilers and its store are the real ones; HTTP ends at the clients' transport and SSH at the machines'
typed client (`tests/worlds`), where a login takes a second and a script 0.3 s beyond its commands. Our own computing counts
nothing; what an idle machine needs for it is in the measurement over sockets.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import yaml

from api.demo.folder import EXAMPLES
from api.demo.world import Addresses
from examples.simulator.ways import GIVES_UP
from examples.simulator.world import World
from specs.fleet import Limits
from tests.bench.by_hand import ByHand, by_hand
from tests.bench.chain import PROXY, Draws, Wait, jobs_of, quickest_restart, waits_of
from tests.bench.cold import TESTER, Cold, components, settings_by_hand
from tests.bench.figures import Figures, seen_ends
from tests.bench.outside import record_draws
from tests.bench.ways import LOOK_EVERY, TRIES
from tests.bench.worlds import Entry
from tests.worlds.addresses import addresses_of
from tests.worlds.ground import Ground, Yard
from tests.worlds.loop import VirtualWorldClock, run
from tests.worlds.machine import LOGIN, ROUND_TRIP
from tests.worlds.rig import Rig, world
from tests.worlds.wire import WorldTransport

PROVIDERS = {"groq": {"setting": "GROQ_API_KEY"}, "sambanova": {"setting": "SAMBANOVA_API_KEY"}}
WARM = timedelta(seconds=30)
"""A controller runs that long before alice's file is saved."""


def measure(root: Path, seed: int) -> Figures:
    """(a), (b) and (c) of one seed."""
    cold, waits, log = measure_ours(root / "ours", seed)
    hand = run(_by_hand(root / "by hand", seed))
    settings = {"seed": seed, "installs at once": Limits().installs}
    return Figures(cold.took, tuple(waits), hand.took, hand.paused, seen_ends(log, cold), settings, cold.told())


def measure_ours(root: Path, seed: int) -> tuple[Cold, list[Wait], list[Entry]]:
    """(a) with what the world noted of it, and (b)."""
    return run(_ours(root, seed))


async def _ours(root: Path, seed: int) -> tuple[Cold, list[Wait], list[Entry]]:
    draws = io.StringIO()
    os.environ["DEMO_SAMBANOVA_KEY"] = "make-believe"
    alice = yaml.safe_load((EXAMPLES / f"{TESTER}.yaml").read_text())["spec"]
    async with world(root, [], seed=seed, fleet={"providers": PROVIDERS}) as rig:
        record_draws(rig.world, draws)
        await rig.run_for(WARM)
        began = rig.clock.now().timestamp()
        rig.write(TESTER, **alice)
        await rig.ready(TESTER)
        cold = await _cold(rig, began)
        log = [Entry(each.time, each.system, each.method, each.what, each.status) for each in rig.world.log]
        return cold, _waits(rig.world, _drawn(draws.getvalue())), log


async def _cold(rig: Rig, began: float) -> Cold:
    (record,) = await rig.store.testers()
    assert record.ready_at is not None
    told = tuple((each.at.timestamp(), each) for each in await rig.events(TESTER))
    return Cold(began, record.ready_at.timestamp(), told)


def _drawn(text: str) -> Draws:
    return [(tuple(each["what"]), each["seconds"]) for each in map(json.loads, text.splitlines())]


def _waits(made: World, draws: Draws) -> list[Wait]:
    (daemon,) = made.state.daemons.values()
    (vm,), (gateway,) = daemon.vms.values(), daemon.gateways.values()
    jobs, restart = jobs_of(draws, vm.name, components()), quickest_restart(draws, vm.name, PROXY)
    return waits_of(vm.model_dump(), gateway.model_dump(), jobs, restart, Limits().installs)


async def _by_hand(root: Path, seed: int) -> ByHand:
    root.mkdir(parents=True)
    made = World(seed=seed, clock=VirtualWorldClock())
    told = root / "addresses.json"
    told.write_text(json.dumps(asdict(addresses_of(made, root))))
    addresses = Addresses.read(told)
    assert addresses is not None
    return await by_hand(VirtualWay(made, addresses), components(), settings_by_hand())


@dataclass(frozen=True)
class VirtualWay:
    """A world without sockets, for a person."""

    world: World
    addresses: Addresses

    @property
    def speed(self) -> float:
        return 1.0

    def now(self) -> float:
        return self.world.clock.now()

    def client(self, *, public: bool = False) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=WorldTransport(self.world), timeout=60 if public else 600)

    @asynccontextmanager
    async def login(self, host: str) -> AsyncIterator[VirtualLink]:
        """Raises TimeoutError when nobody ever answers."""
        for _ in range(TRIES):
            machine = self.world.reachable_at(host)
            if machine is not None:
                await asyncio.sleep(LOGIN)
                yield VirtualLink(Yard(self.world).of(machine), machine.files.home)
                return
            await asyncio.sleep(GIVES_UP + LOOK_EVERY)
        raise TimeoutError(host)


@dataclass(frozen=True)
class VirtualLink:
    """Commands on a make-believe machine."""

    ground: Ground
    home: str

    async def run(self, words: Sequence[str]) -> str:
        """Raises RuntimeError with what the command said."""
        await asyncio.sleep(ROUND_TRIP)
        outcome = await self.ground.run(words)
        if outcome.code:
            raise RuntimeError(f"{' '.join(words[:3])}: {(outcome.out + outcome.err).decode()}")
        return outcome.out.decode()

    async def fetch(self, path: str, url: str) -> None:
        """Raises RuntimeError."""
        await self.run(["curl", "-fsSL", "-o", path, url])
        files = self.ground.machine.files
        files.write(path, files.read(path) or b"", 0o755)


def all_of(root: Path, seeds: Sequence[int]) -> list[Figures]:
    """Every seed in worlds of its own."""
    return [measure(root / str(seed), seed) for seed in seeds]
