"""Bulk looks at the outside, shared by all passes, each with a minimum freshness that a pass may demand.

Many testers ask "is my machine there?" and one listing answers them all. A look is as old as the moment at which its
request was *begun*, so that a write made while it was under way is never mistaken for having been seen.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar

from reconcilers import questions
from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway, Node, Vm
from reconcilers.backends.engines import EngineTenants
from reconcilers.backends.forge import Account, OAuthApp, Release
from reconcilers.backends.haste import HASTE, Haste, haste
from reconcilers.backends.machine import MachineAddress, MachineAnswer, MachineLook, MachineQuery, Question, question_of
from reconcilers.backends.outside import ProbeAnswer
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError
from reconcilers.facts import Promise
from reconcilers.listed import TENANT, Listed, Members, Read, Rows, answer_of
from reconcilers.questions import ACCOUNTS, OAUTH_APPS, OWNER, Ask, collaborators, rows_asked, tenants, whole_asked
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.fleet import Fleet

T = TypeVar("T")
Key = str | tuple[str, Question]
"""Of a look: what was asked of all, or of which machine what."""

RELEASES = "forge/releases/"
RELEASES_PATIENCE = 3.0  # seconds that a pass waits for Forge; later passes find the answer
RELEASES_RETRY = timedelta(minutes=1)  # after Forge did not tell
GATHERING = 0.05  # seconds in which a look under way may end, so that one answers all who want a newer one
NOTHING = question_of(MachineQuery())
RELEASES_KEPT = timedelta(hours=2)  # after somebody asked last: what Forge told is the answer while it is silent


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """An answer and the moment at which its question was put."""

    value: T
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Published:
    """The newest published release of each component. `told`: Forge says so; False: it did not answer, and this is older."""

    newest: Mapping[str, Release] = field(default_factory=dict)
    told: bool = False


@dataclass(frozen=True, slots=True)
class _UnderWay(Generic[T]):
    """A look that goes first as soon as one of those goes first that wait for it."""

    began: datetime
    task: asyncio.Future[Look[T]]
    haste: Haste

    def joined(self) -> asyncio.Future[Look[T]]:
        """To be waited for by one more."""
        haste().spreads_to(self.haste)
        return self.task


class Looks:
    """The shared cache: one look per question, one request under way per question.

    A look that is too old for everybody is let go of: questions come and go with the testers and what is known of them,
    and the answer of a machine is long.
    """

    def __init__(self, backends: Backends, clock: Clock, max_age: timedelta) -> None:
        self.backends = backends
        self.clock = clock
        self.max_age = max_age
        self.resting_age = max_age  # how old a listing may be for a tester that was in sync and is looked at once more
        self.promised: Callable[[], Awaitable[tuple[Promise, ...]]] = _nothing_promised
        self.unrouted: Callable[[], Awaitable[int]] = _nobody_unrouted
        self.placing: AbstractAsyncContextManager[None] = (
            asyncio.Lock()
        )  # the engine lends its own, which outlives these looks
        self._kept: dict[Key, Look[Any]] = {}
        self._kept_until: dict[str, datetime] = {}  # those that are of use beyond the age that `read` allows
        self._swept_at = clock.now()
        self._under_way: dict[Key, _UnderWay[Any]] = {}
        self._written: dict[str, datetime] = {}  # by machine: when we last did something there, whatever came of it

    async def read(
        self,
        question: Key,
        newer_than: datetime | None,
        ask: Callable[[], Awaitable[T]],
        max_age: timedelta | None = None,
    ) -> Look[T]:
        """A look begun at or after `newer_than`, and not older than the cache, or its reader, allows. Raises as `ask` does."""
        now = self.clock.now()  # a look from after now was taken before the clock was set back: its age is not known
        floor = now - (self.max_age if max_age is None else max_age)
        if newer_than is not None and newer_than > floor:
            floor = newer_than
        kept = self._kept.get(question)
        if kept is not None and floor <= kept.taken_at <= now:
            return kept
        running = self._under_way.get(question)
        if running is not None and not floor <= running.began <= now:
            await asyncio.wait({running.task}, timeout=GATHERING)
        return await self._newer(question, floor, ask)

    async def _newer(self, question: Key, floor: datetime, ask: Callable[[], Awaitable[T]]) -> Look[T]:
        """One that is at hand or under way, or else a new one: of those that want it the first begins it."""
        now, kept, running = self.clock.now(), self._kept.get(question), self._under_way.get(question)
        if kept is not None and floor <= kept.taken_at <= now:
            return kept
        if running is None or not floor <= running.began <= now:
            running = self._begin(question, ask)
        # Shielded: one impatient reader must not cancel the look that others wait for.
        return await asyncio.shield(running.joined())

    async def listing(self, question: str, newer_than: datetime | None, max_age: timedelta | None) -> Look[Any]:
        """As `read`, of what answers for the whole fleet (`questions`): it is kept for as long as testers at rest are content
        with it. Raises what asking raises."""
        rows = rows_asked(question, self.backends)
        ask = whole_asked(question, self.backends) if rows is None else partial(self._rows, question, rows)
        if ask is None:
            raise ValueError(f"nobody knows how to ask {question!r}")
        look = await self.read(question, newer_than, ask, max_age)
        self._kept_until[question] = self.clock.now() + self.resting_age
        return look

    async def _rows(self, question: str, ask: Ask) -> Rows[Any]:
        found, known = Rows(await ask()), self.at_hand(question)
        return known.value if known is not None and known.value == found else found  # with its indexes

    async def again(self, read: Read, fleet: Fleet, now: datetime) -> Look[object]:
        """What answers a question of before now, and when that look was begun. `now` is told: it is one for many questions.
        Raises what asking raises."""
        question = read.question
        if question.startswith(RELEASES):
            return Look((await self.published(fleet, question.removeprefix(RELEASES))).newest, now)
        look = self._kept.get(question)
        if look is not None and now - self.resting_age <= look.taken_at <= now:  # as nearly always
            self._kept_until[question] = now + self.resting_age
        else:
            look = await self.listing(question, None, self.resting_age)
        return Look(answer_of(look.value, read.by, read.key), look.taken_at)

    def at_hand(self, question: str) -> Look[Any] | None:
        """The last look of whatever age, as long as it is kept; nobody is asked."""
        return self._kept.get(question)

    async def published(self, fleet: Fleet, channel: str) -> Published:
        """The releases under a channel's tag: one look for the whole fleet, not oftener than `timing.releasesEvery`.

        Forge is never waited for long, and its failure is no failure of anybody's: what was known is the answer then.
        """
        question = f"{RELEASES}{channel}"
        kept: Look[Published] | None = self._kept.get(question)
        known = kept.value if kept is not None else Published()
        every, now = fleet.spec.timing.releases_every, self.clock.now()
        fresh_for = every if known.told else min(every, RELEASES_RETRY)
        self._kept_until[question] = now + max(every, RELEASES_KEPT)
        if kept is not None and now - kept.taken_at < fresh_for:
            return known

        async def ask() -> Published:
            names = [name for name, component in catalogue().items() if component.allowed]
            owner = fleet.spec.forge.components_owner
            try:
                return Published(await self.backends.forge.newest(owner, names, known.newest, channel), told=True)
            except OutsideError:
                return Published(known.newest)

        running = (self._under_way.get(question) or self._begin(question, ask)).joined()
        done, _ = await asyncio.wait({running}, timeout=RELEASES_PATIENCE)
        return running.result().value if done else known

    async def machine_again(self, address: MachineAddress, asked: Question) -> Look[MachineAnswer]:
        """As `machine`, for one that nobody else looks at, as nobody does at who is at rest: without a task that others could
        wait for."""
        question = _of_machine(address, asked)
        if question in self._kept or question in self._under_way:
            return await self.machine(address, asked, None)
        began = self.clock.now()
        return self._keep(question, Look(await self.backends.machines.answer(address, asked), began))

    async def machine(
        self, address: MachineAddress, asked: Question, newer_than: datetime | None
    ) -> Look[MachineAnswer]:
        """What a machine answers to a look. Raises Unreachable, Transient, Blocked (HostKeyChanged)."""
        question = _of_machine(address, asked)
        floors = [floor for floor in (newer_than, self._written_at(address.key)) if floor is not None]
        floor = max(floors, default=None)
        return await self.read(question, floor, lambda: self.backends.machines.answer(address, asked))

    def wrote(self, machine: str) -> None:
        """To be said when a write of ours to a machine begins, and when it has ended, well or not: what was seen of it before
        is no answer any more, for no step and no pass."""
        self._written[machine] = self.clock.now()

    def _written_at(self, machine: str) -> datetime | None:
        """A moment in the future was noted before the clock was set back."""
        at = self._written.get(machine)
        return at if at is not None and at <= self.clock.now() else None

    def let_go(self, address: MachineAddress, asked: Question) -> None:
        """Nobody will ask for this answer again: thousands of them would fill the memory until they are too old."""
        self._kept.pop(_of_machine(address, asked), None)

    def _keep(self, question: Key, taken: Look[T]) -> Look[T]:
        """Unless a newer one is there, other than one from before the clock was set back."""
        kept = self._kept.get(question)
        if kept is None or kept.taken_at <= taken.taken_at or kept.taken_at > self.clock.now():
            self._kept[question] = taken
        return taken

    def _sweep(self) -> None:
        """Let go of what nobody can use any more; seldom enough to cost nothing."""
        now = self.clock.now()
        if self._swept_at <= now < self._swept_at + self.max_age:
            return
        self._swept_at, floor = now, now - self.max_age
        self._written = {machine: at for machine, at in self._written.items() if floor <= at <= now}
        self._kept_until = {question: until for question, until in self._kept_until.items() if now < until}
        self._kept = {
            question: look
            for question, look in self._kept.items()
            if floor <= look.taken_at <= now or question in self._kept_until
        }

    def _begin(self, question: Key, ask: Callable[[], Awaitable[T]]) -> _UnderWay[T]:
        began, its = self.clock.now(), Haste()

        async def look() -> Look[T]:
            HASTE.set(its)
            taken = self._keep(question, Look(await ask(), began))
            self._sweep()
            return taken

        task = asyncio.ensure_future(look())
        entry = _UnderWay(began, task, its)
        self._under_way[question] = entry

        def done(finished: asyncio.Future[Look[T]]) -> None:
            if self._under_way.get(question) is entry:
                del self._under_way[question]
            if not finished.cancelled():
                finished.exception()  # retrieved here, so that a look nobody waits for any more does not warn

        task.add_done_callback(done)
        return entry


@dataclass
class TesterLooks:
    """The shared looks as one step of one tester sees them: with the freshness that it demands."""

    shared: Looks
    question: Question = NOTHING  # what this pass wants to know of the tester's machine
    newer_than: datetime | None = None
    max_age: timedelta | None = None  # of listings; None: as old as the cache allows
    machine_at: datetime | None = None  # when the machine's last look was begun
    oldest: datetime = field(
        init=False
    )  # how old what was observed may be at most: nothing of it was seen before (law 11)
    reads: dict[tuple[str, str, str], Read] = field(default_factory=dict)  # what was asked, and what it was told
    asked_machine: tuple[MachineAddress, Question, bytes] | None = None  # with the digest of its answer
    is_repeatable: bool = True  # all that was asked is in `reads` and `asked_machine`

    def __post_init__(self) -> None:
        self.oldest = self.shared.clock.now()  # for what is asked without a cache

    def demand_newer(self) -> None:
        """From now on only looks begun after this moment will do: we have just written something."""
        self.newer_than = self.oldest = self.shared.clock.now()

    def now(self) -> datetime:
        return self.shared.clock.now()

    def unshared(self) -> None:
        """To be said by whoever asks a backend without these looks: nobody can tell by them whether it would answer so again."""
        self.is_repeatable = False

    async def accounts(self) -> Listed[Account]:
        """Every account on Forge. Raises OutsideError."""
        return await self._rows(ACCOUNTS)

    async def collaborators(self, repository: str) -> Container[str]:
        """Logins, casefolded, of who was given access to a repository (`owner/name`). Raises OutsideError."""
        return Members(await self._rows(collaborators(repository)), "login")

    async def forge_owner(self) -> str:
        """The account whose token we use; OAuth apps belong to it. No write of ours changes that, so that any look will do."""
        taken = await self.shared.listing(OWNER, None, self.max_age)
        self._note(Read(OWNER, "", "", taken.value))
        owner: Account = taken.value
        return owner.login

    async def oauth_apps(self) -> Listed[OAuthApp]:
        """Every OAuth app of the token's owner, newest first."""
        return await self._rows(OAUTH_APPS)

    async def vms(self, daemon: str) -> Listed[Vm]:
        return await self._rows(questions.vms(daemon))

    async def gateways(self, daemon: str) -> Listed[Gateway]:
        return await self._rows(questions.gateways(daemon))

    async def nodes(self, daemon: str) -> tuple[Node, ...]:
        return tuple(await self._rows(questions.nodes(daemon)))

    async def promises(self) -> tuple[Promise, ...]:
        """Room that our books have given away and a readout may not show yet. Never from a cache."""
        self.unshared()
        return await self.shared.promised()

    async def unrouted(self) -> int:
        """How many testers of the fleet are known to be fine inside and dead from outside. Never from a cache."""
        self.unshared()
        return await self.shared.unrouted()

    async def tenants(self, engine: str, tenant: str = "") -> EngineTenants:
        """Who is registered at a shared engine, as far as that concerns one of them. Raises Blocked EngineUnknown, Unreachable,
        Transient."""
        question = tenants(engine)
        listed: EngineTenants = await self._asked(question)
        self._note(Read(question, TENANT, tenant, answer_of(listed, TENANT, tenant)))
        return listed

    async def engine_silence(self, engine: str) -> str:
        """Why an engine gives nobody an answer, "" while it does: asked once for all, so that they need not all try."""
        client = self.shared.backends.engine(engine)
        stranger = Secret(secrets.token_urlsafe(32))
        taken = await self.shared.read(
            f"engine/{engine}/answers", self.newer_than, lambda: client.prove("nobody", stranger)
        )
        self._saw(taken)
        return taken.value.error

    async def releases(self, fleet: Fleet, channel: str) -> Mapping[str, Release]:
        """The newest published release per component, as far as Forge has told. Never raises for Forge."""
        newest = (await self.shared.published(fleet, channel)).newest
        self._note(Read(f"{RELEASES}{channel}", "", "", newest))
        return newest

    async def machine(self, address: MachineAddress) -> MachineLook:
        """One round trip over SSH that answers everything this pass wants to know of the machine."""
        taken = await self.shared.machine(address, self.question, self.newer_than)
        self._saw(taken)
        self.machine_at = taken.taken_at
        self.asked_machine = (address, self.question, taken.value.digest)
        return taken.value.look

    async def outside(self, fqdn: str, paths: tuple[str, ...]) -> dict[str, ProbeAnswer]:
        """What the public address answers, now: never from a cache."""
        return dict(await self.shared.backends.outside.probe(fqdn, paths))

    async def _rows(self, question: str) -> Listed[Any]:
        return Listed(await self._asked(question), question, self._note)

    async def _asked(self, question: str) -> Any:
        taken = await self.shared.listing(question, self.newer_than, self.max_age)
        self._saw(taken)
        return taken.value

    def _note(self, read: Read) -> None:
        self.reads[read.question, read.by, read.key] = read

    def _saw(self, taken: Look[Any]) -> None:
        self.oldest = min(self.oldest, taken.taken_at)


def _of_machine(address: MachineAddress, asked: Question) -> Key:
    """With the question itself: whoever asks the same meanwhile has the very same one (`question_of`)."""
    return address.key, asked


async def _nothing_promised() -> tuple[Promise, ...]:
    """Until the engine lends its books."""
    return ()


async def _nobody_unrouted() -> int:
    """Likewise."""
    return 0
