"""A backend's limit holds for all replicas together, and none of them starves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pytest

from controller.replicas.slots import KEPT, Slots
from reconcilers.backends.limits import Call, Gate
from tests.worlds.loop import VirtualClock, run


@dataclass
class Locks:
    """Of one replica; `held` is everybody's."""

    held: dict[tuple[int, int], Locks]
    replicas: int = 1
    term: int = 1

    def __hash__(self) -> int:
        return id(self)

    async def some_of(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]:
        await asyncio.sleep(0.001)
        got = [key for key in keys if (kind, key) not in self.held][:most]
        assert not [key for key in keys if self.held.get((kind, key)) is self], "it would count twice"
        self.held |= {(kind, key): self for key in got}
        return tuple(got)

    async def give_back(self, kind: int, keys: Collection[int]) -> None:
        await asyncio.sleep(0.001)
        for key in keys:
            del self.held[kind, key]


async def nothing(call: Call) -> None:
    pass


@pytest.mark.parametrize("total", [1, 2, 8])
def test_no_more_calls_than_slots_are_in_flight_and_nobody_starves(total: int) -> None:
    async def main() -> None:
        held: dict[tuple[int, int], Locks] = {}
        locks = [Locks(held, 3) for _ in range(3)]
        slots = [Slots("Forge", total, each, random.Random(number), nothing) for number, each in enumerate(locks)]
        in_flight = most = 0
        done = [0, 0, 0]

        async def calls(number: int) -> None:
            nonlocal in_flight, most
            while done[number] < 60:
                async with slots[number].place():
                    in_flight += 1
                    most = max(most, in_flight)
                    await asyncio.sleep(0.05)
                    in_flight -= 1
                done[number] += 1

        busy = [asyncio.ensure_future(calls(number)) for number in range(3) for _ in range(4)]
        await asyncio.sleep(8)
        assert most == total
        assert min(done) > 0
        await asyncio.gather(*busy)
        await asyncio.sleep(KEPT + 1)
        assert held == {}, "who needs none has none"

    run(main())


def test_one_that_is_busy_alone_has_all_of_them() -> None:
    async def main() -> None:
        slots = Slots("Forge", 8, Locks({}, 3), random.Random(1), nothing)
        in_flight = most = 0

        async def call() -> None:
            nonlocal in_flight, most
            async with slots.place():
                in_flight += 1
                most = max(most, in_flight)
                await asyncio.sleep(0.05)
                in_flight -= 1

        await asyncio.gather(*(call() for _ in range(40)))
        assert most == 8

    run(main())


def test_slots_of_a_session_that_was_lost_are_asked_for_anew() -> None:
    async def main() -> None:
        held: dict[tuple[int, int], Locks] = {}
        locks = Locks(held)
        slots = Slots("Forge", 2, locks, random.Random(1), nothing)
        async with slots.place():
            held.clear()
            locks.term = 2
            async with slots.place(), slots.place():
                assert len(held) == 2
        await asyncio.sleep(KEPT + 1)
        assert held == {}

    run(main())


def test_a_slot_of_somebody_who_was_cancelled_is_not_kept() -> None:
    async def main() -> None:
        held: dict[tuple[int, int], Locks] = {}
        slots = Slots("Forge", 3, Locks(held), random.Random(1), nothing)

        async def call() -> None:
            async with slots.place():
                await asyncio.sleep(0.05)

        one, two, three = (asyncio.ensure_future(call()) for _ in range(3))
        await asyncio.sleep(0.0015)  # one has a slot, and two asks for itself and for three
        three.cancel()
        await asyncio.gather(one, two)
        assert len(held) == 3
        await asyncio.sleep(KEPT + 1)
        assert held == {}

    run(main())


def test_calls_a_second_are_divided_evenly_as_replicas_come_and_go() -> None:
    async def main() -> None:
        locks = Locks({})
        gate = Gate("Forge", VirtualClock(), 8, 20, shared=Slots("Forge", 8, locks, random.Random(1), nothing))
        loop = asyncio.get_running_loop()

        async def takes(calls: int) -> float:
            began = loop.time()
            for _ in range(calls):
                async with gate.passing(Call("Forge", "look", False)):
                    pass
            return loop.time() - began

        await takes(20)  # the bucket is empty by then
        assert 1.9 < await takes(40) < 2.2
        locks.replicas = 4
        await takes(5)
        assert 7 < await takes(40) < 8.5

    run(main())
