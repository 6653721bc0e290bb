"""The preview: the same look and the same plan as the pass, what is known only later, and nothing written anywhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.passes.preview import Preview, preview
from controller.records import PutTester
from controller.store import Store
from reconcilers.actions import Disruption, Finding, Wait
from reconcilers.errors import OutcomeUnknown, Transient
from reconcilers.facts import Facts, GatewayFacts, KnownAfter, MachineFacts
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


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside, needs=("account",)),
        FakeStep("gateway", outside, needs=("machine",)),
        FakeStep("sign_in_app", outside, needs=("gateway",), leaves="access"),
        FakeStep("settings", outside, needs=("gateway",), leaves="machine", fixed_name="settings"),
    ]
    steps[-1].makes = False
    made = rig(store, clock, steps, outside)
    made.steps["settings"].learn = lambda observed, facts: None  # type: ignore[method-assign]
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    outside.things["settings"] = {"value": "right", "id": "0"}
    return made


async def previewed(one: Rig) -> Preview:
    """And nothing is written, neither outside nor to the store."""
    books, world = await one.store.books("alice"), one.engine.world
    assert books is not None
    assert world is not None
    commits, calls, things = one.store.commits, list(one.outside.calls), dict(one.outside.things)
    found = await preview(books, {}, world, one.store)
    assert (one.store.commits, one.outside.calls, one.outside.things) == (commits, calls, things)
    assert await one.store.books("alice") == books
    return found


def verbs(found: Preview) -> dict[str, list[str]]:
    return {step.step: [f"{action.verb} {action.target}" for action in step.actions] for step in found.steps}


async def test_of_a_new_tester_everything_is_shown_and_what_is_known_only_later(one: Rig) -> None:
    seen: list[Facts] = []

    def wanted(facts: Facts) -> str:
        seen.append(facts)
        return "right"

    one.steps["sign_in_app"].wanted = wanted
    found = await previewed(one)
    assert verbs(found) == {
        "account": ["create Alice"],
        "machine": ["create machine-alice-1-1"],
        "gateway": ["create gateway-alice-1-1"],
        "sign_in_app": ["create sign_in_app-alice-1-1"],
        "settings": ["create settings"],
    }
    assert {step.step: step.known_after for step in found.steps} == {
        "account": (),
        "machine": ("account",),
        "gateway": ("machine",),
        "sign_in_app": ("gateway",),
        "settings": ("gateway",),
    }
    assert found.changes
    assert found.errors == ()
    assert one.steps["machine"].turns == 0  # what is not known cannot be looked at


def test_placeholders_say_after_which_step_a_value_will_be_known() -> None:
    machine, gateway = MachineFacts.unknown(), GatewayFacts.unknown()
    assert isinstance(machine.address, KnownAfter)
    assert machine.address == "(known after machine)"
    assert gateway.fqdn == "(known after gateway)"
    assert gateway.computed is False


async def test_what_the_preview_shows_is_what_the_pass_does(one: Rig) -> None:
    await one.until_quiet()
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    one.outside.things["sign_in_app-alice-1-1"]["value"] = "wrong"
    found = await previewed(one)
    one.outside.calls.clear()
    await one.run_pass()
    assert one.outside.calls == [what for of in verbs(found).values() for what in of]
    assert len(one.outside.calls) == 2


async def test_of_a_settled_tester_nothing_is_shown(one: Rig) -> None:
    await one.until_quiet()
    found = await previewed(one)
    assert not found.changes
    assert found.disruption is Disruption.NONE


async def test_an_error_is_the_steps_own_and_the_others_are_shown(one: Rig) -> None:
    await one.until_quiet()
    one.steps["account"].error = Transient("it is down", system="Forge")
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    found = await previewed(one)
    assert found.errors == ("account: Forge: it is down",)
    assert verbs(found)["gateway"] == ["change gateway-alice-1-1"]


async def test_waits_are_shown(one: Rig) -> None:
    await one.until_quiet()
    one.steps["machine"].wait = Wait("Starting", "it is starting", timedelta(minutes=5), "the grid")
    found = await previewed(one)
    assert [wait.reason for step in found.steps for wait in step.waits] == ["Starting"]
    assert not found.changes


async def test_a_rename_shows_what_goes_and_what_comes(one: Rig) -> None:
    await one.until_quiet()
    one.steps["gateway"].fixed_name = "cloud"
    found = await previewed(one)
    assert verbs(found)["gateway"] == ["delete gateway-alice-1-1", "create cloud"]
    one.outside.calls.clear()
    await one.until_quiet()
    assert sorted(one.outside.calls) == ["create cloud", "delete gateway-alice-1-1"]


async def test_of_a_leaver_everything_that_goes_is_shown_leftovers_included(one: Rig) -> None:
    one.outside.before.extend([failing(OutcomeUnknown("cut", system="Forge"))])
    await one.run_pass()
    one.clock.pass_by(GRACE)
    await one.until_quiet()
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=2, removed_at=one.clock.now())))
    found = await previewed(one)
    assert found.leaving
    assert verbs(found) == {
        "account": ["delete Alice"],
        "machine": ["delete machine-alice-1-1"],
        "gateway": ["delete gateway-alice-1-1"],
        "sign_in_app": ["delete sign_in_app-alice-1-1"],
        "settings": [],
    }
    assert found.steps[-1].note == "goes with the machine"


async def test_what_is_seen_not_to_be_so_is_in_it_and_the_rest_is_not(one: Rig) -> None:
    found = (
        Finding("SignInProtected", False, "SeenOpen", "a stranger was let in"),
        Finding("PublicReachable", True, "Answers", "it answers"),
        Finding("AddressConfirmed", None, "AddressComputed", "not told"),
        Finding("UpdateAvailable", False, "UpToDate", "nothing newer"),
    )
    one.steps["account"].findings = lambda *_: found  # type: ignore[method-assign]
    steps = {step.step: step for step in (await previewed(one)).steps}
    assert [finding.type for finding in steps["account"].findings] == ["SignInProtected"]
