"""What a replica does with the testers of shards that it has got: nobody is forgotten, and nobody waits for others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controller.queue import Queue, Urgency
from controller.replicas.crew import Crew
from controller.replicas.shares import shard_of
from controller.store import Keyring, Store, StoreError
from controller.store.fencing import LEASE
from tests.controller.fakes import ManualClock, Outside, rig
from tests.replicas.server import FakeSession, Server, Way, now
from tests.worlds.loop import VirtualClock, run

NAMES = tuple(f"t{number}" for number in range(100))


@dataclass
class Books:
    """As much of a store as taking over asks for. `fails`: so many more times; `slow`: seconds that an answer takes."""

    names: tuple[str, ...] = NAMES
    unseen: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    fails: int = 0
    slow: float = 0.0
    listeners: list[Any] = field(default_factory=list)
    fence: Any = None
    commits: int = 0

    async def roster(self) -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
        told = self.names, self.unseen, self.begun
        await asyncio.sleep(self.slow)
        if self.fails:
            self.fails -= 1
            raise StoreError("not now")
        return told

    async def behind(self) -> tuple[str, ...]:
        return ()

    def abandon(self) -> None:
        """Nothing is asked for long."""


class Halfway:
    """An engine whose passes end at once. `recovering`: until it is set, what others had begun is not written down."""

    def __init__(self, books: Books) -> None:
        self.store, self.queue = books, Queue(VirtualClock())
        self.alone, self.passes, self.operations, self.resting = True, 0, self, self
        self.names = ()  # of those at rest
        self.followed = list[float]()
        self.recovering, self.recovered = asyncio.Event(), list[int]()
        self.looked: dict[str, float] = {}
        self.recovering.set()

    def testers(self) -> list[str]:
        return []

    def discard_those(self, names: object) -> None:
        """Nobody rests."""

    async def look_at_first(self, names: list[str], within: timedelta) -> None:
        for name in names:
            self.queue.add(name, within / 2, Urgency.FAILING)

    async def follow_fleet(self) -> None:
        self.followed.append(now())
        if len(self.followed) < 3:
            raise StoreError("not now")

    def drop(self, whose: Callable[[str], bool]) -> None:
        self.queue.discard_those(whose)

    async def recover(self, whose: Callable[[str], bool]) -> None:
        await self.recovering.wait()
        lease = LEASE.get()
        assert lease is not None, "it is written under the lease"
        self.recovered.append(lease.key)

    async def run(self) -> None:
        while True:
            name = await self.queue.get()
            self.looked.setdefault(name, now())
            self.queue.done(name)


@asynccontextmanager
async def nobody_speaks() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


def lived(books: Books, main: Callable[[Crew, Halfway], Coroutine[Any, Any, None]]) -> None:
    async def life() -> None:
        server, engine = Server(), Halfway(books)
        crew = Crew(engine, "postgresql://nowhere/none", VirtualClock(), random.Random(1))  # type: ignore[arg-type]

        async def session() -> FakeSession:
            return FakeSession(server, Way())

        crew.keeper.open_session = session
        crew.keeper.monotonic = now
        crew.words.open_line = nobody_speaks
        running = [asyncio.ensure_future(each) for each in (crew.run(), engine.run())]
        await main(crew, engine)
        for each in running:
            each.cancel()

    run(life())


def test_everybody_is_looked_at_within_a_second_and_first_whom_nobody_has_seen_as_they_are_now() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        await asyncio.sleep(1.5)
        assert engine.looked.keys() == set(NAMES)
        assert set(list(engine.looked)[:2]) == {"t7", "t8"}

    lived(Books(unseen=frozenset({"t7", "t8"})), main)


def test_nobody_is_forgotten_because_the_database_failed_just_then() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        await asyncio.sleep(5)
        assert engine.looked.keys() == set(NAMES)

    lived(Books(fails=3), main)


def test_who_comes_while_the_others_are_taken_over_is_looked_at_as_well() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        await asyncio.sleep(1)
        engine.queue.add("new")
        engine.queue.add("t7")
        await asyncio.sleep(0.5)
        assert not engine.looked
        await asyncio.sleep(0.6)
        assert {"new", "t7"} <= engine.looked.keys()
        await asyncio.sleep(2)
        assert engine.looked.keys() == {*NAMES, "new"}

    lived(Books(slow=2), main)


def test_only_where_something_was_under_way_it_is_waited_for() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        engine.recovering.clear()
        await asyncio.sleep(2)
        waiting = {name for name in NAMES if shard_of(name) == shard_of("t7")}
        assert engine.looked.keys() == set(NAMES) - waiting
        engine.recovering.set()
        await asyncio.sleep(2)
        assert engine.looked.keys() == set(NAMES)
        assert engine.recovered == [shard_of("t7")]

    lived(Books(begun=frozenset({"t7"})), main)


def test_who_was_to_be_given_away_and_is_not_is_looked_at_again() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        await asyncio.sleep(2)
        engine.looked.clear()
        crew.resumed({shard_of("t7")})
        await asyncio.sleep(2)
        assert engine.looked.keys() == {name for name in NAMES if shard_of(name) == shard_of("t7")}

    lived(Books(), main)


def test_the_fleet_is_read_as_soon_as_the_database_answers() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        await asyncio.sleep(10)
        assert len(engine.followed) == 3
        await asyncio.sleep(60)
        assert 4 <= len(engine.followed) <= 6, "slowly, from then on"

    lived(Books(), main)


def test_what_the_database_broke_off_is_begun_again_by_whoever_has_the_lease() -> None:
    async def main(crew: Crew, engine: Halfway) -> None:
        led = list[float]()

        async def lead() -> None:
            led.append(now())
            if len(led) < 3:
                raise StoreError("not now")
            await asyncio.Event().wait()

        crew.lead = lead
        await asyncio.sleep(10)
        assert len(led) == 3

    lived(Books(), main)


async def test_a_replica_that_begins_while_the_database_is_away_waits_for_it() -> None:
    clock = ManualClock()
    store = await Store.open("sqlite://", Keyring.generate(), clock)
    engine = rig(store, clock, [], Outside()).engine
    await store.aclose()
    engine.alone = False
    running = asyncio.ensure_future(engine.run())
    done, _ = await asyncio.wait({running}, timeout=0.1)
    assert not done
    running.cancel()
