"""The one contract that every reconciler keeps, against the simulated world over real HTTP and real SSH.

absent → create → in sync → each kind of drift → repair → removal → absent. The plan after an apply is empty, applying
twice is harmless, a plan is the same each time and touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from examples.simulator.invariants import accepting, stale_tenants
from reconcilers import repairs
from reconcilers.actions import Action, Effect
from reconcilers.engine_tokens import tenant_of
from reconcilers.facts import ObjectState
from tests.reconcilers.conftest import Lives
from tests.reconcilers.data import ADMIN_KEY, OTHER_KEY
from tests.reconcilers.driver import Life, both_engines, by_resend

SPEC: Mapping[str, Any] = {
    "components": {"settings": {"hero_db": {"DB_CACHE": "64"}}, "publicPaths": ["/hero_db/share/"]},
    "keys": {"providers": {"openrouter": "default"}},
}
FLEET: Mapping[str, Any] = {
    "admins": [{"account": "mik", "sshKeys": [ADMIN_KEY]}],
    "forge": {"feedbackRepository": "geomind/feedback"},
    "engines": both_engines,
    "mail": by_resend,
}
MAKERS = ("account", "machine", "gateway", "sign_in_app")
STEPS = (
    "account",
    "engine_access",
    "machine",
    "machine_access",
    "gateway",
    "sign_in_app",
    "supervisor",
    "front_door",
    "settings",
    "components",
    "sign_in_gate",
    "welcome",
)

Drift = Callable[[Life], Any]
CORE = "core"


def _lose_an_admin_key(life: Life) -> None:
    files = life.world.machine_named(life.vm).files
    kept = [line for line in (files.read(".ssh/authorized_keys") or b"").splitlines() if b"installer" in line]
    files.write(".ssh/authorized_keys", b"\n".join(kept) + b"\n")


def _no_key_but_the_installers_with_a_command(life: Life) -> None:
    files = life.world.machine_named(life.vm).files
    lines = (files.read(".ssh/authorized_keys") or b"").splitlines()
    spoilt = [b'command="id" ' + line if b"installer" not in line else line for line in lines]
    files.write(".ssh/authorized_keys", b"\n".join(spoilt) + b"\n")


def _ask(life: Life, part: str, **fields: int) -> None:
    """The spec changes: counters are raised."""
    changed = getattr(life.desired, part).model_copy(update=fields)
    life.desired = life.desired.model_copy(update={part: changed})


def _feedback_elsewhere(life: Life) -> None:
    life.world.forge.repositories.create("geomind", "wishes")
    forge = life.fleet.spec.forge.model_copy(update={"feedback_repository": "geomind/wishes"})
    spec = life.fleet.spec.model_copy(update={"forge": forge})
    life.fleet = life.fleet.model_copy(update={"spec": spec})


def _gateway_to_a_stranger(life: Life) -> None:
    for _, row in life.world.grid.gateways():
        row.backends = ["http://[400:9::9]:9988"]


def _gateway_of_another_machine(life: Life) -> None:
    row = life.rows["gateway"]
    life.rows["gateway"] = replace(row, identity={**row.identity, "machine": "gent/0000"})


def _a_second_app(life: Life) -> None:
    mine = next(app for app in life.world.state.forge.apps if app.name == life.rows["sign_in_app"].name)
    life.world.state.forge.apps.append(mine.model_copy(update={"id": mine.id + 100, "client_id": "another"}))


def _drop_the_sealed_secret(life: Life) -> None:
    del life.secrets["alice/oauth_client_secret"]


def _tenant(life: Life) -> str:
    return tenant_of(life.view("engine_access").facts)


def _another_token(life: Life) -> None:
    engine = life.world.engines.named("voice")
    life.world.drift.add_tenant("voice", _tenant(life), "not ours")
    engine.foreign.pop(_tenant(life))


def _new_tokens(life: Life) -> None:
    life.desired = life.desired.model_copy(update={"engine_rotation": 1})


def _another_address(life: Life) -> None:
    told = life.facts["welcome"]
    life.facts["welcome"] = told.model_copy(update={"link": "https://old.example.org/hero_cockpit/web/"})


def _domain(life: Life) -> str:
    return next(iter(life.world.machine_named(life.vm).state.domains))


DRIFTS: Mapping[str, Mapping[str, Drift]] = {
    "account": {
        "disabled": lambda life: life.world.drift.disable_account("Alice-B"),
        "a new password is asked for": lambda life: _ask(life, "account", password_reset=1),
        "the feedback repository is another one": _feedback_elsewhere,
    },
    "machine": {
        "a new one is asked for": lambda life: _ask(life, "machine", rebuild=1),
        "deleted": lambda life: life.world.drift.delete_vm(life.vm),
        "a larger one is asked for": lambda life: _ask(life, "machine", rebuild=2, memory_mb=16384),
    },
    "machine_access": {
        "a key added": lambda life: life.world.drift.add_authorized_key(life.vm, OTHER_KEY),
        "a key lost": _lose_an_admin_key,
        "keys with a command before them": _no_key_but_the_installers_with_a_command,
    },
    "gateway": {
        "deleted": lambda life: life.world.drift.delete_gateway(life.rows["gateway"].name),
        "leading to a stranger": _gateway_to_a_stranger,
        "made for another machine": _gateway_of_another_machine,
    },
    "sign_in_app": {
        "redirect address changed": lambda life: life.world.drift.set_redirect(
            life.rows["sign_in_app"].name, "https://evil.example.org/"
        ),
        "a second app": _a_second_app,
        "secret lost": _drop_the_sealed_secret,
        "deleted": lambda life: life.world.drift.delete_app(life.rows["sign_in_app"].name),
    },
    "supervisor": {"stopped": lambda life: life.world.drift.stop_supervisor(life.vm)},
    "front_door": {
        "router stopped": lambda life: life.world.drift.stop_service(life.vm, "hero_router"),
        "proxy stopped": lambda life: life.world.drift.stop_service(life.vm, "hero_proxy"),
        "proxy changed": lambda life: life.world.drift.set_version(life.vm, "hero_proxy", "v0.0.1"),
    },
    "settings": {
        "changed": lambda life: life.world.drift.set_secret(life.vm, "db", "DB_CACHE", "1"),
        "emptied": lambda life: life.world.drift.set_secret(life.vm, "cockpit", "OPENROUTER_API_KEY", ""),
        "removed": lambda life: life.world.drift.set_secret(life.vm, "cockpit", "OPENROUTER_API_KEY", None),
    },
    "components": {
        "stopped": lambda life: life.world.drift.stop_service(life.vm, "hero_db"),
        "dead though said to run": lambda life: life.world.drift.kill_service(life.vm, "hero_indexer"),
        "another version": lambda life: life.world.drift.set_version(life.vm, "hero_cockpit", "v0.0.1"),
    },
    "engine_access": {
        "thrown out of one list": lambda life: life.world.drift.remove_tenant("embedder", _tenant(life)),
        "another token in the other": _another_token,
        "token lost": lambda life: life.secrets.pop("alice/engine_voice"),
        "rotation is asked for": _new_tokens,
    },
    "welcome": {"the address changes": _another_address},
    "sign_in_gate": {
        "allowlist edited": lambda life: life.world.drift.set_secret(
            life.vm, CORE, "HERO_PROXY_ALLOWED_USERS", "mallory"
        ),
        "client secret changed": lambda life: life.world.drift.set_secret(
            life.vm, CORE, "FORGE_OAUTH_CLIENT_SECRET", "x"
        ),
        "listener off": lambda life: life.world.drift.set_secret(
            life.vm, CORE, "HERO_PROXY_SEED_GATEWAY_LISTENER", "0"
        ),
        "domain removed": lambda life: life.world.drift.remove_domain(life.vm, _domain(life)),
    },
}
REMADE = {"machine", "gateway", "sign_in_app"}  # what was deleted comes back as the next incarnation


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not answer is restarted at once: nobody waits half a minute here."""
    monkeypatch.setattr(repairs, "FIRST_PATIENCE", timedelta(0))


async def born(lives: Lives, step: str) -> Life:
    """A life in which all that the step needs is there, and nothing of its own."""
    life = lives(SPEC, **FLEET)
    wanted = {step, "front_door"} if step == "components" else {step}  # health is asked through hero_router
    for name in reversed(STEPS):
        if name in wanted:
            wanted |= set(life.steps[name].needs)
    await life.converge(*(name for name in STEPS if name in wanted - {step}))
    return life


async def assert_in_sync(life: Life, step: str) -> None:
    assert await life.plan(step) == ()


async def assert_plan_is_pure(life: Life, step: str) -> None:
    """The same answer each time, and nobody outside is asked."""
    found = await life.seen(step)
    asked = len(life.world.log)
    assert life.planned(step, found) == life.planned(step, found)
    assert len(life.world.log) == asked


async def assert_twice_is_harmless(life: Life, step: str) -> None:
    """Creates are kept from happening twice by their rows; everything else may."""
    for action in [each for each in life.actions.get(step, []) if each.effect is Effect.CHANGE]:
        await life.perform(step, action)
    await life.settle(step)
    await assert_in_sync(life, step)


async def remove(life: Life, step: str) -> list[Action]:
    """Take it away. What was done for it."""
    life.leaving = True
    before = len(life.actions.get(step, []))
    await life.settle(step)
    done = life.actions.get(step, [])[before:]
    for action in done:
        await life.perform(step, action)
    assert await life.plan(step) == ()
    return done


def assert_nothing_left(life: Life, step: str) -> None:
    books = life.world.books()
    match step:
        case "account":
            assert books["disabled_accounts"] == ["Alice-B"]
        case "machine":
            assert books["vms"] == 0
        case "gateway":
            assert books["gateways"] == 0
        case "sign_in_app":
            assert books["apps"] == []
        case "engine_access":
            assert [accepting(life.world, _tenant(life)), stale_tenants(life.world)] == [[], []]
            assert all(_tenant(life) not in engine["registered"] for engine in books["engines"].values())
            assert not [name for name in life.secrets if name.startswith("alice/engine_")]
        case "sign_in_gate":
            machine = books["machines"][life.vm]
            assert not machine["listener"]
            assert machine["domains"] == []


@pytest.mark.parametrize("step", STEPS)
async def test_a_whole_life(step: str, lives: Lives) -> None:
    life = await born(lives, step)
    await assert_plan_is_pure(life, step)
    await life.settle(step)
    assert life.actions.get(step) or step == "machine_access"  # the keys came with the machine
    await assert_in_sync(life, step)
    await assert_plan_is_pure(life, step)
    await assert_twice_is_harmless(life, step)
    for name, drift in DRIFTS[step].items():
        drift(life)
        await assert_found(life, step, name)
        if name == "deleted" and step in REMADE:
            await life.again(step)
        await life.settle(step)
        await assert_in_sync(life, step)
    done = await remove(life, step)
    assert bool(done) == (life.steps[step].leaves != "machine")
    assert_nothing_left(life, step)


async def assert_found(life: Life, step: str, drift: str) -> None:
    await assert_plan_is_pure(life, step)
    found = [each for each in await life.plan(step) if isinstance(each, Action)]
    assert found or drift == "dead though said to run", f"{drift} was not found"


@pytest.mark.parametrize("step", MAKERS)
async def test_a_create_whose_answer_was_lost_is_found_again(step: str, lives: Lives) -> None:
    life = await born(lives, step)
    await life.settle(step)
    before = life.world.books()
    del life.facts[step]
    life.rows[step] = replace(life.rows[step], state=ObjectState.INTENDED, identity={})
    if step == "sign_in_app":
        _drop_the_sealed_secret(life)  # voided before the call, and never answered
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
    await remove(life, "sign_in_gate")
    assert life.world.books()["violations"] == []
