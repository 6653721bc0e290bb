"""Bulk looks at the outside, shared by all passes, each with a minimum freshness that a pass may demand.

Many testers ask "is my machine there?" and one listing answers them all. A look is as old as the moment at which its
request was *begun*, so that a write made while it was under way is never mistaken for having been seen.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway, Node, Vm
from reconcilers.backends.engines import EngineTenants
from reconcilers.backends.forge import Account, OAuthApp, Release
from reconcilers.backends.machine import MachineAddress, MachineLook, MachineQuery
from reconcilers.backends.outside import ProbeAnswer
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError
from reconcilers.facts import Promise
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.fleet import Fleet

T = TypeVar("T")

RELEASES_PATIENCE = 3.0  # seconds that a pass waits for Forge; later passes find the answer
RELEASES_RETRY = timedelta(minutes=1)  # after Forge did not tell
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


class Looks:
    """The shared cache: one look per question, one request under way per question.

    A look that is too old for everybody is let go of: questions come and go with the testers and what is known of them,
    and the answer of a machine is long.
    """

    def __init__(self, backends: Backends, clock: Clock, max_age: timedelta) -> None:
        self.backends = backends
        self.clock = clock
        self.max_age = max_age
        self.promised: Callable[[], Awaitable[tuple[Promise, ...]]] = _nothing_promised
        self.unrouted: Callable[[], Awaitable[int]] = _nobody_unrouted
        self.placing = asyncio.Lock()  # the engine lends its own, which outlives these looks
        self._kept: dict[str, Look[Any]] = {}
        self._kept_until: dict[str, datetime] = {}  # those that are of use beyond the age that `read` allows
        self._swept_at = clock.now()
        self._under_way: dict[str, tuple[datetime, asyncio.Future[Look[Any]]]] = {}

    async def read(self, question: str, newer_than: datetime | None, ask: Callable[[], Awaitable[T]]) -> Look[T]:
        """A look begun at or after `newer_than`, and not older than the cache allows. Raises what `ask` raises."""
        floor = self.clock.now() - self.max_age
        if newer_than is not None:
            floor = max(floor, newer_than)
        now = self.clock.now()  # a look from after now was taken before the clock was set back: its age is not known
        kept = self._kept.get(question)
        if kept is not None and floor <= kept.taken_at <= now:
            return kept
        running = self._under_way.get(question)
        if running is None or not floor <= running[0] <= now:
            running = self._begin(question, ask)
        # Shielded: one impatient reader must not cancel the look that others wait for.
        return await asyncio.shield(running[1])

    def at_hand(self, question: str) -> Look[Any] | None:
        """The last look of whatever age, as long as it is kept; nobody is asked."""
        return self._kept.get(question)

    async def published(self, fleet: Fleet, channel: str) -> Published:
        """The releases under a channel's tag: one look for the whole fleet, not oftener than `timing.releasesEvery`.

        Forge is never waited for long, and its failure is no failure of anybody's: what was known is the answer then.
        """
        question = f"forge/releases/{channel}"
        kept: Look[Published] | None = self._kept.get(question)
        known = kept.value if kept is not None else Published()
        every = fleet.spec.timing.releases_every
        fresh_for = every if known.told else min(every, RELEASES_RETRY)
        self._kept_until[question] = self.clock.now() + max(every, RELEASES_KEPT)
        if kept is not None and self.clock.now() - kept.taken_at < fresh_for:
            return known

        async def ask() -> Published:
            names = [name for name, component in catalogue().items() if component.allowed]
            owner = fleet.spec.forge.components_owner
            try:
                return Published(await self.backends.forge.newest(owner, names, known.newest, channel), told=True)
            except OutsideError:
                return Published(known.newest)

        running = self._under_way.get(question) or self._begin(question, ask)
        done, _ = await asyncio.wait({running[1]}, timeout=RELEASES_PATIENCE)
        return running[1].result().value if done else known

    def _sweep(self) -> None:
        """Let go of what nobody can use any more; seldom enough to cost nothing."""
        now = self.clock.now()
        if self._swept_at <= now < self._swept_at + self.max_age:
            return
        self._swept_at, floor = now, now - self.max_age
        self._kept_until = {question: until for question, until in self._kept_until.items() if now < until}
        self._kept = {
            question: look
            for question, look in self._kept.items()
            if floor <= look.taken_at <= now or question in self._kept_until
        }

    def _begin(self, question: str, ask: Callable[[], Awaitable[T]]) -> tuple[datetime, asyncio.Future[Look[T]]]:
        began = self.clock.now()

        async def look() -> Look[T]:
            taken = Look(await ask(), began)
            kept = self._kept.get(question)
            if kept is None or kept.taken_at <= began or kept.taken_at > self.clock.now():
                self._kept[question] = taken
            self._sweep()
            return taken

        task = asyncio.ensure_future(look())
        entry = (began, task)
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
    query: MachineQuery = field(default_factory=MachineQuery)  # what this pass wants to know of the tester's machine
    newer_than: datetime | None = None
    machine_at: datetime | None = None  # when the machine's last look was begun
    oldest: datetime = field(
        init=False
    )  # how old what was observed may be at most: nothing of it was seen before (law 11)

    def __post_init__(self) -> None:
        self.oldest = self.shared.clock.now()  # for what is asked without a cache

    def demand_newer(self) -> None:
        """From now on only looks begun after this moment will do: we have just written something."""
        self.newer_than = self.oldest = self.shared.clock.now()

    def now(self) -> datetime:
        return self.shared.clock.now()

    async def accounts(self) -> tuple[Account, ...]:
        """Every account on Forge. Raises OutsideError."""
        return await self._read("forge/accounts", self.shared.backends.forge.accounts)

    async def collaborators(self, repository: str) -> frozenset[str]:
        """Logins, casefolded, of who was given access to a repository (`owner/name`). Raises OutsideError."""
        owner, _, name = repository.partition("/")
        ask = functools.partial(self.shared.backends.forge.collaborators, owner, name)
        return frozenset(each.login.casefold() for each in await self._read(f"forge/collaborators/{repository}", ask))

    async def forge_owner(self) -> str:
        """The account whose token we use; OAuth apps belong to it. No write of ours changes that, so that any look will do."""
        return (await self.shared.read("forge/owner", None, self.shared.backends.forge.whoami)).value.login

    async def oauth_apps(self) -> tuple[OAuthApp, ...]:
        """Every OAuth app of the token's owner, newest first."""
        return await self._read("forge/oauth_apps", self.shared.backends.forge.oauth_apps)

    async def vms(self, daemon: str) -> tuple[Vm, ...]:
        return await self._read(f"{daemon}/vms", self.shared.backends.daemon(daemon).list_vms)

    async def gateways(self, daemon: str) -> tuple[Gateway, ...]:
        return await self._read(f"{daemon}/gateways", self.shared.backends.daemon(daemon).list_gateways)

    async def nodes(self, daemon: str) -> tuple[Node, ...]:
        return await self._read(f"{daemon}/nodes", self.shared.backends.daemon(daemon).list_nodes)

    async def promises(self) -> tuple[Promise, ...]:
        """Room that our books have given away and a readout may not show yet. Never from a cache."""
        return await self.shared.promised()

    async def unrouted(self) -> int:
        """How many testers of the fleet are known to be fine inside and dead from outside. Never from a cache."""
        return await self.shared.unrouted()

    async def tenants(self, engine: str) -> EngineTenants:
        """Who is registered at a shared engine. Raises Blocked EngineUnknown, Unreachable, Transient."""
        return await self._read(f"engine/{engine}/tenants", self.shared.backends.engine(engine).look)

    async def engine_silence(self, engine: str) -> str:
        """Why an engine gives nobody an answer, "" while it does: asked once for all, so that they need not all try."""
        client = self.shared.backends.engine(engine)
        stranger = Secret(secrets.token_urlsafe(32))
        return (await self._read(f"engine/{engine}/answers", lambda: client.prove("nobody", stranger))).error

    async def releases(self, fleet: Fleet, channel: str) -> Mapping[str, Release]:
        """The newest published release per component, as far as Forge has told. Never raises for Forge."""
        return (await self.shared.published(fleet, channel)).newest

    async def machine(self, address: MachineAddress) -> MachineLook:
        """One round trip over SSH that answers everything this pass wants to know of the machine."""
        question = f"machine/{address.key}/{self.query.digest}"
        taken = await self._taken(question, lambda: self.shared.backends.machines.look(address, self.query))
        self.machine_at = taken.taken_at
        return taken.value

    async def outside(self, fqdn: str, paths: tuple[str, ...]) -> dict[str, ProbeAnswer]:
        """What the public address answers, now: never from a cache."""
        return dict(await self.shared.backends.outside.probe(fqdn, paths))

    async def _read(self, question: str, ask: Callable[[], Awaitable[T]]) -> T:
        return (await self._taken(question, ask)).value

    async def _taken(self, question: str, ask: Callable[[], Awaitable[T]]) -> Look[T]:
        taken = await self.shared.read(question, self.newer_than, ask)
        self.oldest = min(self.oldest, taken.taken_at)
        return taken


async def _nothing_promised() -> tuple[Promise, ...]:
    """Until the engine lends its books."""
    return ()


async def _nobody_unrouted() -> int:
    """Likewise."""
    return 0
