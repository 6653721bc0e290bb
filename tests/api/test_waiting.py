"""`testerctl wait`: what counts as so, and the reason why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from api.commands.wait import until
from api.complaint import Complaint
from api.waiting import Wish, whom
from controller.queries import Queries
from controller.records import AddEvent, Condition, DropTester, Event, Phase, PutCondition, PutTester, SetStatus, Status
from controller.running import Controller
from tests.api.conftest import LINK
from tests.controller.fakes import START, ManualClock, a_tester, record_of

SHORT = timedelta(seconds=10)
LONG = timedelta(seconds=40)


async def waited(controller: Controller, name: str, what: str, limit: timedelta = SHORT) -> str:
    return await until(Wish(name, what), limit, Queries(controller.store), controller.clock)


async def why_not(controller: Controller, name: str, what: str, limit: timedelta = SHORT) -> str:
    with pytest.raises(Complaint) as caught:
        await waited(controller, name, what, limit)
    return str(caught.value)


@pytest.mark.parametrize("word", ["Ready", "ready"])
async def test_who_is_ready_is_told_at_once_with_the_link(controller: Controller, word: str) -> None:
    assert await waited(controller, "alice", word) == f"alice is Ready: {LINK}"
    assert controller.clock.now() == START


async def test_ready_of_an_older_spec_is_not_enough(controller: Controller) -> None:
    await controller.store.write(PutTester(record_of(a_tester("alice"), generation=2)))
    assert "newest spec has not been looked through yet" in await why_not(controller, "alice", "Ready")
    await controller.store.write(SetStatus("alice", Phase.READY, 100, "", 2, None))
    assert "alice is Ready" in await waited(controller, "alice", "Ready")


async def test_the_reason_says_what_since_when_and_who(controller: Controller) -> None:
    at = controller.clock.now()
    limit = at + timedelta(minutes=5, seconds=10)
    machine = Condition("bob", "Machine", Status.FALSE, "Deploying", "no room", 1, at, until=limit, blames="grid")
    ready = Condition("bob", "Ready", Status.FALSE, "Deploying", "Machine: no room", 1, at)
    await controller.store.write(PutCondition(machine), PutCondition(ready))
    said = await why_not(controller, "bob", "Ready")
    assert said.startswith("bob is not Ready: Stalled 30%, Deploying: Machine: no room (grid, limit in 5 min)")
    assert said.endswith("(Waited 10 s for Ready.)")


async def test_a_condition_is_waited_for_by_its_type(controller: Controller) -> None:
    good = Condition("bob", "SignInProtected", Status.TRUE, "Proven", "every path asks", 1, START)
    assert "has no condition SignInProtected; there are: Machine, Ready" in await why_not(
        controller, "bob", "SignInProtected"
    )
    await controller.store.write(PutCondition(replace(good, generation=0)))
    assert "of an older spec" in await why_not(controller, "bob", "signinprotected")
    await controller.store.write(PutCondition(good))
    assert "SignInProtected is True, Proven" in await waited(controller, "bob", "signinprotected")
    assert "Machine is False, NoCapacity" in await why_not(controller, "bob", "Machine")


async def test_somebody_unknown_is_waited_for_a_little_in_case_the_file_was_just_saved(controller: Controller) -> None:
    said = await why_not(controller, "dave", "Ready", LONG)
    assert said == "There is no tester dave. Known: alice, bob."
    assert controller.clock.now() - START == timedelta(seconds=30)


class Meanwhile(ManualClock):
    """Something happens while one sleeps for the first time."""

    def __init__(self, controller: Controller, *changes: object) -> None:
        super().__init__()
        self._store, self._changes = controller.store, changes

    async def sleep(self, span: timedelta) -> None:
        await super().sleep(span)
        changes, self._changes = self._changes, ()
        await self._store.write(*changes)  # type: ignore[arg-type]


async def test_who_appears_meanwhile_is_then_waited_for(controller: Controller) -> None:
    clock = Meanwhile(controller, PutTester(record_of(a_tester("dave"), uid="z7k2p9")))
    with pytest.raises(Complaint, match="dave is not Ready"):
        await until(Wish("dave", "Ready"), LONG, Queries(controller.store), clock)
    assert clock.now() - START == LONG


@pytest.mark.parametrize(
    ("what", "words"), [("Ready", "alice was removed meanwhile."), ("Removed", "alice is removed.")]
)
async def test_the_end_of_a_tester_ends_the_waiting(controller: Controller, what: str, words: str) -> None:
    going = SetStatus("alice", Phase.REMOVING, 50, "machine: going", 1, None)
    await controller.store.write(PutTester(record_of(a_tester("alice"), removed_at=START)), going)
    said = await why_not(controller, "alice", "Removed", timedelta(seconds=1))
    assert said.startswith("alice is still being removed: machine: going")
    clock = Meanwhile(controller, DropTester("alice"), AddEvent(Event("alice", "", "Removed", "gone", START)))
    try:
        found = await until(Wish("alice", what), LONG, Queries(controller.store), clock)
    except Complaint as error:
        found = str(error)
    assert found.startswith(words)
    assert clock.now() - START < LONG


async def test_removed_says_so_when_nobody_is_removing(controller: Controller) -> None:
    assert "is not being removed: " in await why_not(controller, "alice", "Removed")
    assert "nothing is left to remove" in await waited(controller, "nobody", "Removed")
    expired = SetStatus("alice", Phase.EXPIRED, 100, "", 1, None)
    await controller.store.write(PutTester(record_of(a_tester("alice"), removed_at=START)), expired)
    assert "has expired and everything of it is gone" in await waited(controller, "alice", "Removed")


@pytest.mark.parametrize(
    ("minutes", "retried", "failures", "words"),
    [
        (5, False, 0, "Forge, limit in 5 min"),
        (-3, False, 0, "Forge, 3 min over its limit"),
        (1, True, 1, "Forge, next try in 1 min after 1 failure"),
        (1, True, 3, "Forge, next try in 1 min after 3 failures"),
        (-1, True, 0, "Forge, next try due"),
    ],
)
def test_who_is_waited_for_and_until_when(minutes: int, retried: bool, failures: int, words: str) -> None:
    assert whom("Forge", START + timedelta(minutes=minutes), START, retried=retried, failures=failures) == words
    assert whom("", None, START) == ""
