"""The door before everything else: looked at first in every pass and in every removal, and no obstacle once it is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from controller.records import PutTester
from controller.store import Store
from reconcilers.errors import Unreachable
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, a_tester, record_of, rig

STEPS = ("account", "machine", "gateway", "sign_in_gate", "sign_in_app")  # the door neither first nor last


def a_step(name: str, outside: Outside) -> FakeStep:
    step = FakeStep(name, outside, leaves="standing" if name in ("machine", "gateway") else "access")
    if name == "sign_in_gate":  # like the real one it makes nothing of its own: no row says that it is gone
        step.makes, step.watches, step.fixed_name = False, True, "gate"
    return step


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    made = rig(store, clock, [a_step(name, outside) for name in STEPS], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    await made.until_quiet()
    outside.calls.clear()
    return made


async def leave(one: Rig) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=2, removed_at=one.clock.now())))


def listening(one: Rig) -> list[str]:
    """The steps in the order in which they begin to look from now on."""
    order: list[str] = []

    def noted(name: str) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            order.append(name)

        return note

    for name, step in one.steps.items():
        step.on_observe = noted(name)
    return order


async def test_every_pass_looks_at_the_door_before_anything_else(one: Rig) -> None:
    order = listening(one)
    await one.run_pass()
    assert sorted(order) == sorted(STEPS)
    assert order[0] == "sign_in_gate"


async def test_every_removal_looks_at_the_door_before_anything_else(one: Rig) -> None:
    order = listening(one)
    await leave(one)
    await one.run_pass()
    assert order[0] == "sign_in_gate"
    assert one.outside.calls[0] == "delete gate"


async def test_a_door_on_a_dead_machine_does_not_keep_its_tester_for_ever(one: Rig) -> None:
    one.steps["sign_in_gate"].error = Unreachable("no route", system="machine")
    await leave(one)
    await one.until_quiet()
    assert set(one.outside.things) == {"gate"}
    assert await one.store.tester("alice") is None


@pytest.mark.parametrize("standing", ["machine", "gateway"])
async def test_while_anything_stands_behind_it_a_door_that_cannot_be_shut_is_not_excused(
    one: Rig, standing: str
) -> None:
    one.steps["sign_in_gate"].error = Unreachable("no route", system="machine")
    one.steps[standing].error = Unreachable("no route", system="the grid")
    await leave(one)
    await one.run_pass()
    assert (await one.condition("SignInGate"))[0] == "False"
    assert await one.store.tester("alice") is not None


async def test_only_the_door_is_excused(one: Rig) -> None:
    """What stands outside of the machine must be seen to be gone, however dead the machine is."""
    one.steps["sign_in_app"].error = Unreachable("no route", system="Forge")
    await leave(one)
    await one.run_pass()
    assert set(one.outside.things) == {"sign_in_app-alice-1-1"}
    assert await one.store.tester("alice") is not None
