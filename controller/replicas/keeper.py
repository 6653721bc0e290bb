"""Keeps what this replica holds: beats, takes its share, gives back, and knows when it must not act any more.

A *term* is the life of one session with the server. While it lasts, what we hold is ours; when it ends, everything is lost at
once. Whether it still lasts is certain only for a while after a beat: that while is counted from before the beat was sent, by
a clock that goes on while the process is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from controller.replicas.shares import (
    LEADER,
    PLACING,
    SHARDS,
    SOURCE,
    Rhythm,
    Standing,
    shard_of,
    to_give,
    to_take,
)
from controller.store.errors import StoreError
from controller.store.fencing import Lease, NotOurs
from controller.store.locks import LOCKS, Card, Seen, SessionLost
from reconcilers.clock import Clock

log = logging.getLogger("controller")

T = TypeVar("T")

SINGLE: Final = (SOURCE, LEADER)
SETTLED_AFTER: Final = 3  # beats
SETTLED_AT_LAST: Final = 60
"""Beats: who has been there for so long is given its share, however many came before it and were gone sooner."""
REMEMBERED: Final = 600  # beats
A_MOMENT: Final = 0.25  # seconds
CARD_EVERY: Final = 5  # beats
LONG: Final = 1_000
"""What takes minutes is as much as so many passes."""
PLACING_RETRY: Final = timedelta(milliseconds=100)


class Session(Protocol):
    """What `controller.store.locks.LockSession` does. `sent`: when the last question that was answered was sent; `hung_up`: the
    server is seen to have ended it."""

    @property
    def sent(self) -> float: ...

    @property
    def hung_up(self) -> bool: ...

    async def beat(self) -> Seen: ...
    async def take(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]: ...
    async def free(self, kind: int, keys: Collection[int]) -> None: ...
    async def raise_epochs(self, keys: Collection[int], holder: str) -> dict[int, int]: ...
    async def show(self, card: Card) -> None: ...
    def abort(self) -> None: ...
    async def aclose(self) -> None: ...


class Work(Protocol):
    """Whoever does the work that leases are for."""

    def gained(self, leases: Collection[Lease]) -> None: ...

    def lost(self, keys: Collection[int]) -> None:
        """What was begun under them is to be cut off."""
        ...

    def resumed(self, shards: Collection[int]) -> None:
        """Nothing new was begun on them for a while, and now it may be again."""
        ...

    def busy(self, shard: int) -> int:
        """How much is under way: 0: nothing; LONG and more: something that takes minutes."""
        ...

    def members_changed(self) -> None: ...

    def term_ended(self) -> None:
        """Whatever was asked of the database within it is of no use any more."""
        ...


@dataclass
class Keeper:
    """`open_session` raises StoreError, SessionLost. `monotonic`: seconds, of a clock that is not stopped with us. `given_up`:
    shards that nothing new is begun on, because somebody else is to have them."""

    card: Callable[[], Card]
    open_session: Callable[[], Awaitable[Session]]
    work: Work
    clock: Clock
    monotonic: Callable[[], float]
    rhythm: Rhythm = field(default_factory=Rhythm)
    chance: random.Random = field(default_factory=random.Random)
    term: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)
    members: frozenset[int] = frozenset()
    _session: Session | None = None
    _sent: float = float("-inf")
    _beats: int = 0
    _show_at: int = 0  # beat
    _first_seen: dict[int, int] = field(default_factory=dict)  # member → beat
    _came_and_went: list[int] = field(default_factory=list)  # beats at which somebody young was gone
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # -------------------------------------------------------------------------------------------- for whoever works

    def lease_of(self, tester: str) -> Lease | None:
        return self.leases.get(shard_of(tester))

    def admits(self, tester: str) -> bool:
        """Whether a pass over this tester may be begun here."""
        shard = shard_of(tester)
        return shard in self.leases and shard not in self.given_up

    def is_ours(self, lease: Lease) -> bool:
        return self.leases.get(lease.key) == lease

    @property
    def replicas(self) -> int:
        """How many there are, as of the last beat."""
        return len(self.members)

    @property
    def is_certain(self) -> bool:
        """Whether no server can have taken anything from us by now: neither because it heard nothing, nor by ending the session
        for another reason, which is seen at once."""
        if self._session is None or self._session.hung_up:
            return False
        return self.monotonic() - max(self._sent, self._session.sent) < self.rhythm.certain.total_seconds()

    async def certainty(self, lease: Lease) -> None:
        """Until it is certain that the lease is ours at this moment. Raises NotOurs when it is not any more."""
        while True:
            if not self.is_ours(lease):
                raise NotOurs("another replica has taken this over, or may have: no call is begun")
            if self.is_certain:
                return
            await self._news.wait()

    async def some_of(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]:
        """As many of these locks as are free: for as long as the present term lasts. None while there is no session."""
        if self._session is None:
            return ()
        try:
            return await self._session.take(kind, keys, most)
        except SessionLost:
            return ()

    async def give_back(self, kind: int, keys: Collection[int]) -> None:
        if self._session is not None:
            try:
                await self._session.free(kind, keys)
            except SessionLost:
                log.debug("locks fell with their session")

    # -------------------------------------------------------------------------------------------- keeping

    async def run(self) -> None:
        """Hold what is ours for ever, over as many sessions as it takes."""
        told = (-1, "")
        while True:
            words = ""
            try:
                await self._one_term()
            except SessionLost as error:
                words = f"the session that holds our testers was lost: {error}"
            except StoreError as error:
                words = str(error)
            if told != (self.term, words):  # once, however long it stays so
                told = self.term, words
                log.warning("%s", words)
            await self.clock.sleep(self.rhythm.beat * (0.5 + self.chance.random()))

    async def _one_term(self) -> None:
        session = await self._within_lease(self.open_session(), None)
        self.term += 1
        self._session, self._show_at = session, 0
        try:
            while True:
                await self._beat(session)
                await self.clock.sleep(self.rhythm.beat)
        finally:
            self._end_term()
            await session.aclose()

    def _end_term(self) -> None:
        keys, self.leases = tuple(self.leases), {}
        self._session, self._sent, self.given_up = None, float("-inf"), set()
        self._tell()
        self.work.lost(keys)
        self.work.term_ended()

    async def _beat(self, session: Session) -> None:
        sent = self.monotonic()
        seen = await self._within_lease(session.beat(), session)
        self._sent = sent
        self._tell()
        self._note(seen)
        await self._within_lease(self._settle(session, seen), session)
        if self._beats >= self._show_at:
            self._show_at = self._beats + CARD_EVERY
            await self._within_lease(session.show(self.card()), session)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _note(self, seen: Seen) -> None:
        self._beats += 1
        before, self.members = self.members, seen.members
        first = self._first_seen
        if seen.me in first:  # or else the server may have ended everybody's session
            since = max(first[seen.me], self._beats - SETTLED_AT_LAST)
            young = [self._beats for who in before - seen.members if first[who] > since]
            self._came_and_went = [at for at in [*self._came_and_went, *young] if at > self._beats - REMEMBERED]
        self._first_seen = {who: first.get(who, self._beats) for who in seen.members}
        if before != seen.members:
            self.work.members_changed()

    async def _settle(self, session: Session, seen: Seen) -> None:
        """Take what is ours by right and free; give back what is not."""
        shards = {key: who for key, who in seen.holders.items() if key < SHARDS}
        settled = frozenset(who for who, beat in self._first_seen.items() if self._beats - beat >= self._settled_after)
        standing = Standing(seen.me, seen.members, settled, shards)
        wanted = [*(key for key in SINGLE if key not in seen.holders), *to_take(standing)]
        if wanted and not seen.young:
            await self._take(session, wanted)
        easiest = sorted(
            (key for key in self.leases if key < SHARDS), key=lambda key: (self.work.busy(key) >= LONG, key)
        )
        before, self.given_up = self.given_up, set(to_give(standing, easiest))
        if before - self.given_up:
            self.work.resumed(before - self.given_up)
        idle = [shard for shard in self.given_up if not self.work.busy(shard)]
        if idle:
            await self._give(session, idle)

    @property
    def _settled_after(self) -> int:
        """Beats. What is given to one that crashes again and again is cut off each time, so each time it is given later."""
        return min(SETTLED_AFTER << len(self._came_and_went), SETTLED_AT_LAST)

    async def _take(self, session: Session, keys: Sequence[int]) -> None:
        taken = await session.take(LOCKS, keys, len(keys))
        if not taken:
            return
        try:
            epochs = await session.raise_epochs(taken, self.card().name)
        except TimeoutError:  # somebody who held them is stopped in the middle of a write: the server will end that too
            await session.free(LOCKS, taken)
            return
        new = [Lease(key, epoch, self.term) for key, epoch in epochs.items()]
        self.leases |= {lease.key: lease for lease in new}
        self.work.gained(new)

    async def _give(self, session: Session, shards: Sequence[int]) -> None:
        """Nothing is under way on them; from now on nothing is ours of them, and then the others may have them."""
        for shard in shards:
            self.leases.pop(shard, None)
            self.given_up.discard(shard)
        self.work.lost(shards)
        await session.free(LOCKS, shards)

    async def _within_lease(self, asked: Awaitable[T], session: Session | None) -> T:
        """An answer that comes later than the lease lasts is none: the connection is cut, so that nobody waits for it."""
        task = asyncio.ensure_future(asked)
        try:
            done, _ = await asyncio.wait({task}, timeout=self.rhythm.lease.total_seconds())
            if not done:  # we may have been stopped, and the answer is here already
                done, _ = await asyncio.wait({task}, timeout=A_MOMENT)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.add_done_callback(lambda late: None if late.cancelled() else late.exception())
            task.cancel()
            if session is not None:
                session.abort()
            raise SessionLost("the database does not answer in time")
        return task.result()


class Placing:
    """The right, against every replica, to choose a machine's place: an asynchronous context manager, entered by one at a time.

    Raises NotOurs when it is not had within the term in which it was asked for: then nothing that was begun in it counts.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._turn = asyncio.Lock()
        self._term = 0

    async def __aenter__(self) -> None:
        await self._turn.acquire()
        try:
            self._term = self._keeper.term
            while not await self._keeper.some_of(LOCKS, (PLACING,), 1):
                await self._keeper.clock.sleep(PLACING_RETRY)
                if self._keeper.term != self._term:
                    raise NotOurs("the session with the server was lost")
        except BaseException:
            self._turn.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._keeper.term == self._term:
                await self._keeper.give_back(LOCKS, (PLACING,))
        finally:
            self._turn.release()
