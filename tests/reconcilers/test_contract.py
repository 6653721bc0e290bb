"""The one contract that every reconciler keeps, against the simulated world: in virtual time, and over real HTTP and real SSH.

absent → create → in sync → each kind of drift → repair → removal → absent. Exactly what is needed is done, and once: the plan
after it is empty, applying it again is harmless. A plan is the same each time and touches nothing (`Life.plan`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from examples.simulator.invariants import accepting, stale_tenants
from reconcilers import repairs
from reconcilers.actions import Action, Effect
from reconcilers.facts import ObjectState
from tests.reconcilers.conftest import Lives
from tests.reconcilers.courses import CORE, COURSES, FLEET, SPEC, Course, Done, Drift, drop_the_sealed_secret, tenant
from tests.reconcilers.driver import Life

STEPS = tuple(COURSES)
MAKERS = ("account", "machine", "gateway", "sign_in_app")


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not answer is restarted at once: nobody waits half a minute of ours."""
    monkeypatch.setattr(repairs, "FIRST_PATIENCE", timedelta(0))


async def born(lives: Lives, step: str) -> Life:
    """A life in which all that the step needs is there, and nothing of its own."""
    life = lives(SPEC, **FLEET)
    wanted = {step, "front_door"} if step == "components" else {step}  # health is asked through hero_router
    for name in reversed(STEPS):
        if name in wanted:
            wanted |= set(life.steps[name].needs)
    for name in [name for name in STEPS if name in wanted - {step}]:
        await life.settle(name)
    return life


async def settles(life: Life, step: str, *actions: Action) -> Done:
    """What is done until nothing is left to do, these actions first. The plan is empty then (`Life.settle`).

    An install whose end was seen before its services were is begun once more, and finds all there: it counts once, its
    writing calls count always.
    """
    did, writes = len(life.actions.get(step, [])), len(life.world.log.writes())
    for action in actions:
        await life.perform(step, action)
    await life.settle(step)
    done = [(each.verb, each.target) for each in life.actions.get(step, [])[did:]]
    verbs = [each[0] for place, each in enumerate(done) if each[0] != "install" or each not in done[:place]]
    return Done(tuple(verbs), len(life.world.log.writes()) - writes)


async def assert_mended(life: Life, step: str, name: str, drift: Drift) -> None:
    drift.do(life)
    if name == "deleted":
        assert any(isinstance(each, Action) for each in await life.plan(step)), f"{name} is not found"
        await life.again(step)  # what is gone comes back as the next incarnation
    assert drift.mends.verbs
    assert (name, await settles(life, step)) == (name, drift.mends)


async def assert_taken_away(life: Life, step: str, course: Course) -> None:
    """Twice, which is harmless; then nothing of it is left."""
    life.leaving = True
    before = len(life.actions.get(step, []))
    assert await settles(life, step) == course.removal
    for action in life.actions.get(step, [])[before:]:
        await life.perform(step, action)
    assert await life.plan(step) == ()
    assert bool(course.removal.verbs) == (life.steps[step].leaves != "machine")
    if life.steps[step].leaves == "machine":
        await life.settle("machine")
        assert life.world.books()["machines"] == {}
    assert_nothing_left(life, step)


def assert_nothing_left(life: Life, step: str) -> None:
    """What the step alone has put into the world. What lives on the machine is gone with it."""
    books = life.world.books()
    match step:
        case "account":
            assert books["disabled_accounts"] == ["Alice-B"]
            assert books["collaborators"] == {}
        case "machine":
            assert (books["vms"], books["machines"]) == (0, {})
        case "machine_access":
            left = life.world.machine_named(life.vm).files.read(".ssh/authorized_keys") or b""
            assert [line.split()[-1] for line in left.splitlines()] == [b"mik", b"installer"]
        case "gateway":
            assert books["gateways"] == 0
        case "sign_in_app":
            assert books["apps"] == []
        case "engine_access":
            assert [accepting(life.world, tenant(life)), stale_tenants(life.world)] == [[], []]
            assert all(tenant(life) not in engine["registered"] for engine in books["engines"].values())
            assert not [name for name in life.secrets if name.startswith("alice/engine_")]
        case "sign_in_gate":
            machine = books["machines"][life.vm]
            assert not machine["listener"]
            assert machine["domains"] == []
        case "welcome":
            assert "alice/one_time_password" not in life.secrets


@pytest.mark.parametrize("step", STEPS)
async def test_a_whole_life(step: str, lives: Lives) -> None:
    await lived(step, lives)


@pytest.mark.long
@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize("step", STEPS)
async def test_a_whole_life_over_sockets(step: str, wired_lives: Lives) -> None:
    await lived(step, wired_lives)


async def lived(step: str, lives: Lives) -> None:
    course = COURSES[step]
    life = await born(lives, step)
    assert await settles(life, step) == course.birth
    made = [each for each in life.actions.get(step, []) if each.effect is Effect.CHANGE]  # creates have rows against it
    assert await settles(life, step, *made) == course.again
    for name, drift in course.drifts.items():
        await assert_mended(life, step, name, drift)
    await assert_taken_away(life, step, course)


@pytest.mark.parametrize("step", MAKERS)
async def test_a_create_whose_answer_was_lost_is_found_again(step: str, wired_lives: Lives) -> None:
    life = await born(wired_lives, step)
    await life.settle(step)
    before = life.world.books()
    del life.facts[step]
    life.rows[step] = replace(life.rows[step], state=ObjectState.INTENDED, identity={})
    if step == "sign_in_app":
        drop_the_sealed_secret(life)  # voided before the call, and never answered
        life.facts.pop("sign_in_app", None)
    await life.settle(step)
    assert life.rows[step].state is ObjectState.EXISTING
    after = life.world.books()
    for what in ("made_accounts", "vms", "gateways"):
        assert after[what] == before[what]
    assert len(after["apps"]) == len(before["apps"])


async def test_the_door_was_never_open_to_a_stranger(lives: Lives) -> None:
    """From nothing to removal: no path was ever served from outside without sign-in."""
    life = await born(lives, "sign_in_gate")
    await life.settle("sign_in_gate")
    life.world.drift.set_secret(life.vm, CORE, "HERO_PROXY_ALLOWED_USERS", "mallory")
    await life.settle("sign_in_gate")
    life.leaving = True
    await life.settle("sign_in_gate")
    assert life.world.books()["violations"] == []
