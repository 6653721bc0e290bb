"""The crash drill: the controller's process really dies at the first writing call of a step, before it goes out or after the
world has answered it. Its parent, which was forked off before anything began, tells of it and starts it again on the same books.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

from api.complaint import Complaint
from api.terminal import out, text
from controller.places import Places
from controller.running import Controller, open_world
from controller.store import Store
from controller.world import World
from reconcilers.actions import Action
from reconcilers.backends.limits import Call
from reconcilers.backends.opening import Options
from reconcilers.contract import Ports, TesterView
from reconcilers.secret import Secret
from reconcilers.welcome import ALL_OTHERS
from specs.fleet import Fleet

STEPS = (*ALL_OTHERS, "welcome")
"""In the order of the graph."""
BEFORE, AFTER = "before", "after"
WENT_WELL = ("ok", "200", "201", "204")
"""How calls end, as the gate tells it, that the world has done what was asked."""


@dataclass(frozen=True)
class Crash:
    """Where the process dies: at the first writing call of `step`."""

    step: str
    moment: str = BEFORE


@dataclass(frozen=True)
class Death:
    """Where it died."""

    tester: str
    step: str
    deed: str
    call: str
    moment: str

    @property
    def when(self) -> str:
        """`right after deploy_vm had been done`."""
        return (
            f"right after {self.call} had been done" if self.moment == AFTER else f"right before {self.call} went out"
        )

    def __str__(self) -> str:
        unheard = ", before a word of the answer was written down" if self.moment == AFTER else ""
        return f"The controller was killed {self.when}{unheard} ({self.tester}, {self.step}: {self.deed})."


def crash_of(words: str) -> Crash:
    """`machine`, `machine:before`, `machine:after`. Raises Complaint for a step or a moment that there is not."""
    step, colon, moment = words.partition(":")
    if step not in STEPS:
        raise Complaint(f"There is no step {step!r} to crash at. The steps are: {', '.join(STEPS)}.")
    if colon and moment not in (BEFORE, AFTER):
        raise Complaint(f"{words!r} does not say when: write {step}:{BEFORE} or {step}:{AFTER}.")
    return Crash(step, moment or BEFORE)


@dataclass
class Life:
    """One life of the process, as the child has it: `crash` is still to come, `death` was the end of the life before."""

    tie: socket.socket  # to the parent: it is told of the death, and its own end ends us
    crash: Crash | None
    death: Death | None = None
    told: set[int] = field(default_factory=set)  # faults, in this life and before

    @property
    def died(self) -> bool:
        """Whether the death has been."""
        return self.death is not None

    @property
    def reminder(self) -> str:
        """For the end, when the line of the death may have rolled away."""
        if self.death is not None:
            return f"The controller was killed {self.death.when}, and started again on the same books."
        step = self.crash.step if self.crash is not None else ""
        return f"The controller was not killed: the step {step} had nothing to write."

    def ends_with_parent(self, stop: asyncio.Event) -> None:
        """Nobody shall work on unseen when the parent has been killed."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self.tie)
            stop.set()

        loop.add_reader(self.tie, ended)

    def die(self, death: Death) -> NoReturn:
        """At once: nothing is tidied up, no other task runs."""
        self.tie.sendall(json.dumps({"death": asdict(death), "told": sorted(self.told)}).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")


def lives(crash: Crash) -> Life:
    """Fork off the process that works; it returns, the parent does not: it starts the next one after the death, and leaves
    with the last one's exit code. To be called before anything runs that a fork would tear apart."""
    life = _child(crash)
    if isinstance(life, Life):
        return life
    while True:
        last_words, code = _end_of(*life)
        if not last_words:
            raise SystemExit(code)
        death = Death(**last_words["death"])
        console = out()
        console.show_cursor(True)
        console.print(text(f"\n✝ {death}", "bold red"), soft_wrap=True)
        console.print(text("It starts again on the same books.\n", "bold"))
        life = _child(None, death, last_words["told"])
        if isinstance(life, Life):
            return life


def _child(
    crash: Crash | None, death: Death | None = None, told: Iterable[int] = ()
) -> Life | tuple[int, socket.socket]:
    """The life, in the child; its process and the tie to it, in the parent."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return Life(theirs, crash, death, set(told))
    theirs.close()
    # Ctrl-C reaches the child by itself, as all in the foreground; whoever ends us alone means the child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, number))
    return pid, ours


def _end_of(pid: int, tie: socket.socket) -> tuple[dict[str, Any], int]:
    """Wait for a child. Its last words, nothing when it was not our drill that killed it; and its exit code, as a shell would
    tell it."""
    with tie:
        told = b"".join(iter(lambda: tie.recv(4096), b""))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(told or b"{}"), code if code >= 0 else 128 - code


class Doomed(Controller):
    """A controller that dies where it was told to."""

    life: Life

    def _open_world(self, fleet: Fleet, secrets: dict[str, Secret]) -> World:
        options = doomed_options(self.life, self.engine.meters.called)
        world = open_world(fleet, secrets, self.places.files, self.clock, options)
        for step in world.steps:
            step.apply = _noted(step.name, step.apply)  # type: ignore[method-assign]
        return world


def doomed(where: Places, store: Store, life: Life) -> Controller:
    """A controller for this life."""
    controller = Doomed(where, store)
    controller.life = life
    return controller


_deed: ContextVar[tuple[str, str, str] | None] = ContextVar("deed", default=None)
"""Whose, which step's and what action the calls of this task are for."""

Apply = Callable[[Action, TesterView, Ports], Awaitable[Any]]


def _noted(step: str, apply: Apply) -> Any:
    async def noted(action: Action, tester: TesterView, ports: Ports) -> Any:
        _deed.set((tester.name, step, f"{action.verb} {action.target}"))
        try:
            return await apply(action, tester, ports)
        finally:
            _deed.set(None)

    return noted


def doomed_options(life: Life, counted: Callable[[Call, str, timedelta], None]) -> Options:
    """What has the gates of the outside tell us of every call, right before it leaves and right after its answer came."""

    def told(call: Call, status: str, took: timedelta) -> None:
        counted(call, status, took)
        if status in WENT_WELL:
            _reached(life, call, AFTER)

    return Options(hooks=(_Before(life),), counted=told)


@dataclass(frozen=True)
class _Before:
    life: Life

    async def before(self, call: Call) -> None:
        _reached(self.life, call, BEFORE)

    async def after(self, call: Call, failure: BaseException | None) -> None:
        """`counted` knows more."""


def _reached(life: Life, call: Call, moment: str) -> None:
    deed = _deed.get()
    if deed is None or not call.writing:
        return
    tester, step, what = deed
    if life.crash == Crash(step, moment):
        life.die(Death(tester, step, what, call.name, moment))
