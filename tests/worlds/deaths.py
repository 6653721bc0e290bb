"""Dying at a boundary: where the boundaries of a life are, and the fork in which the process is dead at one of them.

`Points` hangs in the transports, the store and the steps of a rig (`Points.watch`). While it is `open`, every boundary is
counted; at those that `chosen` names the process forks. The parent goes on as if nothing had happened. In the child this
life is over: no line of it runs again, what was not committed is lost, what the world was asked for is done; a new life
begins on a copy of the store. Whoever waits in the child for the scenario's goal goes on waiting; `Points.report` is its end.

Two boundaries between which neither world, store nor clock have moved are one and the same death, which is died once.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import random
import resource
import shutil
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from controller.records import Change
from controller.world import World as OurWorld
from reconcilers.backends.limits import Call
from specs.fleet import Fleet
from tests.worlds.files import Writer
from tests.worlds.loop import VirtualLoop, _life, outliving
from tests.worlds.machine import WorldMachines
from tests.worlds.rig import Rig

T = TypeVar("T")

DOWN = (timedelta(0), timedelta(seconds=7), timedelta(seconds=100))
"""How long nobody runs after a death, in turn: at once, as a supervisor restarts it, longer than a listing lags."""
MOST_CPU = 120
"""Seconds after which a child is taken for one that never ends."""
OF_A_LIFE = 500
"""About so many boundaries a second life has, until its goal."""


class CountingLoop(VirtualLoop):
    """`moves`: how often somebody of the world was to run, or ran: as long as it stands, the world has not moved."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        if _of_the_world(context):
            self.moves += 1
            return super().call_soon(self._moved, callback, *args, context=context)
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        if _of_the_world(context):
            self.moves += 1
            return super().call_at(when, self._moved, callback, *args, context=context)
        return super().call_at(when, callback, *args, context=context)

    def _moved(self, callback: Callable[..., Any], *args: Any) -> None:
        self.moves += 1
        callback(*args)


def _of_the_world(context: contextvars.Context | None) -> bool:
    return (_life.get() if context is None else context.get(_life)) is None


@dataclass(frozen=True)
class Point:
    """One boundary: its number in the scenario, what it is, and when (virtual seconds)."""

    number: int
    what: str
    at: float

    def __str__(self) -> str:
        return f"{self.number} +{self.at:.3f} {self.what}"


Chosen = Callable[[int, str], bool]


@dataclass(frozen=True)
class Doubles:
    """How many deaths of a second life are tried after each first one, on average."""

    each: float
    seed: int


@dataclass
class Children:
    """The forked processes of one scenario: at most `jobs` at once, each with a folder for its store and its report."""

    root: Path
    jobs: int
    running: dict[int, tuple[Point, Path]] = field(default_factory=dict)
    ended: list[tuple[Point, dict[str, Any]]] = field(default_factory=list)

    def fork(self, point: Point, state: Path) -> Path | None:
        """The child's folder, in the child; None in the parent."""
        while len(self.running) >= self.jobs:
            self._reap()
        folder = self.root / f"{os.getpid()}-{point.number}"
        shutil.copytree(state, folder / "state")  # before anybody writes to it again
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU, MOST_CPU))
            self.running, self.ended = {}, []
            return folder
        self.running[pid] = point, folder
        return None

    def finish(self) -> list[tuple[Point, dict[str, Any]]]:
        """Waits for all. Their reports, in the order of the points."""
        while self.running:
            self._reap()
        return sorted(self.ended, key=lambda each: each[0].number)

    def _reap(self) -> None:
        pid, status = os.wait()
        if pid not in self.running:
            return
        point, folder = self.running.pop(pid)
        report = folder / "report.json"
        told = {"trouble": f"the child died ({os.waitstatus_to_exitcode(status)})"}
        self.ended.append((point, json.loads(report.read_text()) if report.exists() else told))
        shutil.rmtree(folder, ignore_errors=True)


class Absent:
    """Stands for the store while nobody runs: who asks waits for the next life's."""

    commits = -1

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.back = asyncio.Event()

    async def testers(self) -> Any:
        await self.back.wait()
        return await self._rig.store.testers()


class Points:
    """Counts the boundaries of a run, and dies at the chosen ones.

    Boundaries are: before each outside call, when it waits on the wire and when it waits no more, after its answer; before and
    after each commit; the beginning and the end of each await of a step's `observe` and `apply`.
    """

    def __init__(self, chosen: Chosen, children: Children, doubles: Doubles | None) -> None:
        self.number = 0
        self.covered = 0  # boundaries that were run, or are the same death as one that was
        self.open = False
        self.folder: Path | None = None  # the child's own; None in the parent
        self.deaths: list[str] = []
        self.rig: Rig
        self._chosen = chosen
        self._children = children
        self._doubles = doubles
        self._run: set[tuple[float, int, int]] = set()
        self._kept_alive: list[Any] = []  # things of the parent's that must not be closed here

    # -- where a life is watched

    def watch(self, rig: Rig) -> None:
        """The transports, for all lives to come."""
        self.rig = rig
        rig.hooks.append(self)
        self._watch_wire(rig._transport)
        self.watch_life()

    def watch_life(self) -> None:
        """The store and the steps of the life that has just begun."""
        rig, engine = self.rig, self.rig.controller.engine
        rig.store.hooks.append(self._around_commits)
        opened = engine._open_world
        rig.controller.options = _watching_machines(rig.controller.options, self)

        def watched(fleet: Fleet, secrets: Any) -> OurWorld:
            made = opened(fleet, secrets)
            for step in made.steps:
                for part in ("observe", "apply"):
                    setattr(step, part, self._awaited(getattr(step, part), f"{part} of {step.name}"))
            return made

        engine._open_world = watched

    def _watch_wire(self, transport: Any) -> None:
        asked = transport.handle_async_request

        async def watched(request: Any) -> Any:
            return await Awaits(asked(request), self, f"on the wire: {request.method} {request.url.path}")

        transport.handle_async_request = watched

    def _awaited(self, work: Callable[..., Coroutine[Any, Any, T]], what: str) -> Callable[..., Awaitable[T]]:
        async def watched(*args: Any, **options: Any) -> T:
            return await Awaits(work(*args, **options), self, what)

        return watched

    async def before(self, call: Call) -> None:
        if self.reached(f"before {_named(call)}"):
            await _for_ever()

    async def after(self, call: Call, failure: BaseException | None) -> None:
        if self.reached(f"after {_named(call)}"):
            await _for_ever()

    async def _around_commits(self, moment: str, changes: tuple[Change, ...]) -> None:
        if self.reached(f"{moment} of {', '.join(sorted({type(each).__name__ for each in changes}))}"):
            await _for_ever()

    # -- the death

    def reached(self, what: str) -> bool:
        """A boundary. True: this life is over, and whoever asks goes no further."""
        if not self.open:
            return False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        self.number += 1
        death = (loop.time(), loop.moves, self.rig.store.commits)
        if death in self._run:
            self.covered += 1
            return False
        if not self._chosen(self.number, what):
            return False
        self._run.add(death)
        self.covered += 1
        point = Point(self.number, what, loop.time())
        folder = self._children.fork(point, self.rig.places.state)
        if folder is None:
            return False
        self.folder, self.open = folder, False
        self.deaths.append(str(point))
        try:
            asyncio._set_running_loop(loop)  # it was noted for the parent's process id
            self._die()
        except BaseException as error:  # of ours: nobody here would hear of it
            self.report(troubled(error))
        return True

    def _die(self) -> None:
        rig, folder = self.rig, self.folder
        assert folder is not None
        self._kept_alive += [rig.store, rig.controller, rig._writer]
        rig._writer = Writer()  # what the parent holds is not ours to let go
        rig.kill()
        rig.places.state = folder / "state"
        rig.store = absent = Absent(rig)  # type: ignore[assignment]
        outliving(self._again(absent, DOWN[len(self._run) % len(DOWN)]))

    async def _again(self, absent: Absent, down: timedelta) -> None:
        await self.rig.run_for(down)
        await self.rig.start()
        absent.back.set()
        if self._doubles is not None and len(self.deaths) == 1:
            self._begin_second_life(self._doubles)

    def _begin_second_life(self, doubles: Doubles) -> None:
        chance = random.Random(f"{doubles.seed}/{self.deaths[0]}")
        share = doubles.each / OF_A_LIFE
        self._chosen = lambda number, what: chance.random() < share
        self._children = Children(self.folder or Path(), 1)
        self.number = self.covered = 0
        self._run = set()
        self.watch_life()
        self.open = True

    # -- the end

    def close(self) -> None:
        """No more boundaries."""
        self.open = False

    def report(self, report: dict[str, Any]) -> NoReturn:
        """The child's last word, and that of its own children."""
        try:
            assert self.folder is not None
            if len(self.deaths) == 1 and self._doubles is not None:
                report["doubles"] = [told for _, told in self._children.finish()]
            (self.folder / "report.json").write_text(json.dumps(report | {"deaths": self.deaths}))
        finally:
            os._exit(0)


class Awaits:
    """A coroutine whose suspensions are boundaries, at their beginning and at their end."""

    def __init__(self, work: Coroutine[Any, Any, T], points: Points, what: str) -> None:
        self._work = work
        self._points = points
        self._what = what

    def __await__(self) -> Generator[Any, None, Any]:
        inner = self._work.__await__()
        error: BaseException | None = None
        number = 0
        while True:
            try:
                waits_for = next(inner) if error is None else inner.throw(error)
            except StopIteration as done:
                return done.value
            number, error = number + 1, None
            if self._points.reached(f"{self._what}, await {number}"):
                yield from _for_ever().__await__()
            try:
                yield waits_for
            except BaseException as raised:
                error = raised
            if self._points.reached(f"{self._what}, await {number} over"):
                yield from _for_ever().__await__()


def troubled(error: BaseException) -> dict[str, Any]:
    """The report of a child that did not come to the scenario's end."""
    text = str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))
    return {"trouble": text}


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _named(call: Call) -> str:
    return f"{call.system}: {call.name}"


def _watching_machines(options: Any, points: Points) -> Any:
    """The machines' client is made anew with every Fleet."""
    made = options.machines

    def machines(*args: Any) -> WorldMachines:
        client: WorldMachines = made(*args)
        asked = client._run

        async def watched(address: Any, name: str, writing: bool, work: Any) -> Any:
            return await Awaits(asked(address, name, writing, work), points, f"on the wire: {name}")

        client._run = watched  # type: ignore[method-assign]
        return client

    return replace(options, machines=machines)
