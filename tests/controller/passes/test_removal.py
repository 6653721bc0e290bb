"""Leaving: access first, then what stands, each until it is seen to be gone; the row is the finaliser."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.records import DropFacts, PutTester, Severity
from controller.store import Store
from reconcilers.actions import Action, Disruption, Effect, Step
from reconcilers.errors import Blocked, OutcomeUnknown, Transient, Unreachable
from reconcilers.facts import Facts, MachineAccessFacts, ObjectState, StepFacts
from specs.desired import DesiredTester
from tests.controller.fakes import (
    FLEET,
    GRACE,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    Seen,
    a_tester,
    failing,
    record_of,
    rig,
)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside, needs=("account",)),
        FakeStep("gateway", outside, needs=("machine",)),
        FakeStep("sign_in_app", outside, needs=("gateway",), leaves="access"),
    ]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    await made.until_quiet()
    outside.calls.clear()
    return made


async def leave(one: Rig, **spec: Any) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice", **spec), generation=2, removed_at=one.clock.now())))


async def test_everything_goes_in_reverse_access_first_and_then_the_row(one: Rig) -> None:
    await leave(one)
    await one.until_quiet()
    assert one.outside.calls == [
        "delete sign_in_app-alice-1-1",
        "delete Alice",
        "delete gateway-alice-1-1",
        "delete machine-alice-1-1",
    ]
    assert await one.store.tester("alice") is None
    assert one.outside.things == {}
    assert (await one.told())[0] == "Removed"


async def test_the_row_stays_until_what_was_deleted_is_seen_to_be_gone(one: Rig) -> None:
    await leave(one)
    one.outside.before.extend([failing(OutcomeUnknown("no answer", system="the grid"))] * 4)
    await one.run_pass()
    assert await one.store.tester("alice") is not None
    assert len(one.outside.things) == 4
    one.clock.pass_by(timedelta(minutes=1))
    await one.until_quiet()
    assert await one.store.tester("alice") is None
    assert one.outside.things == {}


async def test_a_lost_delete_and_a_listing_that_omits_it_leak_nothing(one: Rig) -> None:
    await leave(one)
    one.outside.before.extend([failing(OutcomeUnknown("no answer", system="the grid"))] * 4)
    await one.run_pass()
    one.outside.hidden |= set(one.outside.things)
    one.clock.pass_by(timedelta(seconds=10))
    await one.run_pass()
    assert await one.store.tester("alice") is not None
    one.outside.hidden.clear()
    one.clock.pass_by(timedelta(seconds=10))
    await one.until_quiet()
    assert one.outside.things == {}
    assert await one.store.tester("alice") is None


async def test_forge_down_does_not_keep_the_machine_and_nothing_is_forgotten(one: Rig) -> None:
    await leave(one)
    one.steps["account"].error = Transient("Forge is down", system="Forge")
    for _ in range(3):
        wait = await one.run_pass()
        one.clock.pass_by(wait or timedelta(seconds=1))
    assert set(one.outside.things) == {"Alice"}
    assert await one.store.tester("alice") is not None
    one.steps["account"].error = None
    one.clock.pass_by(timedelta(hours=1))
    await one.until_quiet()
    assert await one.store.tester("alice") is None


async def test_the_machine_is_kept_for_as_long_as_the_spec_says_and_putting_the_file_back_restores_it(one: Rig) -> None:
    await leave(one, machine={"keepAfterRemoval": "24h"})
    wait = await one.run_pass()
    assert one.outside.calls == ["delete sign_in_app-alice-1-1", "delete Alice"]
    assert wait is not None
    one.clock.pass_by(timedelta(hours=23))
    await one.run_pass()
    assert "machine-alice-1-1" in one.outside.things
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))
    one.outside.calls.clear()
    await one.until_quiet()
    assert "delete machine-alice-1-1" not in one.outside.calls
    assert {"machine-alice-1-1", "gateway-alice-1-1", "Alice"} <= set(one.outside.things)


async def test_after_that_time_the_machine_goes(one: Rig) -> None:
    await leave(one, machine={"keepAfterRemoval": "24h"})
    await one.run_pass()
    one.clock.pass_by(timedelta(hours=24, seconds=1))
    await one.until_quiet()
    assert one.outside.things == {}
    assert await one.store.tester("alice") is None


async def test_put_back_while_it_is_going_it_ends_converged(one: Rig) -> None:
    await leave(one)
    one.outside.before.extend([failing(Transient("502", system="the grid"))] * 2)
    await one.run_pass()
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))
    one.clock.pass_by(timedelta(minutes=5))
    await one.until_quiet()
    assert {name.split("-")[0] for name in one.outside.things} == {"Alice", "machine", "gateway", "sign_in_app"}
    assert len(one.outside.things) == 4


async def test_a_create_that_was_lost_before_the_removal_is_deleted_should_it_appear(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside)], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    outside.before.append(failing(OutcomeUnknown("no answer", system="the grid")))
    await one.run_pass()
    record = await store.tester("alice")
    assert record is not None
    await store.write(PutTester(replace(record, removed_at=clock.now(), source_file="", generation=2)))
    clock.pass_by(timedelta(seconds=10))
    await one.run_pass()
    assert await store.tester("alice") is not None
    outside.things["machine-alice-1-1"] = {"value": "right", "id": "late"}
    clock.pass_by(timedelta(seconds=10))
    await one.until_quiet()
    assert outside.things == {}
    assert await store.tester("alice") is None


async def test_a_condition_on_another_step_does_not_make_a_removal_wait_for_ever(one: Rig) -> None:
    class Conditional(FakeStep):
        def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
            return tuple(
                replace(step, only_while=("machine",)) if isinstance(step, Action) else step
                for step in super().plan(desired, observed, facts)
            )

    account = one.steps["account"]
    one.steps["account"].plan = Conditional("account", account.outside).plan  # type: ignore[method-assign]
    await leave(one)
    async with asyncio.timeout(20):
        await one.run_pass()
    assert "Alice" in one.outside.things
    assert await one.condition("Account") == ("False", "Removing")


async def test_putting_the_file_back_stops_a_removal_before_its_next_step(one: Rig) -> None:
    await leave(one)

    async def put_back(action: Action) -> None:
        await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))

    one.outside.before.append(put_back)
    assert await one.run_pass() == timedelta(0)
    assert one.outside.calls == ["delete sign_in_app-alice-1-1"]
    await one.until_quiet()
    assert len(one.outside.things) == 4


async def test_who_is_put_back_at_the_last_moment_is_not_called_removed(one: Rig) -> None:
    await leave(one)
    gone = one.steps["machine"].on_observe

    async def put_back() -> None:
        if "machine-alice-1-1" not in one.outside.things:
            await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))
            one.steps["machine"].on_observe = gone

    one.steps["machine"].on_observe = put_back
    await one.run_pass()
    assert "Removed" not in await one.told()
    assert await one.store.tester("alice") is not None
    await one.until_quiet()
    assert len(one.outside.things) == 4


async def test_a_door_that_has_facts_is_shut_though_facts_that_it_needs_are_gone(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, needs=("gateway",), leaves="access", fixed_name="gate")
    gate.makes, gate.watches = False, True
    one = rig(store, clock, [FakeStep("machine", outside), FakeStep("gateway", outside), gate], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice", machine={"keepAfterRemoval": "24h"}))
    outside.things["gate"] = {"value": "right", "id": "door"}
    await one.until_quiet()
    await store.write(DropFacts("alice", "gateway"))
    await leave(one, machine={"keepAfterRemoval": "24h"})
    await one.run_pass()
    assert "gate" not in outside.things


async def test_one_row_that_cannot_go_does_not_hold_up_the_other(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside)], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    outside.before.append(failing(OutcomeUnknown("no answer", system="the grid")))
    await one.run_pass()
    clock.pass_by(GRACE)
    await one.until_quiet()
    outside.things["machine-alice-1-1"] = {"value": "right", "id": "late"}
    await leave(one)
    outside.before.append(failing(Transient("502", system="the grid")))
    await one.run_pass()
    assert set(outside.things) == {"machine-alice-1-1"}
    assert await one.condition("Machine") == ("False", "Transient")


class Keeping(FakeStep):
    """Like an account: what the spec says about its end is done to whatever bears its row's name."""

    keep = True

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        return () if desired is None and self.keep else super().plan(desired, observed, facts)


@pytest.fixture
async def kept(store: Store, clock: ManualClock) -> Rig:
    """A tester who was removed, and whose account was kept."""
    outside = Outside()
    made = rig(store, clock, [Keeping("account", outside, leaves="access", fixed_name="Alice")], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    await made.until_quiet()
    await leave(made)
    await made.until_quiet()
    assert await store.tester("alice") is None
    assert set(outside.things) == {"Alice"}
    return made


async def test_what_was_kept_serves_a_namesake_with_the_same_account(kept: Rig) -> None:
    await kept.add(a_tester("alice"), uid="an0the")
    await kept.until_quiet()
    assert kept.outside.calls == ["create Alice"]
    (row,) = await kept.store.objects("account")
    assert (row.state, row.identity) == (ObjectState.EXISTING, {"id": "1"})


async def test_what_was_kept_is_not_taken_from_its_owner_by_a_namesake_with_another_account(kept: Rig) -> None:
    step = kept.steps["account"]
    step.fixed_name = "Alicia"
    assert isinstance(step, Keeping)
    step.keep = False
    await kept.add(a_tester("alice"), uid="an0the")
    await kept.until_quiet()
    assert set(kept.outside.things) == {"Alice", "Alicia"}
    await kept.store.write(PutTester(record_of(a_tester("alice"), "an0the", removed_at=kept.clock.now())))
    await kept.until_quiet()
    assert set(kept.outside.things) == {"Alice"}
    assert await kept.store.tester("alice") is None


async def test_kept_things_that_people_took_away_are_no_mass_loss(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    step = Keeping("account", outside, leaves="access")
    one = rig(store, clock, [step], outside)
    await one.engine.adopt(FLEET)
    names = ["bob", "carol", "dora", "emil", "fay"]
    for name in names:
        await one.add(a_tester(name))
        await one.until_quiet(name)
        await store.write(PutTester(record_of(a_tester(name), removed_at=clock.now())))
        await one.run_pass(name)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    outside.things.clear()
    clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    assert await one.condition("Account") == ("False", "Missing")


async def test_a_listing_that_suddenly_shows_nothing_is_no_proof_that_a_leaver_is_gone(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside)], outside)
    await one.engine.adopt(FLEET)
    names = ["alice", "bob", "carol", "dora", "emil"]
    for name in names:
        await one.add(a_tester(name))
        await one.until_quiet(name)
    outside.hidden |= set(outside.things)
    await leave(one)
    for _ in range(4):
        await one.run_pass()
        clock.pass_by(timedelta(minutes=10))
    assert await store.tester("alice") is not None
    assert await one.condition("Machine") == ("False", "TooManyLost")
    outside.hidden.clear()
    await one.until_quiet()
    assert "machine-alice-1-1" not in outside.things
    assert await store.tester("alice") is None


async def test_a_removal_is_not_told_as_drift(one: Rig) -> None:
    await leave(one)
    await one.until_quiet()
    told = await one.store.events("alice")
    assert [event.reason for event in told].count("Deleted") == 4
    assert not any(event.message.startswith("drift") for event in told)


async def test_the_door_is_shut_first_and_the_gateway_goes_before_the_machine_whatever_fails(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, leaves="access", fixed_name="gate")
    gate.watches = True
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside),
        FakeStep("gateway", outside),
        FakeStep("sign_in_app", outside, leaves="access"),
    ]
    one = rig(store, clock, [gate, *steps], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    outside.calls.clear()
    await leave(one)
    one.steps["sign_in_app"].error = TypeError("a mistake of ours")
    await one.run_pass()
    assert outside.calls == ["delete gate", "delete Alice", "delete gateway-alice-1-1", "delete machine-alice-1-1"]
    assert await one.condition("SignInApp") == ("False", "InternalError")
    assert await store.tester("alice") is not None


async def test_an_expired_tester_is_removed_and_stays_to_be_seen_until_its_file_goes(one: Rig) -> None:
    expired = a_tester("alice", expires="2026-11-25")
    record = record_of(expired, generation=2, removed_at=one.clock.now(), source_file="alice.yaml")
    await one.store.write(PutTester(record))
    await one.until_quiet()
    assert one.outside.things == {}
    kept = await one.store.tester("alice")
    assert kept is not None
    assert kept.phase == "Expired"
    await one.store.write(PutTester(replace(record, source_file="")))
    await one.until_quiet()
    assert await one.store.tester("alice") is None


async def test_a_last_day_that_is_near_is_said(one: Rig) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice", expires="2026-12-10"), generation=2)))
    await one.until_quiet()
    assert await one.condition("Lasting") == ("True", "ExpiresLater")
    one.clock.pass_by(timedelta(days=14))
    await one.run_pass()
    assert await one.condition("Lasting") == ("False", "ExpiresSoon")
    said = {event.reason: event.severity for event in await one.store.events("alice") if event.step == "Lasting"}
    assert said == {"ExpiresLater": Severity.NORMAL, "ExpiresSoon": Severity.WARNING}


async def test_what_may_not_be_deleted_still_exists_when_its_file_is_put_back(one: Rig) -> None:
    await leave(one)
    one.steps["account"].leaves = "access"
    one.outside.before.append(failing(Transient("busy", system="Forge")))
    one.outside.before.append(failing(Blocked("it still owns repositories", system="Forge")))
    await one.run_pass()
    states = {row.step: row.state for row in await one.store.objects()}
    assert states["account"] is ObjectState.EXISTING
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))
    one.outside.calls.clear()
    await one.until_quiet()
    assert "delete Alice" not in one.outside.calls
    assert "Alice" in one.outside.things


async def test_who_is_put_back_while_the_removal_looks_loses_nothing_more(one: Rig) -> None:
    """A listing may take minutes: what stands is deleted only if it must go still when the delete is written down."""
    await leave(one)
    machine = one.steps["machine"]

    async def put_back() -> None:
        machine.on_observe = None
        await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))

    machine.on_observe = put_back
    assert await one.run_pass() == timedelta(0), "looked at again at once"
    assert "delete machine-alice-1-1" not in one.outside.calls
    assert ("machine-alice-1-1", ObjectState.EXISTING) in await one.rows("machine")
    assert await one.store.unfinished() == ()
    await one.until_quiet()
    assert set(one.outside.things) >= {"Alice", "machine-alice-1-1"}


async def test_a_rebuild_is_not_begun_for_a_spec_that_has_changed_meanwhile(one: Rig) -> None:
    machine = one.steps["machine"]
    planned = machine.plan

    def rebuild(desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        return (Action("delete", "machine-alice-1-1", Effect.DELETE, disruption=Disruption.REBUILD),)

    async def taken_back() -> None:
        machine.on_observe = None
        await one.store.write(PutTester(record_of(a_tester("alice"), generation=2)))

    machine.plan, machine.on_observe = rebuild, taken_back  # type: ignore[method-assign]
    assert await one.run_pass() == timedelta(0), "looked at again at once"
    machine.plan = planned  # type: ignore[method-assign]
    await one.until_quiet()
    assert one.outside.calls == []
    assert len(one.outside.things) == 4


class OnTheMachine(FakeStep):
    """Keeps something that lives there, and is taken from it at once when it answers."""

    def learn(self, observed: Seen, facts: Facts) -> StepFacts:
        return MachineAccessFacts(host_key="key")


@pytest.mark.parametrize("answers", [True, False])
async def test_what_lives_on_the_machine_goes_after_other_access_and_is_not_waited_for(
    store: Store, clock: ManualClock, answers: bool
) -> None:
    outside = Outside()
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside),
        OnTheMachine("machine_access", outside, needs=("machine",), leaves="access", fixed_name="keys"),
    ]
    one = rig(store, clock, steps, outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    outside.calls.clear()
    steps[2].error = None if answers else Unreachable("no SSH connection", system="machine of alice")
    await leave(one)
    await one.until_quiet()
    assert outside.calls == ["delete Alice", *(["delete keys"] if answers else []), "delete machine-alice-1-1"]
    assert await store.tester("alice") is None
