"""A no-op check of settled testers' machines over real SSH by the whole controller, and by a bare loop as the floor.

The testers and what their machines answer are those of `tests/bench/settled.py`; here each machine is an address of its own
behind a real OpenSSH server (`tests/bench/loopback.py`). Forge and the daemon answer at the clients' transport, at once. The
clock that the controller is given can be put forward: so its resyncs come when the measurement wants them. CPU is that of
this process, which is the client only.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh

from controller.places import Places, opened_store
from controller.queue import NOW, Queue, Urgency
from controller.running import Controller
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_channels import KeptShell, kept_on
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import SCRIPT_LIMIT, Ran
from reconcilers.backends.machine_ssh import SshShell, import_key
from reconcilers.backends.opening import Options
from reconcilers.facts import MachineAccessFacts
from reconcilers.secret import Secret
from tests.bench.loopback import Loopback, address
from tests.bench.report import cpu
from tests.bench.settled import Copy, Outside, Sample, filled
from tests.worlds.files import prepared
from tests.worlds.options import _trust
from tests.worlds.source import QuietFolder

STEP = timedelta(seconds=61)
"""Between two rounds, by the controller's clock: longer than any look is kept."""
AT_ONCE = 64  # of the bare loop
COMMAND = f"exec timeout -k 5 {SCRIPT_LIMIT} sh"  # a channel of its own for each look


class SteeredClock:
    """The machine's clock, and how far it has been put forward by whoever measures; it begins with the sample's moment."""

    def __init__(self, begins: datetime) -> None:
        self.ahead = begins - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def sleep(self, span: timedelta) -> None:
        await asyncio.sleep(max(0.0, span.total_seconds()))


@dataclass
class LoopbackShell:
    """The real shell over SSH; where the specs name an address on Mycelium it takes the machine's on loopback."""

    shell: SshShell
    places: dict[str, MachineAddress]
    host_key: str
    calls: Counter[str]

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        self.calls[name] += 1
        ran = await self.shell.run(self.places[address.key], script, name=name, writing=writing)
        return replace(ran, host_key=self.host_key)

    async def forget(self, key: str) -> None:
        await self.shell.forget(key)

    async def aclose(self) -> None:
        await self.shell.aclose()


@dataclass(frozen=True)
class Round:
    """What one check of every machine took: seconds of CPU, of ours and as the clock on the wall has it."""

    cpu: float
    wall: float
    looks: int
    others: int
    commits: int


@dataclass(frozen=True)
class Ours:
    """Rounds by what was done."""

    started: Round
    cold: list[Round]
    whole: list[Round]
    settled: list[Round]


class _Ended:
    """Hears when passes end, so that nobody need look again and again."""

    def __init__(self, queue: Queue) -> None:
        self._done, self._left, self._all = queue.done, 0, asyncio.Event()
        queue.done = self._heard  # type: ignore[method-assign]

    async def of(self, number: int) -> None:
        """So many passes, from now on."""
        self._left = number
        self._all.clear()
        await self._all.wait()

    def _heard(self, name: str) -> None:
        self._done(name)
        self._left -= 1
        if self._left == 0:
            self._all.set()


async def ours(sample: Sample, number: int, server: Loopback, root: Path, rounds: int) -> Ours:
    """Start a controller on settled testers, and have it look at all of them again and again."""
    places = Places(root / "fleet", root / "state", secrets=sample.folder)
    prepared(places)
    clock = SteeredClock(sample.at)
    async with opened_store(places, clock) as store:
        copies = await filled(sample, number, places, store)
        outside = Outside(sample, copies, _at_once)
        calls: Counter[str] = Counter()
        shells: list[SshShell] = []

        def machines(key: Secret, gate: Gate, installs: int) -> ShellMachines:
            shells.append(SshShell(Secret(server.key.read_bytes()), gate))
            there = {one.key: _machine(server, one) for one in copies}
            shell = LoopbackShell(shells[-1], there, sample.fact(MachineAccessFacts).host_key, calls)
            return ShellMachines(shell, places=installs)

        names = ("forge", "outside", "mail", "compute compute1")
        options = Options(transports=dict.fromkeys(names, outside), machines=machines, trust=_trust)
        controller = Controller(places, store, clock, random.Random(1), options=options, source_of=QuietFolder)
        engine = controller.engine
        ended = _Ended(engine.queue)

        async def measured() -> Round:
            before = (cpu(), time.perf_counter(), calls["look"], outside.calls.total(), store.commits)
            await ended.of(number)
            used, wall = cpu() - before[0], time.perf_counter() - before[1]
            return Round(
                used, wall, calls["look"] - before[2], outside.calls.total() - before[3], store.commits - before[4]
            )

        async def again(*, forget: bool = False, close: bool = False) -> Round:
            await asyncio.sleep(0.2)
            clock.ahead += STEP
            for one in copies if forget else ():
                engine.resting.discard(one.name)
            for one in copies if close else ():
                await shells[-1].forget(one.key)
            gc.collect()
            for one in copies:
                engine.queue.add(one.name, NOW, Urgency.RESYNC)
            return await measured()

        running = asyncio.ensure_future(controller.run())
        started = await measured()
        while len(engine.resting) < number:
            await again()
        found = Ours(
            started,
            [await again(close=True) for _ in range(rounds)],
            [await again(forget=True) for _ in range(rounds)],
            [await again() for _ in range(rounds)],
        )
        controller.stop.set()
        await running
        return found


@dataclass(frozen=True)
class Bare:
    """CPU seconds of a loop of bare asyncssh: with connecting, on open connections, and by a shell that stays on each."""

    cold: list[float]
    warm: list[float]
    kept: list[float]


async def bare(server: Loopback, script: bytes, number: int, rounds: int, ciphers: str | None = None) -> Bare:
    """The same script and answers, and nothing else."""
    key = import_key(Secret(server.key.read_bytes()))
    places = asyncio.Semaphore(AT_ONCE)
    found = Bare([], [], [])

    async def connected(each: int) -> asyncssh.SSHClientConnection:
        async with places:
            return await asyncssh.connect(
                address(each), server.port, username=server.user, client_keys=[key], known_hosts=None, config=None,
                agent_path=None, x509_trusted_certs=None, gss_host=None, preferred_auth="publickey",
                encryption_algs=ciphers or (),
            )  # fmt: skip

    async def asked(link: asyncssh.SSHClientConnection) -> None:
        async with places:
            ran = await link.run(COMMAND, input=script, encoding=None)
            assert isinstance(ran.stdout, bytes)
            assert ran.stdout.endswith(b" end\n"), ran

    async def told(shell: KeptShell) -> None:
        async with places:
            _, out, _ = await shell.run(script)
            assert out.endswith(b" end\n"), out

    for _ in range(rounds):
        gc.collect()
        began = cpu()
        links = await asyncio.gather(*map(connected, range(number)))
        await asyncio.gather(*map(asked, links))
        found.cold.append(cpu() - began)
        began = cpu()
        await asyncio.gather(*map(asked, links))
        found.warm.append(cpu() - began)
        shells = await asyncio.gather(*map(kept_on, links))
        await asyncio.gather(*map(told, shells))
        began = cpu()
        await asyncio.gather(*map(told, shells))
        found.kept.append(cpu() - began)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.wait_closed() for link in links))
    return found


def answer_of(sample: Sample, one: Copy) -> bytes:
    """What its machine tells, with @@ for the word of the call."""
    outside = Outside(sample, [one], _at_once)
    told = outside._frames
    for old, new in one.pairs():
        told = told.replace(old.encode(), new.encode())
    return told


def _machine(server: Loopback, one: Copy) -> MachineAddress:
    return MachineAddress(one.key, address(one.number), user=server.user, host_key=server.host_key, port=server.port)


async def _at_once(_seconds: float) -> None:
    """Whoever is outside answers at once."""
