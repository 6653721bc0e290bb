"""New machines by the whole controller, with a step for each command of `tests/bench/converge_work.py`.

The store, the journal, the passes, the looks, the limits and SSH are the real ones; only the steps are made for the
benchmark, in the shape of every other. A look lists what is done on a machine, and answers for all steps that ask at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from controller.intake import Revision, Taken
from controller.passes.status import NEEDED_FINDINGS
from controller.places import Places, opened_store
from controller.records import Change, Phase, SetStatus
from controller.running import Controller
from controller.world import Step, World
from reconcilers.actions import Action, Finding
from reconcilers.actions import Step as Planned
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Frame, frames, new_nonce, whole
from reconcilers.backends.machine_ssh import SshShell
from reconcilers.backends.opening import Options
from reconcilers.clock import SystemClock
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import FACTS, Facts, StepFacts
from reconcilers.looks import TesterLooks
from reconcilers.secret import Secret
from specs.desired import DesiredTester
from specs.fleet import Fleet
from tests.bench.converge_work import Work, check_done
from tests.bench.loopback import Loopback, address
from tests.bench.report import cpu
from tests.bench.settled import Copy, Outside, Sample, spec_of
from tests.worlds.files import prepared
from tests.worlds.options import _trust
from tests.worlds.source import QuietFolder

PATIENCE = 120.0
LOOK = "frame done; ls"


@dataclass(frozen=True)
class Lived:
    """What one run took: seconds by the wall and of our processor."""

    wall: float
    cpu: float
    looks: int
    commits: int
    passes: int


@dataclass
class Site:
    """The machines, as steps reach them."""

    shell: SshShell
    machines: Mapping[str, MachineAddress]
    looks: int = 0

    async def done(self, tester: str) -> frozenset[str]:
        self.looks += 1
        return _done_by(await self.run(tester, LOOK, "look", writing=False))

    async def run(self, tester: str, text: str, name: str, *, writing: bool) -> tuple[Frame, ...]:
        nonce = new_nonce()
        ran = await self.shell.run(self.machines[tester], whole(text, nonce), name=name, writing=writing)
        answer = frames(ran.out, nonce)
        if answer is None:
            raise RuntimeError(f"{name} did not come to its end: {ran.err.decode()}")
        return answer


@dataclass
class Commanded(Base):
    """Has one command run, once what it needs is done."""

    name: str
    needs: tuple[str, ...]
    text: str
    site: Site
    is_last: bool
    learnt: StepFacts = field(init=False)

    def __post_init__(self) -> None:
        kind = type(f"Facts{self.name}", (StepFacts,), {"step": self.name, "__annotations__": {}})
        cast(dict[str, type[StepFacts]], FACTS)[self.name] = kind
        self.learnt = kind()

    async def observe(self, tester: TesterView, looks: TesterLooks) -> str | None:
        looks.unshared()
        name = tester.name
        look = await looks.shared.read(f"bench/{name}", looks.newer_than, lambda: self.site.done(name))
        return self.name if self.name in look.value else None

    def plan(self, desired: DesiredTester | None, observed: str | None, facts: Facts) -> tuple[Planned, ...]:
        return () if observed is not None or desired is None else (Action("run", self.name),)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> str | None:
        """As our settings are: written and read back by one script."""
        answer = await self.site.run(tester.name, f"{self.text}; {LOOK}", f"run {self.name}", writing=True)
        return self.name if self.name in _done_by(answer) else None

    def learn(self, observed: str, facts: Facts) -> StepFacts | None:
        return self.learnt

    def findings(self, desired: DesiredTester, observed: Any, facts: Facts) -> tuple[Finding, ...]:
        if not self.is_last:
            return ()
        return tuple(
            Finding(kind, observed is not None, "Probed", "as the benchmark has it") for kind in NEEDED_FINDINGS
        )


@dataclass
class Commanding(Controller):
    """A controller with other steps."""

    steps: Sequence[Step] = ()

    def _open_world(self, fleet: Fleet, secrets: dict[str, Secret]) -> World:
        world = super()._open_world(fleet, secrets)
        world.steps = self.steps
        return world


async def ours(server: Loopback, work: Work, number: int, sample: Sample, root: Path) -> Lived:
    """From the accepted specs until the last tester is Ready, by a controller that has brought up one before."""
    places = Places(root / "fleet", root / "state", secrets=sample.folder)
    prepared(places)
    places.folder.mkdir(parents=True)
    (places.folder / "fleet.yaml").write_text(yaml.safe_dump(sample.document, sort_keys=False))
    copies = [Copy(each, sample) for each in range(number + 1)]
    clock = SystemClock()

    async def at_once(_seconds: float) -> None:
        return None

    async with opened_store(places, clock) as store:
        outside = Outside(sample, copies, at_once)
        steps: list[Step] = []
        sites: list[Site] = []

        def machines(key: Secret, gate: Gate, installs: int) -> ShellMachines:
            site = Site(SshShell(Secret(server.key.read_bytes()), gate), _machines(server, copies))
            last = work.rows[-1][-1]
            steps.extend(
                Commanded(name, needs, work.text(name), site, name == last) for name, needs in work.commands.items()
            )
            sites.append(site)
            return ShellMachines(site.shell, places=installs)

        transports = dict.fromkeys(("forge", "outside", "mail", "compute compute1"), outside)
        options = Options(transports=transports, machines=machines, trust=_trust)
        controller = Commanding(
            places, store, clock, random.Random(1), options=options, source_of=QuietFolder, steps=steps
        )
        watch = _Watch(controller)
        running = asyncio.ensure_future(controller.run())
        await controller.first_fleet()
        await watch.until_ready(copies[number:])
        looks, commits, passes = sites[-1].looks, store.commits, controller.engine.passes
        wall, used = await watch.until_ready(copies[:number])
        check_done(server, work, number)
        found = Lived(wall, used, sites[-1].looks - looks, store.commits - commits, controller.engine.passes - passes)
        controller.stop.set()
        await running
        return found


def _machines(server: Loopback, copies: Sequence[Copy]) -> dict[str, MachineAddress]:
    """By tester."""
    user, host_key, port = server.user, server.host_key, server.port
    return {
        one.name: MachineAddress(f"bench/{one.name}", address(one.number), user=user, host_key=host_key, port=port)
        for one in copies
    }


def _done_by(answer: tuple[Frame, ...]) -> frozenset[str]:
    return frozenset(answer[0].body.decode().split())


class _Watch:
    """Writes specs, and hears when they are accepted and when their testers are Ready."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._ready: set[str] = set()
        self._accepted = (0.0, 0.0)
        self._news = asyncio.Event()
        controller.store.listeners.append(self._heard)
        controller.listeners.append(self._taken)

    def _heard(self, changes: tuple[Change, ...]) -> None:
        self._ready.update(each.tester for each in changes if isinstance(each, SetStatus) and each.phase is Phase.READY)
        self._news.set()

    def _taken(self, _revision: Revision, taken: Taken) -> None:
        if taken.changed:
            self._accepted = time.perf_counter(), cpu()

    async def until_ready(self, copies: Sequence[Copy]) -> tuple[float, float]:
        """Seconds by the wall and of our processor, from the accepted specs on."""
        for one in copies:
            (self._controller.places.folder / f"{one.name}.yaml").write_text(spec_of(one))
        source = self._controller.source
        assert isinstance(source, QuietFolder)
        source.changed()
        async with asyncio.timeout(PATIENCE):
            while not self._ready.issuperset(one.name for one in copies):
                self._news.clear()
                await self._news.wait()
        return time.perf_counter() - self._accepted[0], cpu() - self._accepted[1]
