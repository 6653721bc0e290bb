"""Leaving: access first, then what stands, each until it is seen to be gone; the row is the finaliser."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.records import PutTester
from controller.store import Store
from reconcilers.errors import OutcomeUnknown, Transient
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, a_tester, failing, record_of, rig


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
    await store.write(PutTester(replace(record, removed_at=clock.now(), generation=2)))
    clock.pass_by(timedelta(seconds=10))
    await one.run_pass()
    assert await store.tester("alice") is not None
    outside.things["machine-alice-1-1"] = {"value": "right", "id": "late"}
    clock.pass_by(timedelta(seconds=10))
    await one.until_quiet()
    assert outside.things == {}
    assert await store.tester("alice") is None
