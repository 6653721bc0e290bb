"""Who goes first at a gate, also when this comes while he waits there; nobody waits for ever, and no place is lost."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest

from reconcilers.backends.haste import HASTE, IN_A_ROW, Haste, Places
from reconcilers.backends.limits import Call, Gate
from tests.worlds.loop import VirtualClock, in_virtual_time

NAMES = [f"r{number}" for number in range(8)]


class Crowd:
    """Calls of whoever, each a second long. `order`: as they were let through."""

    def __init__(self, in_flight: int, per_second: float) -> None:
        self.gate = Gate("Forge", VirtualClock(), in_flight, per_second)
        self.hastes: dict[str, Haste] = {}
        self.order: list[str] = []
        self.at: list[float] = []
        self.now = self.most = 0

    def changes(self, name: str) -> None:
        self.hastes.setdefault(name, Haste()).comes()

    async def call(self, name: str, takes: float = 1.0) -> None:
        HASTE.set(self.hastes.setdefault(name, Haste()))
        async with self.gate.passing(Call("Forge", name, writing=False)):
            self.order.append(name)
            self.at.append(asyncio.get_running_loop().time())
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(takes)
            finally:
                self.now -= 1

    def comes(self, name: str, takes: float = 1.0) -> asyncio.Task[None]:
        return asyncio.create_task(self.call(name, takes))


@pytest.mark.parametrize(("in_flight", "per_second"), [(2, 1000), (8, 1)], ids=["places", "calls a second"])
@in_virtual_time
async def test_who_is_changed_while_he_stands_in_the_line_is_the_next_one(in_flight: int, per_second: float) -> None:
    crowd = Crowd(in_flight, per_second)
    waiting = [crowd.comes(name) for name in NAMES]
    await asyncio.sleep(0.1)
    crowd.changes("r6")
    crowd.changes("r4")
    await asyncio.gather(*waiting)
    assert crowd.order == ["r0", "r1", "r4", "r6", "r2", "r3", "r5", "r7"]


def test_what_is_done_for_several_goes_first_as_soon_as_one_of_them_does() -> None:
    alice, bob, look, its_page = (Haste() for _ in range(4))
    for one in (alice, bob):
        one.spreads_to(look)
    look.spreads_to(its_page)
    bob.comes()
    assert (alice.first, look.first, its_page.first) == (False, True, True)
    bob.spreads_to(late := Haste())
    assert late.first


@in_virtual_time
async def test_changes_that_never_end_keep_nobody_from_his_turn() -> None:
    crowd = Crowd(1, 1000)
    crowd.changes("change")
    waiting = [crowd.comes(name) for name in NAMES]
    await asyncio.sleep(0.1)
    changes = deque(crowd.comes("change") for _ in range(4 * IN_A_ROW))
    while not all(each.done() for each in waiting):
        await changes.popleft()
        changes.append(crowd.comes("change"))
    assert [name for name in crowd.order if name != "change"] == NAMES
    rows = "".join("." if name == "change" else "|" for name in crowd.order).split("|")
    assert max(map(len, rows)) == IN_A_ROW
    for each in changes:
        each.cancel()


@in_virtual_time
async def test_who_is_cancelled_leaves_his_place_to_the_next_one() -> None:
    places, chance = Places(2), random.Random(3)
    now, most, been = 0, 0, 0

    async def call() -> None:
        nonlocal now, most, been
        HASTE.set(Haste(chance.random() < 0.3))
        async with places:
            now, been = now + 1, been + 1
            most = max(most, now)
            try:
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
            finally:
                now -= 1

    tasks = [asyncio.create_task(call()) for _ in range(500)]
    while not all(each.done() for each in tasks):
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        await asyncio.sleep(chance.choice((0, 0.001)))
    assert (most, now) == (2, 0)
    assert been > 100
    async with asyncio.timeout(1), places, places:
        pass


@in_virtual_time
async def test_a_place_that_was_just_given_to_who_is_cancelled_is_the_next_one_s() -> None:
    places = Places(1)

    async def call() -> None:
        async with places:
            pass

    await places.__aenter__()
    first, second = asyncio.create_task(call()), asyncio.create_task(call())
    await asyncio.sleep(0)
    await places.__aexit__(None, None, None)
    first.cancel()
    async with asyncio.timeout(1):
        await second
    assert first.cancelled()


@in_virtual_time
async def test_the_limits_hold_whoever_gets_into_haste_or_leaves() -> None:
    crowd, chance = Crowd(4, 5), random.Random(1)
    tasks = {(name := f"r{number}"): crowd.comes(name, chance.random()) for number in range(100)}
    while not all(each.done() for each in tasks.values()):
        name = chance.choice(sorted(tasks))
        if chance.random() < 0.2:
            tasks[name].cancel()
        else:
            crowd.changes(name)
        await asyncio.sleep(chance.random() / 5)
    assert crowd.most <= 4
    assert all(later - sooner >= 0.999 for sooner, later in zip(crowd.at, crowd.at[10:], strict=False)), (
        "5, and 5 at first"
    )
    assert len(crowd.order) > 50
    await asyncio.sleep(10)
    crowd.most = 0
    await asyncio.gather(*(crowd.call(f"late {number}") for number in range(4)))
    assert crowd.most == 4, "all places are there again"
