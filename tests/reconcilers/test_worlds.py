"""Unpleasant worlds: what the lessons tell of, against the simulator in virtual time; odd settings over real SSH."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from examples.simulator.faults import Fault
from reconcilers import repairs
from reconcilers.actions import Action, Wait
from reconcilers.door import CLIENT_SECRET
from reconcilers.errors import Blocked, OutcomeUnknown, Transient
from reconcilers.facts import FrontDoorFacts, SignInGateFacts
from reconcilers.installer_key import installer_public_key
from reconcilers.secret import Secret
from tests.reconcilers.conftest import Lives
from tests.reconcilers.data import brief
from tests.reconcilers.driver import DidNotSettle, Life

DOOR = (
    "account",
    "machine",
    "machine_access",
    "gateway",
    "sign_in_app",
    "supervisor",
    "front_door",
    "sign_in_gate",
)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "FIRST_PATIENCE", timedelta(0))


def gate(life: Life) -> SignInGateFacts:
    known = life.facts["sign_in_gate"]
    assert isinstance(known, SignInGateFacts)
    return known


def listens(life: Life) -> bool:
    return bool(life.world.books()["machines"][life.vm]["listener"])


async def turns(life: Life, step: str, count: int = 6) -> list[str]:
    """Some turns of a step that cannot settle. The last plan, in words."""
    for _ in range(count):
        steps = await life.plan(step)
        for each in steps:
            if isinstance(each, Action):
                await life.perform(step, each)
        if any(isinstance(each, Wait) for each in steps):
            break
    return brief(await life.plan(step))


async def test_a_door_that_opens_ungated_is_shut_at_once_and_kept_shut_longer_each_time(lives: Lives) -> None:
    life = lives(timing={"backoffBase": "1h", "backoffCeiling": "3h"})
    await life.converge(*DOOR[:-1])
    # The second start is the one that opens the listener.
    life.world.faults.add(Fault(system="machine", method="door", kind="inner_side_open"))
    assert await turns(life, "sign_in_gate", 8) == ["wait DoorShut"]
    assert "sign_in_gate shut" in life.did
    assert not listens(life)
    assert gate(life).shuts == 1
    said = await life.findings("sign_in_gate")
    assert (said["SignInProtected"].status, said["SignInProtected"].reason) == (False, "SeenOpen")
    assert "over the inner network / answered 200; it is shut" in said["SignInProtected"].message
    assert said["PublicReachable"].reason == "DoorShut"


async def test_an_open_inner_side_that_is_only_reported_does_not_shut_the_door(lives: Lives) -> None:
    life = lives(safety={"innerProof": "report"})
    await life.converge(*DOOR[:-1])
    life.world.faults.add(Fault(system="machine", method="door", kind="inner_side_open"))
    await life.settle("sign_in_gate")
    said = await life.findings("sign_in_gate")
    assert said["SignInProtected"].status is True
    assert said["InnerProtected"].status is False


async def test_one_open_path_is_enough(lives: Lives) -> None:
    """The bare address once stood open though the cockpit was gated (lesson 22)."""
    life = lives(timing={"backoffBase": "1h", "backoffCeiling": "3h"})
    await life.converge(*DOOR)
    life.world.faults.add(Fault(system="machine", method="door", kind="open_paths", options={"paths": ["/"]}))
    found = await life.plan("sign_in_gate")
    assert brief(found) == ["shut listener of the front door", "restart_proxy service hero_proxy"]
    assert all(isinstance(each, Action) and each.urgent for each in found)
    assert (await life.findings("sign_in_gate"))["SignInProtected"].reason == "SeenOpen"
    await turns(life, "sign_in_gate")
    assert not listens(life)


async def test_a_machine_that_cannot_be_told_loses_its_gateway_and_gets_one_back(lives: Lives) -> None:
    life = lives()
    await life.converge(*DOOR)
    vm, row = life.vm, life.rows["gateway"]
    life.world.faults.add(Fault(system="machine", method="door", kind="open_paths", options={"paths": ["/"]}))
    ssh = life.backends.machines
    await ssh.forget(vm)
    life.world.machine_named(vm).files.write(".ssh/authorized_keys", b"")  # nobody can log in to shut it
    assert brief(await life.plan("sign_in_gate")) == [f"cut_gateway gateway {row.name}"]
    assert await turns(life, "sign_in_gate") == ["wait MachineOutOfReach"]
    assert gate(life).cut
    assert life.world.books()["gateways"] == 0
    await life.again("gateway")
    assert brief(await life.plan("gateway")) == ["wait DoorCut"]

    # The machine is back, the door as open as before: the listener goes off first, then the new gateway comes.
    life.world.faults.clear()
    life.world.machine_named(vm).files.write(".ssh/authorized_keys", _public(life).encode() + b"\n")
    assert listens(life)
    await life.settle("front_door")
    door = life.facts["front_door"]
    assert isinstance(door, FrontDoorFacts)
    assert door.seen_shut_at is not None
    assert not listens(life)
    await life.converge("gateway", "sign_in_app", "sign_in_gate")
    assert life.rows["gateway"].name != row.name
    assert not gate(life).cut
    assert (await life.findings("sign_in_gate"))["SignInProtected"].status is True


def _public(life: Life) -> str:
    return installer_public_key(life.view("machine").facts)


async def test_dead_outside_and_alive_inside_is_the_grids_and_the_unproven_door_is_shut(lives: Lives) -> None:
    life = lives(timing={"proofLimit": "1s", "backoffBase": "1h", "backoffCeiling": "3h"})
    await life.converge(*DOOR[:-1])
    life.world.faults.add(Fault(system="compute", method="gateway", kind="outside_unroutable"))
    await turns(life, "sign_in_gate")
    assert listens(life)
    said = await life.findings("sign_in_gate")
    assert (said["PublicReachable"].status, said["PublicReachable"].reason) == (False, "GridRouting")
    assert said["SignInProtected"].status is None
    with pytest.raises(DidNotSettle):
        await _until(life, "sign_in_gate", lambda: not listens(life))
    assert (await life.findings("sign_in_gate"))["PublicReachable"].reason == "GridRouting", (
        "still known while it is shut"
    )


async def _until(life: Life, step: str, reached: Any) -> None:
    """Turns until something holds. Raises DidNotSettle when it does, as the step itself never settles."""
    for _ in range(2000):
        await turns(life, step, 2)
        if reached():
            raise DidNotSettle(step)


async def test_removal_of_a_machine_out_of_reach_takes_its_gateway(lives: Lives) -> None:
    life = lives()
    await life.converge(*DOOR)
    life.world.drift.set_reachable(life.vm, False)
    await life.backends.machines.forget(life.vm)
    life.leaving = True
    await life.settle("sign_in_gate")
    assert life.world.books()["gateways"] == 0


async def test_a_new_secret_reaches_the_machine(lives: Lives) -> None:
    """Whoever changed the redirect address, the old secret died with it (lesson 19)."""
    life = lives()
    await life.converge(*DOOR)
    before = life.secrets[f"alice/{CLIENT_SECRET}"]
    life.world.drift.set_redirect(life.rows["sign_in_app"].name, "https://evil.example.org/")
    await life.converge("sign_in_app", "sign_in_gate")
    now = life.secrets[f"alice/{CLIENT_SECRET}"]
    assert now != before
    assert life.world.drift.secret(life.vm, "core", "FORGE_OAUTH_CLIENT_SECRET") == now.text()
    assert life.world.state.violations == []


NASTY = "$(touch x)'\";|&\n`id` \\ %s \t é"
PEM = "-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n"


async def test_settings_arrive_byte_for_byte(wired_lives: Lives) -> None:
    spec = {
        "components": {"settings": {"hero_db": {"NASTY": {"secret": "alice/nasty"}, "PEM": {"secret": "alice/pem"}}}}
    }
    life = wired_lives(spec)
    life.secrets |= {"alice/nasty": Secret(NASTY), "alice/pem": Secret(PEM)}
    await life.converge("account", "machine", "machine_access", "supervisor", "settings")
    assert life.world.drift.secret(life.vm, "db", "NASTY") == NASTY
    assert life.world.drift.secret(life.vm, "db", "PEM") == PEM
    await life.perform("settings", next(iter(life.actions["settings"])))
    assert await life.plan("settings") == ()


async def test_a_setting_that_reads_back_empty_is_not_passed_over(lives: Lives) -> None:
    """Two tools' versions disagreed (lesson 30)."""
    life = lives({"components": {"settings": {"hero_db": {"DB_CACHE": "64"}}}})
    await life.converge("account", "machine", "machine_access", "supervisor")
    life.world.faults.add(Fault(system="machine", method="secret get", kind="secret_reads_empty", times=None))
    (write,) = await life.plan("settings")
    assert isinstance(write, Action)
    with pytest.raises(Transient, match="db/DB_CACHE") as caught:
        await life.perform("settings", write)
    assert caught.value.reason == "ReadBackMismatch"


async def test_what_the_spec_no_longer_says_goes_and_what_others_made_stays(lives: Lives) -> None:
    life = lives({"components": {"settings": {"hero_db": {"DB_CACHE": "64", "OLD": "1"}}}})
    await life.converge("account", "machine", "machine_access", "supervisor", "front_door", "settings", "components")
    life.world.drift.set_secret(life.vm, "db", "THEIRS", "kept")
    life.world.drift.install(life.vm, "hero_kimi")
    later = lives({"components": {"remove": ["hero_indexer"], "settings": {"hero_db": {"DB_CACHE": "64"}}}})
    life.desired = later.desired
    await life.converge("settings", "components")
    assert life.world.drift.secret(life.vm, "db", "OLD") is None
    assert life.world.drift.secret(life.vm, "db", "THEIRS") == "kept"
    components = life.world.books()["machines"][life.vm]["components"]
    assert "hero_indexer" not in components
    assert {"hero_db", "hero_cockpit", "hero_kimi"} <= set(components)


async def test_a_component_that_fails_fails_alone_and_says_why(lives: Lives) -> None:
    """The AI broker will not start without a key (lesson 35)."""
    life = lives({"components": {"add": ["hero_aibroker"]}})
    await life.converge("account", "machine", "machine_access", "supervisor", "front_door", "settings")
    with pytest.raises(Transient, match="hero_aibroker") as caught:
        await _for_ever(life, "components")
    assert "no AI provider key" in caught.value.message
    said = (await life.findings("components"))["ComponentsHealthy"]
    services = life.world.books()["machines"][life.vm]["services"]
    assert all(services[name]["alive"] for name in ("hero_db", "hero_indexer", "hero_cockpit"))
    assert said.status is not True


async def _for_ever(life: Life, step: str) -> None:
    while True:
        await turns(life, step, 1)


async def test_a_failed_install_is_tried_again(lives: Lives) -> None:
    life = lives()
    await life.converge("account", "machine", "machine_access", "supervisor", "front_door", "settings")
    life.world.faults.add(Fault(system="machine", method="lab build", kind="install_fails", target="hero_db", times=1))
    await life.settle("components")
    assert "components retry" in life.did


async def test_a_create_that_was_reported_failed_is_not_made_twice(lives: Lives) -> None:
    life = lives()
    await life.converge("account", "machine")
    life.world.faults.add(
        Fault(system="compute", method="*deploy_webgateway", kind="error_reported_though_created", times=1)
    )
    (create,) = await life.plan("gateway")
    assert isinstance(create, Action)
    with pytest.raises(OutcomeUnknown):
        await life.perform("gateway", create)
    await life.settle("gateway")
    assert life.world.books()["gateways"] == 1
    assert life.did.count("gateway create") == 1


async def test_an_adopted_account_survives_everything(lives: Lives) -> None:
    life = lives({"identity": {"account": "bob", "existing": True}})
    await life.settle("account")
    life.world.drift.disable_account("bob")
    await life.settle("account")
    life.leaving = True
    await life.settle("account")
    assert "account create" not in life.did
    assert [each for each in life.did if each.startswith("account")] == []


async def test_an_organisation_is_not_adopted(lives: Lives) -> None:
    for existing in (True, False):
        life = lives({"identity": {"account": "geomind", "existing": existing}})
        with pytest.raises(Blocked) as caught:
            await life.plan("account")
        assert caught.value.reason == "AccountIsOrganisation"


async def test_a_full_host_is_refused_before_anything_is_made(lives: Lives) -> None:
    life = lives({"machine": {"memory": "900GiB"}})
    await life.settle("account")
    with pytest.raises(Blocked) as caught:
        await life.plan("machine")
    assert caught.value.reason == "NoCapacity"
    assert life.world.books()["vms"] == 0


async def test_a_pin_is_installed_exactly(lives: Lives) -> None:
    life = lives()
    life.world.drift.publish("hero_db", "v9.9.9")
    life.world.drift.publish("hero_db", "v9.9.10")
    pinned = lives({"version": {"pin": {"hero_db": "v9.9.9"}}})
    await life.converge("account", "machine", "machine_access", "supervisor", "front_door", "settings", "components")
    assert life.world.books()["machines"][life.vm]["components"]["hero_db"] == "v9.9.10"
    life.desired = pinned.desired
    await life.settle("components")
    assert life.world.books()["machines"][life.vm]["components"]["hero_db"] == "v9.9.9"
    assert life.world.books()["machines"][life.vm]["running_versions"]["hero_db"] == "v9.9.9"
