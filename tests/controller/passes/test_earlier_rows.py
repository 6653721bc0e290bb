"""What a step must know of the objects before the present one is in their rows, and survives the process at every point."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.records import Change, PutObject
from controller.store import Store
from reconcilers.actions import Action, Effect, Step
from reconcilers.errors import Transient
from reconcilers.facts import Facts, ObjectState, OutsideObject
from specs.desired import DesiredTester
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, Seen, a_tester, failing, rig


class GivingUp(FakeStep):
    """Deletes what it has once, and makes the next one. `told`: of the rows before the one that was planned for last."""

    def __init__(self, outside: Outside) -> None:
        super().__init__("machine", outside)
        self.gives_up = ""
        self.told: tuple[OutsideObject, ...] = ()

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        if desired is not None:
            self.told = facts.earlier
        if desired is not None and observed is not None and observed.name == self.gives_up:
            return (Action("delete", observed.name, Effect.DELETE, marks=(("given_up", "yes"),)),)
        return super().plan(desired, observed, facts)


async def begun(store: Store, clock: ManualClock, outside: Outside) -> tuple[Rig, GivingUp]:
    """A process that has just been started on these books."""
    step = GivingUp(outside)
    one = rig(store, clock, [step], outside)
    await one.engine.adopt(FLEET)
    return one, step


class Crash(BaseException):
    """The process ends here."""


CRASHES = {
    "with the intent": ObjectState.RETIRING,
    "with the new one's intent": ObjectState.INTENDED,
    "with the end of the old one": ObjectState.GONE,
}


@pytest.mark.parametrize("name", CRASHES)
async def test_what_was_given_up_is_known_after_a_crash(name: str, store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one, step = await begun(store, clock, outside)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    assert step.told == ()
    step.gives_up = "machine-alice-1-1"

    async def crash(moment: str, changes: tuple[Change, ...]) -> None:
        rows = [change.object for change in changes if isinstance(change, PutObject)]
        if moment == "after commit" and any(row.state is CRASHES[name] for row in rows):
            store.hooks.clear()
            raise Crash

    async def work_on() -> None:
        for _ in range(5):
            await one.run_pass()
            clock.pass_by(timedelta(minutes=11))

    store.hooks.append(crash)
    with pytest.raises(Crash):
        await work_on()

    one, step = await begun(store, clock, outside)
    clock.pass_by(timedelta(minutes=11))
    await one.until_quiet()
    assert "machine-alice-1-1" not in outside.things
    assert len(outside.things) == 1
    row = step.told[0]
    assert (row.name, row.identity.get("given_up")) == ("machine-alice-1-1", "yes")


async def test_a_delete_that_was_refused_takes_nothing_back_of_what_its_row_knows(
    store: Store, clock: ManualClock
) -> None:
    """The step itself takes the mark out again, should it see that it was wrong."""
    outside = Outside()
    one, step = await begun(store, clock, outside)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    step.gives_up = "machine-alice-1-1"
    outside.before.append(failing(Transient("busy", system="the grid")))
    await one.run_pass()
    (row,) = await store.objects("machine")
    assert (row.state, row.identity) == (ObjectState.EXISTING, {"id": "1", "given_up": "yes"})


async def test_only_rows_of_the_step_that_are_older_are_told_oldest_first(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one, step = await begun(store, clock, outside)
    await one.add(a_tester("alice"))
    rows = [(1, 1), (2, 2), (2, 1), (9, 1)]
    others = [OutsideObject("alice", "gateway", 1, 1, "g", ObjectState.EXISTING)]
    made = [OutsideObject("alice", "machine", *key, f"m{key}", ObjectState.GONE, {"id": "x"}) for key in rows]
    await store.write(*(PutObject(row) for row in (*made, *others)))
    await one.until_quiet()
    assert [(row.incarnation, row.attempt) for row in step.told] == [(1, 1), (2, 1), (2, 2), (9, 1)]
