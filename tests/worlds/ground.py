"""What lies on one make-believe machine beyond what the simulator keeps: our own files there, jobs, and who is connected.

It belongs to the world: it outlives the controller, and goes with the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import asyncssh

from examples.simulator.machine import NOT_FOUND, Machine
from examples.simulator.outcome import Outcome, failed
from examples.simulator.world import World
from reconcilers.backends.machine import JobState, SettingKey
from reconcilers.backends.machine_jobs import LOG_KEPT
from reconcilers.backends.machine_ssh import openssh_form
from tests.worlds.loop import outliving

T = TypeVar("T")

TIMED_OUT = 124
IMAGE = frozenset({"apt-get", "dpkg-query"})  # what a bare image has


class Cut(Exception):
    """The connection ended before the script did."""


class Failed(Exception):
    """A command of a script failed: at which setting ("" for none), and what it printed."""


@dataclass
class JobRecord:
    """The last run of a job. `task` None: it died."""

    wanted: str
    began: str
    state: JobState = JobState.RUNNING
    rc: int | None = None
    log: str = ""
    result: str = ""
    task: asyncio.Task[None] | None = None

    def say(self, text: str) -> None:
        self.log += text
        if len(self.log) > 2 * LOG_KEPT:
            self.log = self.log[-LOG_KEPT:]


@dataclass
class Ground:
    """One machine. `stale`: service → the run that marked it."""

    machine: Machine
    stale: dict[str, str] = field(default_factory=dict)
    settings: dict[SettingKey, None] = field(default_factory=dict)
    components: dict[str, None] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)  # versions, until an install has come to its end
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    runs: int = 0
    places: asyncio.Semaphore | None = None
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _callers: dict[asyncio.Future[Any], None] = field(default_factory=dict)
    _tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    def lock_of(self, job: str) -> asyncio.Lock:
        return self._locks.setdefault(job, asyncio.Lock())

    def places_of(self, count: int) -> asyncio.Semaphore:
        """The places for installs, as many as the first who asked said."""
        if self.places is None:
            self.places = asyncio.Semaphore(count)
        return self.places

    def has(self, program: str) -> bool:
        """Whether a command of that name is on PATH."""
        if program == "curl":
            return program in self.machine.state.packages
        return program in IMAGE or self.machine.files.read(f"hero/bin/{program}") is not None

    async def run(self, words: Sequence[str | bytes], stdin: bytes = b"") -> Outcome:
        """One command."""
        argv = [_bytes(word) for word in words]
        if not self.has(_text(argv[0])):
            return failed(f"sh: {_text(argv[0])}: not found", NOT_FOUND)
        return await self.machine.run(argv, stdin)

    async def ask(self, words: Sequence[str], limit: float) -> Outcome:
        """One command that changes nothing and that nobody notes; after `limit` seconds it is ended, as by `timeout`."""
        asking = self.machine.answer(words[0], [_bytes(word) for word in words[1:]])
        if not self.machine.faults.rows:
            return await asking
        try:
            async with asyncio.timeout(limit):
                return await asking
        except TimeoutError:
            return failed("", TIMED_OUT)

    def now(self) -> str:
        return datetime.fromtimestamp(self.machine.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something that runs here until it ends or the machine does."""
        task = outliving(work)
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))
        return task

    async def answered(self, script: Coroutine[Any, Any, T], limit: float) -> T:
        """What a script answers over a connection; it goes on when the connection does not.

        Raises Cut, TimeoutError after `limit` seconds, and what the script raises.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._callers[answer] = None
        self.begin(script).add_done_callback(lambda ended: _hand_over(ended, answer))
        try:
            async with asyncio.timeout(limit):
                return await answer
        finally:
            self._callers.pop(answer, None)

    def cut(self) -> None:
        """Every connection breaks; what runs here goes on."""
        for caller in list(self._callers):
            if not caller.done():
                caller.set_exception(Cut("the connection was lost"))

    def kill_jobs(self) -> None:
        """As when the machine's memory runs out: the jobs are gone, their files say that they run."""
        for job in self.jobs.values():
            if job.task is not None:
                job.task.cancel()
                job.task = None

    def bury(self) -> None:
        """The machine is gone."""
        self.cut()
        for task in list(self._tasks):
            task.cancel()


class Yard:
    """The grounds of all machines of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._grounds: dict[int, Ground] = {}
        world.on_buried.append(self._bury)
        world.on_cut.append(lambda machine: self.of(machine).cut())

    def of(self, machine: Machine) -> Ground:
        if id(machine) not in self._grounds:
            self._grounds[id(machine)] = Ground(machine)
        return self._grounds[id(machine)]

    def named(self, name: str) -> Ground:
        """By the VM's name, by daemon/sid, or `admin`. Raises KeyError."""
        return self.of(self.world.machine_named(name))

    def _bury(self, machine: Machine) -> None:
        ground = self._grounds.pop(id(machine), None)
        if ground is not None:
            ground.bury()


def host_key_of(machine: Machine) -> str:
    """Its public host key, "ssh-ed25519 AAAA…"."""
    return _public_of(machine.state.host_key)


@cache
def _public_of(private: str) -> str:
    return openssh_form(asyncssh.import_private_key(private))


def _hand_over(ended: asyncio.Task[T], answer: asyncio.Future[T]) -> None:
    if answer.done():
        if not ended.cancelled():
            ended.exception()  # looked at: nobody is there to hear of it
        return
    if ended.cancelled():
        answer.set_exception(Cut("the machine is gone"))
    elif error := ended.exception():
        answer.set_exception(error)
    else:
        answer.set_result(ended.result())


def _bytes(word: str | bytes) -> bytes:
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
