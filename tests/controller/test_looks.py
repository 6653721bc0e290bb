"""Shared looks: one request for many readers, never older than demanded, and no reader can spoil it for the others."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

from reconcilers.backends.compute import Vm
from reconcilers.backends.haste import HASTE, Haste
from reconcilers.backends.machine import MachineAddress, MachineAnswer, MachineLook, MachineQuery, Question, question_of
from reconcilers.errors import Transient
from reconcilers.looks import NOTHING, Looks, TesterLooks
from tests.controller.fakes import FLEET, ManualClock

AGE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)


class Asked:
    """A question whose answers come when the test says so: the number of the request."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[int]] = []

    async def ask(self) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.answers.append(future)
        return await future

    async def begun(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.answers) < count:  # noqa: ASYNC110 - a fake that sets no event
                await asyncio.sleep(0)

    def answer(self, number: int) -> None:
        self.answers[number - 1].set_result(number)


@pytest.fixture
def looks(clock: ManualClock) -> Looks:
    backends: Any = None
    return Looks(backends, clock, AGE)


async def test_many_readers_make_one_request(looks: Looks) -> None:
    asked = Asked()
    readers = [asyncio.ensure_future(looks.read("vms", None, asked.ask)) for _ in range(5)]
    await asked.begun(1)
    asked.answer(1)
    assert {look.value for look in await asyncio.gather(*readers)} == {1}
    assert (await looks.read("vms", None, asked.ask)).value == 1
    assert len(asked.answers) == 1


async def test_a_listing_that_says_the_same_is_the_very_same_with_its_indexes(looks: Looks, clock: ManualClock) -> None:
    said: list[tuple[Vm, ...]] = [(Vm("1", "alice", "running"),)]

    async def list_vms() -> tuple[Vm, ...]:
        return said[-1]

    looks.backends = SimpleNamespace(daemon=lambda name: SimpleNamespace(list_vms=list_vms))  # type: ignore[assignment]
    mine = TesterLooks(looks)
    first = (await mine.vms("gent")).under("vm_id", "1")
    clock.pass_by(AGE + SECOND)
    mine.demand_newer()
    assert (await mine.vms("gent")).under("vm_id", "1") is first
    assert mine.oldest == clock.now(), "and as new as it is"
    said.append((Vm("1", "alice", "failed"),))
    clock.pass_by(SECOND)
    mine.demand_newer()
    assert (await mine.vms("gent")).under("vm_id", "1") == said[-1]


async def test_an_old_look_is_taken_anew(looks: Looks, clock: ManualClock) -> None:
    asked = Asked()
    for number in (1, 2):
        reader = asyncio.ensure_future(looks.read("vms", None, asked.ask))
        await asked.begun(number)
        asked.answer(number)
        assert (await reader).value == number
        clock.pass_by(AGE + SECOND)


async def test_what_was_begun_before_a_write_does_not_do_after_it(looks: Looks, clock: ManualClock) -> None:
    asked = Asked()
    early = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(1)
    clock.pass_by(SECOND)
    late = asyncio.ensure_future(looks.read("vms", clock.now(), asked.ask))
    await asked.begun(2)
    asked.answer(2)
    assert (await late).value == 2
    asked.answer(1)  # an answer that comes late must not replace the newer one
    assert (await early).value == 1
    assert (await looks.read("vms", None, asked.ask)).value == 2


async def test_those_who_want_a_newer_look_than_the_one_under_way_get_one_together(
    looks: Looks, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.looks.GATHERING", 60.0)
    asked = Asked()
    early = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(1)
    late = []
    for _ in range(3):
        clock.pass_by(SECOND)
        late.append(asyncio.ensure_future(looks.read("vms", clock.now(), asked.ask)))
        await asyncio.sleep(0)
    asked.answer(1)
    await asked.begun(2)
    asked.answer(2)
    async with asyncio.timeout(5):
        assert [(await each).value for each in (early, *late)] == [1, 2, 2, 2]
    assert len(asked.answers) == 2


async def test_a_reader_that_gives_up_spoils_nothing_for_the_others(looks: Looks) -> None:
    asked = Asked()
    impatient = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    patient = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(1)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    asked.answer(1)
    assert (await patient).value == 1
    assert impatient.cancelled()


async def test_a_look_goes_first_as_soon_as_somebody_who_waits_for_it_does(looks: Looks) -> None:
    asked, its, hastes = Asked(), list[Haste](), {"alice": Haste(), "bob": Haste()}

    async def ask() -> int:
        its.append(HASTE.get())
        return await asked.ask()

    async def read(name: str) -> None:
        HASTE.set(hastes[name])
        await looks.read("vms", None, ask)

    readers = [asyncio.ensure_future(read(name)) for name in hastes]
    await asked.begun(1)
    before = its[0].first
    hastes["bob"].comes()
    assert (before, its[0].first) == (False, True), "though alice was the first to ask"
    assert not hastes["alice"].first
    asked.answer(1)
    await asyncio.gather(*readers)


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(looks: Looks) -> None:
    asked = Asked()
    readers = [asyncio.ensure_future(looks.read("vms", None, asked.ask)) for _ in range(2)]
    await asked.begun(1)
    asked.answers[0].set_exception(Transient("502", system="the grid"))
    assert all(isinstance(end, Transient) for end in await asyncio.gather(*readers, return_exceptions=True))
    again = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(2)
    asked.answer(2)
    assert (await again).value == 2


async def test_a_tester_demands_newer_looks_after_its_own_write_and_knows_their_age(
    looks: Looks, clock: ManualClock
) -> None:
    asked, question = Asked(), "forge/owner"
    looks.backends = SimpleNamespace(forge=SimpleNamespace(whoami=asked.ask))  # type: ignore[assignment]
    mine = TesterLooks(looks)
    first = asyncio.ensure_future(mine._asked(question))
    await asked.begun(1)
    asked.answer(1)
    assert await first == 1
    taken = clock.now()
    clock.pass_by(SECOND)
    assert await mine._asked(question) == 1
    assert mine.oldest == taken
    mine.demand_newer()
    second = asyncio.ensure_future(mine._asked(question))
    await asked.begun(2)
    asked.answer(2)
    assert await second == 2
    assert mine.oldest == clock.now(), "what it knew before rests on nothing any more"


async def test_a_look_from_before_the_clock_was_set_back_is_not_fresh_for_ever(
    looks: Looks, clock: ManualClock
) -> None:
    asked = Asked()
    first = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(1)
    asked.answer(1)
    await first
    clock.pass_by(-timedelta(hours=1))
    second = asyncio.ensure_future(looks.read("vms", clock.now(), asked.ask))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asked.answers) == 2
    asked.answer(2)
    assert (await second).value == 2
    async with asyncio.timeout(5):
        assert (await looks.read("vms", clock.now(), asked.ask)).value == 2, "it is kept in place of that one"


async def test_who_comes_after_the_end_of_an_older_look_goes_along_with_the_newer(
    looks: Looks, clock: ManualClock
) -> None:
    asked = Asked()
    early = asyncio.ensure_future(looks.read("vms", None, asked.ask))
    await asked.begun(1)
    clock.pass_by(SECOND)
    late = [asyncio.ensure_future(looks.read("vms", clock.now(), asked.ask))]
    await asked.begun(2)
    asked.answer(1)
    await early
    late.append(asyncio.ensure_future(looks.read("vms", clock.now(), asked.ask)))
    await asyncio.sleep(0)
    asked.answer(2)
    async with asyncio.timeout(5):
        assert [(await each).value for each in late] == [2, 2]
    assert len(asked.answers) == 2


async def test_of_a_machine_only_what_was_asked_after_our_last_write_is_an_answer(
    looks: Looks, clock: ManualClock
) -> None:
    asked: list[object] = []

    async def answer(*question: object) -> int:
        asked.append(question)
        return len(asked)

    looks.backends = SimpleNamespace(machines=SimpleNamespace(answer=answer))  # type: ignore[assignment]

    async def looked() -> object:
        return (await looks.machine(MachineAddress("gent/1", "400::1"), NOTHING, None)).value

    assert [await looked(), await looked()] == [1, 1]
    clock.pass_by(SECOND)
    looks.wrote("gent/1")
    assert [await looked(), await looked()] == [2, 2]
    clock.pass_by(-timedelta(hours=1))  # what was noted is to come then
    assert [await looked(), await looked()] == [3, 3]


async def test_who_is_looked_at_again_is_asked_unless_an_answer_is_at_hand_or_under_way(
    looks: Looks, clock: ManualClock
) -> None:
    asked, address = Asked(), MachineAddress("gent/1", "400::1")
    looks.backends = SimpleNamespace(machines=SimpleNamespace(answer=lambda *_: asked.ask()))  # type: ignore[assignment]
    again = asyncio.ensure_future(looks.machine_again(address, NOTHING))
    await asked.begun(1)
    began = clock.now()
    clock.pass_by(SECOND)
    asked.answer(1)
    found = await again
    assert (found.value, found.taken_at) == (1, began), "as old as its question"
    async with asyncio.timeout(5):
        assert await looks.machine(address, NOTHING, None) is found, "for the whole pass, should it differ"
        assert await looks.machine_again(address, NOTHING) is found
    looks.wrote("gent/1")
    other = asyncio.ensure_future(looks.machine(address, NOTHING, None))
    await asked.begun(2)
    looks.let_go(address, NOTHING)
    again = asyncio.ensure_future(looks.machine_again(address, NOTHING))
    await asyncio.sleep(0)
    asked.answer(2)
    async with asyncio.timeout(5):
        assert (await again).value == (await other).value == 2
    assert len(asked.answers) == 2


class Answer:
    """What a machine tells, long enough that it matters who keeps it."""


async def test_testers_that_come_and_go_leave_nothing_in_the_cache(looks: Looks, clock: ManualClock) -> None:
    alive: WeakSet[Answer] = WeakSet()

    async def ask() -> Answer:
        alive.add(answer := Answer())
        return answer

    for number in range(300):
        await looks.read(f"machine/gent/{number}/{number}", None, ask)
        clock.pass_by(SECOND)
    await asyncio.sleep(0)
    assert len(alive) <= 2 * AGE / SECOND
    clock.pass_by(AGE)
    await looks.read("vms", None, ask)
    await asyncio.sleep(0)
    assert len(alive) == 1


async def test_a_cache_from_before_the_clock_was_set_back_is_let_go_of(looks: Looks, clock: ManualClock) -> None:
    alive: WeakSet[Answer] = WeakSet()

    async def ask() -> Answer:
        alive.add(answer := Answer())
        return answer

    await looks.read("one", None, ask)
    clock.pass_by(-timedelta(hours=1))
    await looks.read("other", None, ask)
    await asyncio.sleep(0)
    assert len(alive) == 1


async def test_what_forge_published_is_kept_while_somebody_asks_for_it(clock: ManualClock) -> None:
    """Beyond the age of a look: it is the answer while Forge is silent."""
    forge = SilentForge()
    backends: Any = SimpleNamespace(forge=forge)
    looks = Looks(backends, clock, AGE)
    mine = TesterLooks(looks)
    assert await mine.releases(FLEET, "latest") == {"hero_books": "v1"}
    assert await mine.releases(FLEET, "next") == {"hero_books": "v1"}
    forge.silent = True
    for _ in range(20):
        clock.pass_by(timedelta(minutes=10))
        await looks.read("vms", None, forge.anything)
        assert await mine.releases(FLEET, "latest") == {"hero_books": "v1"}
    assert await mine.releases(FLEET, "next") == {}, "nobody had asked for that channel for hours"


class SilentForge:
    """Told its releases once."""

    silent = False

    async def anything(self) -> None: ...

    async def newest(self, owner: str, names: list[str], known: object, channel: str) -> dict[str, str]:
        if self.silent:
            raise Transient("no answer", system="Forge")
        return {"hero_books": "v1"}


async def test_a_look_answers_an_equal_question_also_when_nobody_held_the_first_one(clock: ManualClock) -> None:
    """Else it would depend on the collector who has to look again."""
    asked: list[str] = []

    async def answer(address: MachineAddress, question: Question) -> MachineAnswer:
        asked.append(address.key)
        return MachineAnswer(b"", lambda: MachineLook(host_key=""))

    backends: Any = SimpleNamespace(machines=SimpleNamespace(answer=answer))
    looks, address = Looks(backends, clock, AGE), MachineAddress("gent/1", "400::1", "root", None)
    for _ in range(2):
        await looks.machine(address, question_of(MachineQuery(components=("never asked before",))), None)
        gc.collect()
    assert len(asked) == 1
