"""Worlds for the tests: in memory under virtual time, and on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from python_socks.async_.asyncio import Proxy

from examples.simulator.http import Answer, Request
from examples.simulator.machine import Machine
from examples.simulator.outcome import Outcome
from examples.simulator.seeding import controller_token
from examples.simulator.server import COMPUTE_SECRET, Addresses, serving
from examples.simulator.world import World


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer whenever nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and waiting:  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, min(waiting))
        super()._run_once()  # type: ignore[misc]


Virtually = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def virtually() -> Virtually:
    """Runs a coroutine in virtual time."""

    def run(scenario: Coroutine[Any, Any, None]) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(scenario)
        finally:
            loop.close()

    return run


VM = {
    "name": "alice_1",
    "node_sid": "0001",
    "image": "Ubuntu 24.04",
    "cpu": 4,
    "memory_mb": 8192,
    "disk_gb": 50,
    "rootfs_gb": 10,
    "ssh_keys": [],
    "secret": COMPUTE_SECRET,
}
PARTS = ("hero_router", "hero_proxy", "hero_cockpit")


@dataclass
class Town:
    """A world with short ways to do what tests do all the time."""

    world: World = field(default_factory=lambda: World(speed=1.0))

    async def done(self, machine: Machine, *words: str, stdin: bytes = b"") -> str:
        """Runs a command that must succeed; its standard output."""
        outcome = await self.tried(machine, *words, stdin=stdin)
        assert outcome.code == 0, outcome
        return outcome.out.decode()

    async def tried(self, machine: Machine, *words: str, stdin: bytes = b"") -> Outcome:
        return await machine.run([word.encode() for word in words], stdin)

    async def forge(self, method: str, path: str, json: Any = None, token: str | None = None, **headers: str) -> Answer:
        token = controller_token(self.world.forge) if token is None else token
        path, _, query = path.partition("?")
        body = b"" if json is None else dumps(json).encode()
        given = {"authorization": f"token {token}"} if token else {}
        return await self.world.ask_forge(Request(method, path, query, {**given, **headers}, body))

    async def rpc(self, method: str, daemon: str = "compute1", **params: Any) -> Any:
        """The result; an error comes as a string `code message`."""
        call = {"jsonrpc": "2.0", "id": 1, "method": f"ComputeService.{method}", "params": params}
        answer = await self.world.ask_compute(daemon, Request("POST", "/rpc", body=dumps(call).encode()))
        said = answer.json()
        return said["result"] if "result" in said else f"{said['error']['code']} {said['error']['message']}"

    async def deploy(self, name: str = "alice_1", daemon: str = "compute1", **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.rpc("deploy_vm", daemon, **{**VM, "name": name, **more})
        return made

    async def gateway(self, machine: Machine, name: str = "alice1") -> Any:
        backends = [f"http://[{machine.state.mycelium_ip}]:9988"]
        return await self.rpc("deploy_webgateway", name=name, backends=backends, secret=COMPUTE_SECRET, node_sid="2")

    async def machine(self, name: str = "alice_1") -> Machine:
        """A machine that is up and reachable, bare."""
        await self.deploy(name)
        machine = self.world.machine_named(name)
        self.world.drift.set_reachable(name, True)
        return machine

    async def stacked(self, name: str = "alice_1") -> Machine:
        """A machine with the supervisor and the front door's parts running, nothing configured."""
        machine = await self.machine(name)
        await self.done(machine, "apt-get", "update")
        await self.done(machine, "apt-get", "install", "-y", "curl", "ca-certificates")
        for part in ("hero_proc", *PARTS):
            await self.done(machine, "lab", "build", part, "--download", "--install")
            await self.done(machine, "lab", "service", part, "start")
        await self.world.clock.sleep(10)
        return machine


TownOf = Callable[[World], Town]


@pytest.fixture
def town() -> Town:
    """A world in memory, one simulated second a second: run it with `virtually`."""
    return Town()


@pytest.fixture
def town_of() -> TownOf:
    """The short ways for a world that a test makes itself."""
    return Town


@dataclass(frozen=True)
class Loopback:
    """A world that is really served."""

    town: Town
    addresses: Addresses

    async def ssh(self, address: str, key: str | None = None) -> asyncssh.SSHClientConnection:
        sock = await Proxy.from_url(self.addresses.socks).connect(address, 22)
        keys = [key or self.addresses.installer_key_file]
        return await asyncssh.connect(
            "machine", sock=sock, known_hosts=None, username="root", client_keys=keys, config=None
        )


@pytest.fixture(params=["/bin/sh", "busybox"])
async def loopback(
    request: pytest.FixtureRequest, tmp_path: Path, needs: Callable[[str], str]
) -> AsyncIterator[Loopback]:
    if request.param == "busybox":
        needs("busybox")
    world = World(speed=600, state_dir=tmp_path)
    async with serving(world, tmp_path, request.param) as addresses:
        yield Loopback(Town(world), addresses)
