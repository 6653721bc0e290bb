"""One replica among others: what its engine works on follows the leases that its keeper holds.

crew = Crew(engine, url, clock)
await crew.run()          # beside the engine; `follow` and `lead` run while those leases are ours
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

from controller.engine import Engine
from controller.news import Kind, news_of, topics_of
from controller.program import program_version
from controller.queue import Urgency
from controller.records import Change
from controller.replicas.keeper import LONG, Keeper, Placing
from controller.replicas.shares import LEADER, SHARDS, SOURCE, Rhythm, shard_of
from controller.replicas.slots import Slots
from controller.replicas.words import Word, Words
from controller.shelf import shelf_of
from controller.store.address import normal
from controller.store.errors import StoreError
from controller.store.fencing import LEASE, Lease, NotOurs, subjects
from controller.store.line import open_line
from controller.store.locks import Card, LockSession
from reconcilers.backends.limits import Call, Shared
from reconcilers.clock import Clock, steady

log = logging.getLogger("controller")

Run = Callable[[], Awaitable[None]]

SLOW_POLL: Final = timedelta(seconds=30)
RETRY: Final = timedelta(seconds=1)
SPREAD: Final = timedelta(seconds=1)
"""Over which the testers of shards that we got are looked at."""


async def _nothing() -> None:
    return None


@dataclass
class Crew:
    """`follow` reads the source, and `lead` does what is done once for the fleet, each for as long as that is ours; `rang`: told
    that the source is to be read now."""

    engine: Engine
    url: str
    clock: Clock
    chance: random.Random
    rhythm: Rhythm = field(default_factory=Rhythm)
    follow: Run = _nothing
    lead: Run = _nothing
    rang: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.began_at = self.clock.now()
        self.keeper = Keeper(self._card, self._open_session, self, self.clock, steady, self.rhythm, self.chance)
        self.words = Words(self.name, self._open_line, self._hear, self.clock)
        self._taking: set[int] = set()  # shards of which it is not written down yet what others had begun
        self._awaited: set[str] = set()  # testers of those who are to be looked at as soon as it is
        self._missed = asyncio.Event()  # something may have been
        self._slots: dict[str, Slots] = {}
        self._jobs: dict[int, asyncio.Task[None]] = {}  # by lease
        self._deeds: set[asyncio.Task[bool]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        store, queue = self.engine.store, self.engine.queue
        self._shelf, self._news = shelf_of(store), news_of(store)
        store.fence = self._fence
        store.listeners.append(self._committed)
        queue.admits = self._admits
        self.engine.lease_of = self._lease_of
        self.engine.placing = Placing(self.keeper)
        self.engine.alone = False

    async def run(self) -> None:
        """For ever. Raises what was a mistake in any of it: a replica that holds a lease and does not do its work is worse than
        none."""
        ways = [asyncio.ensure_future(each) for each in (self.keeper.run(), self.words.run(), self._poll())]
        try:
            done, _ = await asyncio.wait([*ways, self._broken], return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for job in (*ways, *self._jobs.values(), *self._deeds):
                job.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    @property
    def leads(self) -> bool:
        return LEADER in self.keeper.leases

    async def as_leader(self, work: Run) -> None:
        """Do it under the leader's lease, if that is ours."""
        lease = self.keeper.leases.get(LEADER)
        if lease is None:
            return
        token = LEASE.set(lease)
        try:
            await work()
        except NotOurs:
            log.info("another replica leads now")
        finally:
            LEASE.reset(token)

    def ring(self) -> None:
        """The source is to be read now, whoever reads it."""
        self.rang()
        self.words.say(ring=True)

    def sharing(self, gate: str, total: int) -> Shared:
        """The slots of a gate: the same ones for every world that opens it."""
        slots = self._slots.setdefault(gate, Slots(gate, total, self.keeper, self.chance, self._leaving))
        slots.total = total
        return slots

    # -------------------------------------------------------------------------------------------- before each call

    async def before(self, call: Call) -> None:
        """A hook of every gate: whether this call is ours to make. Raises NotOurs."""
        lease = LEASE.get()
        if lease is not None:
            await self.keeper.certainty(lease)
        elif call.writing:
            raise NotOurs(f"{call.name} was to be called under no lease")

    async def after(self, call: Call, failure: BaseException | None) -> None:
        """Nothing."""

    async def _leaving(self, call: Call) -> None:
        """The same question again: connecting may have taken long."""
        await self.before(call)

    # -------------------------------------------------------------------------------------------- what the keeper says

    def gained(self, leases: Collection[Lease]) -> None:
        shards = [lease for lease in leases if lease.key < SHARDS]
        self._taking |= {lease.key for lease in shards}
        if shards:
            self._do(self._take_over(shards))
        for lease in leases:
            if lease.key in (SOURCE, LEADER):
                self._jobs[lease.key] = self._under(lease, self.follow if lease.key == SOURCE else self.lead)
        log.info("%s works on %d shards", self.name, sum(key < SHARDS for key in self.keeper.leases))

    def lost(self, keys: Collection[int]) -> None:
        for key in keys:
            job = self._jobs.pop(key, None)
            if job is not None:
                job.cancel()
        gone = {key for key in keys if key < SHARDS}
        self._taking -= gone
        self._awaited = {name for name in self._awaited if shard_of(name) not in gone}
        self.engine.drop(lambda name: shard_of(name) in gone)
        log.info("%s works on %d shards", self.name, sum(key < SHARDS for key in self.keeper.leases))

    def resumed(self, shards: Collection[int]) -> None:
        self._do(self._again(shards))

    def busy(self, shard: int) -> int:
        passes = sum(shard_of(name) == shard for name in self.engine.queue.working)
        return passes + LONG * sum(shard_of(name) == shard for name in self.engine.operations.testers())

    def members_changed(self) -> None:
        """Who is gone may have written what it had no time to tell."""
        self._take_all_for_changed()

    def term_ended(self) -> None:
        """Who was cut off may wait for ever for an answer, and a pass that does not end keeps its tester from every other one."""
        self.engine.store.abandon()

    def _card(self) -> Card:
        place = f"process {os.getpid()} on {socket.gethostname()}"
        return Card(self.name, place, program_version(), self.began_at, self.engine.passes)

    async def _take_over(self, leases: Collection[Lease]) -> None:
        """Calls that somebody else had begun are unknown; then everybody of these shards is looked at. Shards on which nothing
        was under way, which most are, wait for no other. Whoever is asked for from now on, and not known yet, is `_awaited`."""

        async def take() -> None:
            names, behind, begun = await self.engine.store.roster()
            halfway = frozenset(map(shard_of, begun))
            for lease in leases:
                if lease.key in halfway:
                    self._do(self._until_done(partial(self._recover, lease), [lease]))
            self._taken([lease for lease in leases if lease.key not in halfway], names, behind)

        await self._until_done(take, leases)

    async def _recover(self, lease: Lease) -> None:
        token = LEASE.set(lease)
        try:
            await self.engine.recover(lambda name: shard_of(name) == lease.key)
        finally:
            LEASE.reset(token)
        names, behind, _ = await self.engine.store.roster()
        self._taken([lease], names, behind)

    def _taken(self, leases: Collection[Lease], names: Collection[str], behind: Collection[str]) -> None:
        """Their testers are looked at from now on; first those of whom a change has not been seen by any pass."""
        keys = {lease.key for lease in leases if self.keeper.is_ours(lease)}
        self._taking -= keys
        others = []
        for name in sorted({*names, *self._awaited}):
            if shard_of(name) not in keys:
                continue
            if name in behind or name in self._awaited:
                self.engine.queue.add(name)
            else:
                others.append(name)
        if others:
            self._do(self.engine.look_at_first(others, SPREAD))
        self._awaited = {name for name in self._awaited if shard_of(name) in self._taking}

    async def _again(self, shards: Collection[int]) -> None:
        """Everybody of these is looked at, but for those who will be when their shard is taken over."""

        async def look() -> None:
            names, behind, _ = await self.engine.store.roster()
            self._taken([lease for lease in leases if lease.key not in self._taking], names, behind)

        leases = [lease for key, lease in self.keeper.leases.items() if key in shards]
        await self._until_done(look, leases)

    async def _until_done(self, work: Run, leases: Collection[Lease]) -> None:
        """However often the database fails at it, as long as any of these is ours."""
        while any(self.keeper.is_ours(lease) for lease in leases):
            try:
                await work()
                return
            except NotOurs as error:
                log.info("not done: %s", error)  # by us: the next beat tells
            except StoreError as error:
                log.warning("not done yet: %s", error)
            await self.clock.sleep(RETRY)

    # -------------------------------------------------------------------------------------------- the store and the queue

    def _fence(self, changes: tuple[Change, ...]) -> Lease | None:
        lease = LEASE.get()
        if lease is None:
            if subjects(changes):
                raise NotOurs("a tester was to be written about under no lease")
            return None
        if not self.keeper.is_ours(lease):
            raise NotOurs("another replica has taken this over, or may have: nothing was written")
        return lease

    def _committed(self, changes: tuple[Change, ...]) -> None:
        self.words.say(set(topics_of(changes)))

    def _admits(self, name: str, urgency: Urgency) -> bool:
        """What is ours. Of the others' testers, who is to be looked at now is told to whoever looks after them."""
        if self._is_admitted(name):
            return True
        if urgency is Urgency.CHANGED and not self._is_for_later(name):
            self.words.say(wake=(name,))
        return False

    def _is_admitted(self, name: str) -> bool:
        return self.keeper.admits(name) and shard_of(name) not in self._taking

    def _is_for_later(self, name: str) -> bool:
        """Ours, and looked at as soon as its shard is taken over."""
        if not self.keeper.admits(name) or shard_of(name) not in self._taking:
            return False
        self._awaited.add(name)
        return True

    def _look_at(self, name: str) -> None:
        """Now, if it is ours to look at."""
        if self._is_admitted(name):
            self.engine.queue.add(name)
        else:
            self._is_for_later(name)

    def _lease_of(self, name: str) -> Lease:
        lease = self.keeper.lease_of(name)
        if lease is None:
            raise NotOurs(f"{name} is another replica's")
        return lease

    # -------------------------------------------------------------------------------------------- what others say

    def _hear(self, word: Word) -> None:
        store = self.engine.store
        if word.changed is None:
            self._take_all_for_changed()
        elif word.changed:
            store.commits += 1
            self._shelf.hear_of(word.changed)
            self._news.hear_of(word.changed)
            self.engine.resting.discard_those(topic.name for topic in word.changed)
            if any(topic.kind is Kind.FLEET for topic in word.changed):
                self._missed.set()
        for name in word.wake:
            self._look_at(name)
        if word.ring:
            self.rang()

    def _take_all_for_changed(self) -> None:
        self.engine.store.commits += 1
        self._shelf.forget()
        self._news.forget()
        resting = self.engine.resting
        if names := resting.names:
            resting.discard_those(names)
            self._do(resting.recall(names))  # their books tell who was written about
        self._missed.set()

    async def _poll(self) -> None:
        """Slowly, and at once when something may have been missed, until the database has answered."""
        while True:
            self._missed.clear()
            done = await self._whole(self._look_for_changes())
            try:
                async with asyncio.timeout((SLOW_POLL if done else RETRY).total_seconds()):
                    await self._missed.wait()
            except TimeoutError:
                continue

    async def _look_for_changes(self) -> None:
        """A new Fleet, and specs that no pass has seen yet, should nobody have told us."""
        await self.engine.follow_fleet()
        for name in await self.engine.store.behind():
            self._look_at(name)

    # -------------------------------------------------------------------------------------------- inside

    def _under(self, lease: Lease, work: Run) -> asyncio.Task[None]:
        """As long as the lease is ours: who has it and does not do the work keeps everybody else from it."""

        async def run() -> None:
            LEASE.set(lease)
            await self._whole(self._until_done(work, [lease]))

        return asyncio.ensure_future(run())

    def _do(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._whole(work))
        self._deeds.add(task)
        task.add_done_callback(self._deeds.discard)

    async def _whole(self, work: Awaitable[None]) -> bool:
        """Whether it was done. A mistake of ours ends everything."""
        try:
            await work
            return True
        except NotOurs:
            return True  # whoever has taken it over does it
        except StoreError as error:
            log.warning("not done now: %s", error)
        except Exception as error:
            if not self._broken.done():
                self._broken.set_exception(error)
        return False

    async def _open_session(self) -> Any:
        return await LockSession.open(normal(self.url), f"tester-controller {self.name}"[:63], self.rhythm.lease)

    def _open_line(self) -> AbstractAsyncContextManager[Any]:
        return open_line(normal(self.url), f"tester-controller {self.name} (line)"[:63])
