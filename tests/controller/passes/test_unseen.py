"""What no look shows is told to go all the same, where a look is not the last word: once answered, never again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.passes.preview import preview
from controller.records import Outcome, PutTester
from controller.store import Store
from reconcilers.actions import Action, Effect
from reconcilers.errors import OutcomeUnknown, Transient
from reconcilers.facts import Facts, ObjectState
from tests.controller.fakes import (
    FLEET,
    GRACE,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    a_tester,
    failing,
    record_of,
    rig,
)

SECOND = timedelta(seconds=1)
NAME = "gateway-alice-1-1"
DELETE = f"delete {NAME}"


class ById(FakeStep):
    """What it keeps cannot be asked for, and can be told to go by its id."""

    def delete_unseen(self, facts: Facts) -> Action | None:
        row = facts.object
        return Action("delete", row.name, Effect.DELETE) if row is not None and "id" in row.identity else None


async def made(store: Store, clock: ManualClock, *names: str, **more: Any) -> Rig:
    outside = Outside()
    one = rig(store, clock, [ById("gateway", outside, **more)], outside)
    await one.engine.adopt(FLEET)
    for name in names:
        await one.add(a_tester(name))
        await one.until_quiet(name)
    outside.calls.clear()
    return one


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    return await made(store, clock, "alice")


async def leave(one: Rig, **spec: Any) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice", **spec), generation=2, removed_at=one.clock.now())))


async def planned(one: Rig) -> list[str]:
    books, world = await one.store.books("alice"), one.engine.world
    assert books is not None
    assert world is not None
    found = await preview(books, {}, world, one.store)
    return [action.target for step in found.steps for action in step.actions]


async def test_who_leaves_has_it_told_to_go_at_once_though_no_look_shows_it(one: Rig) -> None:
    one.outside.hidden.add(NAME)
    await leave(one)
    assert await planned(one) == [NAME]
    await one.run_pass()
    assert (one.outside.calls, one.outside.things) == ([DELETE], {})
    assert await one.store.tester("alice") is None
    ends = [(entry.verb, entry.outcome) for entry in await one.store.journal("alice")]
    assert ends.count(("delete", Outcome.DONE)) == 1


@pytest.mark.parametrize("error", [OutcomeUnknown("no answer", system="grid"), Transient("502", system="grid")])
async def test_until_it_is_answered_it_is_told_again_and_is_not_gone(one: Rig, error: Exception) -> None:
    one.outside.hidden.add(NAME)
    one.outside.before.extend([failing(error)] * 3)
    await leave(one)
    for _ in range(3):
        assert await planned(one) == [NAME]
        await one.run_pass()
        one.clock.pass_by(GRACE * 3)
    assert one.outside.calls == []
    assert await one.store.tester("alice") is not None
    await one.until_quiet()
    assert (one.outside.calls, one.outside.things) == ([DELETE], {})
    assert await one.store.tester("alice") is None


async def test_one_that_is_still_shown_after_its_delete_and_then_is_not_is_not_told_again(one: Rig) -> None:
    await leave(one)

    async def takes_its_time(action: Action) -> None:
        one.outside.things[NAME] = {"value": "right", "id": "1"}

    one.outside.after.append(takes_its_time)
    await one.run_pass()
    assert await planned(one) == [NAME], "it is shown"
    one.outside.hidden.add(NAME)
    assert await planned(one) == []
    one.clock.pass_by(SECOND * 10)
    await one.run_pass()
    assert one.outside.calls == [DELETE]
    assert await one.store.tester("alice") is None


async def test_what_is_kept_for_a_while_is_not_told_before(one: Rig) -> None:
    one.outside.hidden.add(NAME)
    await leave(one, machine={"keepAfterRemoval": "24h"})
    await one.run_pass()
    one.clock.pass_by(timedelta(hours=23))
    await one.run_pass()
    assert one.outside.calls == []
    one.clock.pass_by(timedelta(hours=2))
    await one.until_quiet()
    assert one.outside.calls == [DELETE]


async def test_so_many_that_are_missing_at_once_do_not_keep_a_leaver(store: Store, clock: ManualClock) -> None:
    """The brake is for what is taken for gone because it is not shown: this is asked for."""
    one = await made(store, clock, "alice", "bob", "carol", "dora", "emil")
    one.outside.hidden |= set(one.outside.things)
    await leave(one)
    await one.until_quiet()
    assert one.outside.calls == [DELETE]
    assert await store.tester("alice") is None


async def test_what_may_have_been_made_and_has_no_id_yet_is_looked_for_as_ever(
    store: Store, clock: ManualClock
) -> None:
    one = await made(store, clock)
    await one.add(a_tester("alice"))
    one.outside.before.append(failing(OutcomeUnknown("no answer", system="grid")))
    await one.run_pass()
    await leave(one)
    await one.run_pass()
    assert await one.rows("gateway") == [(NAME, ObjectState.INTENDED)]
    for _ in range(3):
        clock.pass_by(GRACE + SECOND)
        await one.run_pass()
    assert one.outside.calls == []
    assert await store.tester("alice") is None


async def test_one_that_has_disappeared_is_made_anew_and_the_old_one_told_to_go(one: Rig) -> None:
    one.outside.hidden.add(NAME)
    one.clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    assert one.outside.calls == []
    one.clock.pass_by(GRACE)
    await one.until_quiet()
    assert one.outside.calls == ["create gateway-alice-2-1", DELETE]
    assert set(one.outside.things) == {"gateway-alice-2-1"}
    assert dict(await one.rows("gateway"))[NAME] is ObjectState.GONE


async def test_a_name_of_the_testers_own_is_free_before_it_is_taken_anew(store: Store, clock: ManualClock) -> None:
    one = await made(store, clock, "alice", fixed_name="cloud")
    one.outside.hidden.add("cloud")
    clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    clock.pass_by(GRACE)
    one.outside.after.append(lambda action: _shown(one))
    await one.until_quiet()
    assert one.outside.calls == ["delete cloud", "create cloud"]
    assert set(one.outside.things) == {"cloud"}
    assert await one.condition("Gateway") == ("True", "InSync")


async def _shown(one: Rig) -> None:
    one.outside.hidden.clear()
