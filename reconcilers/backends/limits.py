"""The gate before every outside system: how many calls at once, how many a second, and nothing while it asks for rest.

It stands in the transports, where nobody can forget it (law 6). Tests and metrics hang their hooks on it: `before` runs
when the call is about to leave, `after` when its answer is here, whatever it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from aiolimiter import AsyncLimiter

from reconcilers.backends.haste import Places
from reconcilers.clock import Clock
from reconcilers.errors import Throttled

PATIENCE = timedelta(seconds=2)
"""A shorter rest than this is waited for; of a longer one the caller is told, so that nobody blocks a worker."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as hooks and metrics see it. `name` is what people would say: "deploy_vm", "look"."""

    system: str
    name: str
    writing: bool


class CallHook(Protocol):
    """Watches calls. What `before` raises stops the call, what `after` raises hides its answer: so a crash is staged."""

    async def before(self, call: Call) -> None: ...

    async def after(self, call: Call, failure: BaseException | None) -> None: ...


@dataclass
class Passage:
    """One call's way through a gate. `status`: what it was answered, as metrics tell it; "" while nobody has said."""

    status: str = ""


Counted = Callable[[Call, str, timedelta], None]
"""Told how a call ended ("200", "ok", or the name of its failure), and how long it took once it was let through."""


_ALONE: AbstractAsyncContextManager[None] = nullcontext()
"""The place of a limit that is shared with nobody."""

Question = Callable[[], Awaitable[None]]
_before_writing: ContextVar[list[Question]] = ContextVar("before_writing")


@contextmanager
def asked_before_writing(question: Question) -> Iterator[None]:
    """Asked once, when the first writing call that is made in here has its turn, for which it may have waited for minutes.
    What it raises stops that call: nothing was sent."""
    token = _before_writing.set([question])
    try:
        yield
    finally:
        _before_writing.reset(token)


async def ask_before_writing() -> None:
    """What a gate does when a writing call has its turn. Raises what the question raises."""
    questions = _before_writing.get([])
    while questions:
        await questions.pop()()


class Shared(Protocol):
    """A limit that several controllers keep together. `among`: how many they are now."""

    @property
    def among(self) -> int: ...

    def place(self) -> AbstractAsyncContextManager[None]:
        """Hold one of all places in flight, once there is one."""
        ...

    async def leaving(self, call: Call) -> None:
        """Asked when nothing but its first byte is left to be done. What it raises stops the call."""
        ...


@dataclass
class Gate:
    """The limits of one outside system. Build one per system and share it by everything that talks to it."""

    system: str
    clock: Clock
    in_flight: int = 8
    per_second: float = 20
    hooks: Sequence[CallHook] = ()
    counted: Counted | None = None
    shared: Shared | None = None
    _among: int = field(default=1, init=False, repr=False)
    _slots: Places = field(init=False, repr=False)
    _next: Places = field(init=False, repr=False)  # to leave: of those with a slot one at a time waits for the rate
    _rate: AsyncLimiter = field(init=False, repr=False)
    _resting: tuple[datetime, timedelta] | None = field(
        default=None, init=False, repr=False
    )  # since when, and how long

    def __post_init__(self) -> None:
        self._slots, self._next = Places(self.in_flight), Places(1)
        self._rate = _rate(self.per_second)

    @asynccontextmanager
    async def passing(self, call: Call) -> AsyncIterator[Passage]:
        """Hold a place while a call is under way. Raises Throttled, before anything is sent, during a longer rest."""
        async with self._slots:
            await self._rest()  # not in a place that others want
            async with _ALONE if self.shared is None else self.shared.place():
                await self._let_through(call)
                failure: BaseException | None = None
                passage, began = Passage(), self.clock.now()
                try:
                    yield passage
                except BaseException as error:
                    failure = error
                    raise
                finally:
                    if self.counted is not None:
                        status = type(failure).__name__ if failure is not None else passage.status or "ok"
                        self.counted(call, status, self.clock.now() - began)
                    for hook in self.hooks:
                        await hook.after(call, failure)

    async def _let_through(self, call: Call) -> None:
        await self._rest()
        async with self._next:
            await self._pace()
        if call.writing:
            await ask_before_writing()
        for hook in self.hooks:
            await hook.before(call)

    async def _pace(self) -> None:
        """Calls a second: those of all who share the limit, divided evenly."""
        if self.shared is not None and self.shared.among != self._among:
            self._among = self.shared.among
            self._rate = _rate(self.per_second / self._among)
        await self._rate.acquire()

    async def leaving(self, call: Call) -> None:
        """To be called just before the first byte of a call, as connecting may have taken long."""
        if self.shared is not None:
            await self.shared.leaving(call)

    def rest(self, span: timedelta) -> None:
        """The other side asked for rest: nobody passes before it is over."""
        self._resting = self.clock.now(), max(span, self._left())

    def _left(self) -> timedelta:
        """Of the rest. When the clock was set back since, how long ago it was asked for is not known: all of it is left."""
        if self._resting is None:
            return timedelta(0)
        since, span = self._resting
        now = self.clock.now()
        if now < since:
            self._resting = now, span
            return span
        return max(timedelta(0), since + span - now)

    async def _rest(self) -> None:
        while (left := self._left()) > timedelta(0):
            if left > PATIENCE:
                seconds = f"{left.total_seconds():.0f} s"
                raise Throttled(f"it asked for rest, {seconds} of it are left", system=self.system, retry_after=left)
            await self.clock.sleep(left)


def _rate(per_second: float) -> AsyncLimiter:
    """A bucket as deep as one second's calls: bursts pass, the mean holds."""
    return AsyncLimiter(max(1, per_second), max(1, per_second) / per_second)
