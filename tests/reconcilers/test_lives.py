"""Accounts, keys, places and rebuilds in a world in virtual time: what a tester lives through from first mail to clean-up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from examples.simulator.faults import Fault
from examples.simulator.forge import digest
from reconcilers.actions import Action
from reconcilers.door import CLIENT_SECRET
from reconcilers.errors import Blocked, OutcomeUnknown
from reconcilers.facts import AccountFacts, GatewayFacts, MachineAccessFacts, ObjectState
from reconcilers.steps import all_steps
from tests.reconcilers.conftest import Lives
from tests.reconcilers.data import OTHER_KEY, brief
from tests.reconcilers.driver import Life

OTP = "alice/one_time_password"
FEEDBACK = "geomind/feedback"
DOOR = ("account", "machine", "machine_access", "gateway", "sign_in_app", "supervisor", "front_door", "sign_in_gate")
BARE = OTHER_KEY.rsplit(" ", 1)[0]


def ask(life: Life, part: str, **fields: Any) -> None:
    changed = getattr(life.desired, part).model_copy(update=fields)
    life.desired = life.desired.model_copy(update={part: changed})


def password_at_forge(life: Life, account: str = "Alice-B") -> str:
    return life.world.forge.need_account(account).password


async def remove(life: Life, step: str) -> None:
    life.leaving = True
    await life.settle(step)
    life.leaving = False


def named(life: Life, name: str) -> Life:
    """The same, as another tester of the fleet."""
    account = life.desired.account.model_copy(update={"name": name, "email": f"{name}@example.org"})
    life.desired = life.desired.model_copy(update={"name": name, "account": account})
    return life


# ---------------------------------------------------------------- accounts


async def test_lesson_01_a_new_password_on_request_works_once_and_must_be_changed(lives: Lives) -> None:
    life = lives()
    await life.settle("account")
    first = life.secrets[OTP]
    life.world.forge.need_account("Alice-B").must_change = False  # the tester has signed in
    ask(life, "account", password_reset=1)
    await life.settle("account")
    assert life.secrets[OTP] != first
    assert password_at_forge(life) == digest(life.secrets[OTP].text())
    assert life.world.forge.need_account("Alice-B").must_change
    assert life.did.count("account reset_password") == 1


async def test_a_reset_whose_answer_was_lost_ends_with_the_password_that_is_sealed(lives: Lives) -> None:
    life = lives()
    await life.settle("account")
    ask(life, "account", password_reset=1)
    life.world.faults.add(
        Fault(system="forge", method="PATCH *", kind="error_reported_though_created", times=1),
    )
    (reset,) = await life.plan("account")
    assert isinstance(reset, Action)
    with pytest.raises(OutcomeUnknown):
        await life.perform("account", reset)
    await life.settle("account")
    assert password_at_forge(life) == digest(life.secrets[OTP].text())


async def test_an_account_is_disabled_and_comes_back_with_a_tester_who_knows_nothing(lives: Lives) -> None:
    """All that outlives the tester is the row."""
    life = lives()
    await life.settle("account")
    before = password_at_forge(life)
    await remove(life, "account")
    assert life.world.books()["disabled_accounts"] == ["Alice-B"]

    life.facts.clear()
    del life.secrets[OTP]
    await life.settle("account")
    assert life.world.books()["disabled_accounts"] == []
    assert life.facts["account"] == AccountFacts(account="Alice-B", forge_id=_id(life), made_by_us=True)
    assert (password_at_forge(life), OTP in life.secrets) == (before, False), "the tester's own password is not touched"

    await remove(life, "account")
    assert life.world.books()["disabled_accounts"] == ["Alice-B"], "it is still ours to disable"
    life.facts.clear()
    ask(life, "account", password_reset=1)
    await life.settle("account")
    assert password_at_forge(life) == digest(life.secrets[OTP].text()), "the row knew that this counter is a new one"


def _id(life: Life) -> int:
    return life.world.forge.need_account("Alice-B").id


@pytest.mark.parametrize(
    ("when", "owns", "left"),
    [
        ("keep", True, ["Alice-B"]),
        ("disable", True, ["Alice-B"]),
        ("delete", False, []),
        ("delete", True, None),
        ("purge", True, []),
    ],
)
async def test_how_an_account_goes(lives: Lives, when: str, owns: bool, left: list[str] | None) -> None:
    life = lives({"identity": {"whenRemoved": when}})
    await life.settle("account")
    if owns:
        life.world.drift.own_repository("Alice-B", "notes")
    life.leaving = True
    if left is None:
        with pytest.raises(Blocked, match="whenRemoved: purge") as caught:
            await life.settle("account")
        assert caught.value.reason == "OwnsRepositories"
        return
    await life.settle("account")
    books = life.world.books()
    assert books["made_accounts"] == left
    assert books["disabled_accounts"] == (left if when == "disable" else [])


@pytest.mark.parametrize("existing", [False, True])
async def test_testers_may_read_the_feedback_repository_and_one_listing_tells(lives: Lives, existing: bool) -> None:
    identity = {"account": "BOB", "email": "bob@example.org", "existing": True} if existing else {}
    life = lives({"identity": identity}, forge={"feedbackRepository": FEEDBACK})
    await life.settle("account")
    who = "bob" if existing else "Alice-B"
    assert life.world.books()["collaborators"][FEEDBACK] == {who: "read"}
    asked = len(life.world.log)
    assert await life.plan("account") == ()
    said = [(entry.method, entry.what) for entry in life.world.log.entries[asked:] if "collaborators" in entry.what]
    assert said == [("GET", f"/api/v1/repos/{FEEDBACK}/collaborators")]
    life.leaving = True
    await life.settle("account")
    assert life.world.books()["collaborators"] == {}


async def test_whoever_writes_there_still_may(lives: Lives) -> None:
    identity = {"account": "bob", "email": "bob@example.org", "existing": True}
    life = lives({"identity": identity}, forge={"feedbackRepository": FEEDBACK})
    life.world.state.forge.repositories[FEEDBACK].collaborators["bob"] = "write"
    await life.settle("account")
    assert life.world.books()["collaborators"][FEEDBACK] == {"bob": "write"}


# ---------------------------------------------------------------- keys


async def test_a_machine_waits_for_the_key_that_its_tester_must_bring(lives: Lives) -> None:
    life = lives({"keys": {"ssh": "required"}})
    await life.settle("account")
    with pytest.raises(Blocked, match="/user/settings/keys") as caught:
        await life.plan("machine")
    assert caught.value.reason == "SshKeyRequired"
    assert life.world.books()["vms"] == 0

    life.world.drift.add_account_key("Alice-B", OTHER_KEY)
    await life.converge("machine", "machine_access")
    assert f"{BARE} Alice-B" in life.world.drift.authorized_keys(life.vm)
    assert "machine_access set_keys" not in life.did, "it came with the machine"

    life.world.forge.need_account("Alice-B").keys.clear()
    await life.settle("machine_access")
    assert BARE not in " ".join(life.world.drift.authorized_keys(life.vm))
    assert (await life.findings("machine_access"))["SshKeyPresent"].status is False
    assert await life.plan("machine") == (), "the machine stays"


async def test_a_host_key_that_changes_without_a_rebuild_is_for_a_person(lives: Lives) -> None:
    life = lives()
    await life.converge("account", "machine", "machine_access")
    await life.backends.machines.forget(life.vm)
    life.facts["machine_access"] = MachineAccessFacts(host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFub3RoZXI=")
    with pytest.raises(Blocked) as caught:
        await life.plan("machine_access")
    assert caught.value.reason == "HostKeyChanged"
    ask(life, "machine", rebuild=1)
    await life.converge("machine", "machine_access")


# ---------------------------------------------------------------- places


async def test_lesson_41_two_testers_at_once_where_one_fits(lives: Lives) -> None:
    """The chain's readout does not show the first one's machine yet."""
    alice, carol = lives(), named(lives(), "carol")
    for node in ("0001", "0002"):
        alice.world.drift.use_capacity("compute1", node, memory_mb=98_304 - (12_288 if node == "0001" else 0))
    alice.fellows, carol.fellows = [carol], [alice]
    carol.steps["machine"] = alice.steps["machine"]  # one controller
    await asyncio.gather(alice.settle("account"), carol.settle("account"))
    ended = await asyncio.gather(alice.settle("machine"), carol.settle("machine"), return_exceptions=True)
    (refused,) = [each for each in ended if each is not None]
    assert isinstance(refused, Blocked)
    assert refused.reason == "NoCapacity"
    assert "GiB of memory" in refused.message
    assert alice.world.books()["vms"] == 1
    assert len(alice.world.state.daemons["compute1"].vms) == 1


async def test_four_testers_at_once_on_two_nodes_find_their_places(lives: Lives) -> None:
    names = ("alice", "carol", "dave", "erin")
    all_of_them = [named(lives(), name) for name in names]
    first = all_of_them[0]
    for node in ("0001", "0002"):
        first.world.drift.use_capacity("compute1", node, memory_mb=98_304 - 2 * 8192)
    for life in all_of_them:
        life.fellows = [other for other in all_of_them if other is not life]
        life.steps["machine"] = first.steps["machine"]
    await asyncio.gather(*(life.settle("account") for life in all_of_them))
    await asyncio.gather(*(_until_there_is_room(life) for life in all_of_them))
    placed = [vm.node_sid for vm in first.world.state.daemons["compute1"].vms.values()]
    assert sorted(placed) == ["0001", "0001", "0002", "0002"]
    ordered = [entry for entry in first.world.log.entries if "deploy_vm" in entry.what]
    assert len(ordered) == 4, "no daemon had to refuse one"


async def _until_there_is_room(life: Life) -> None:
    """As the engine does: a tester that fits nowhere yet is tried again. A refused create leaves an empty row."""
    while True:
        try:
            return await life.settle("machine")
        except Blocked as error:
            if error.reason != "NoCapacity":
                raise
            life.rows.pop("machine", None)
            await asyncio.sleep(life.pace.poll)


async def test_lesson_42_nothing_is_begun_on_a_host_that_is_off(lives: Lives) -> None:
    life = lives()
    life.world.drift.set_node_online("compute1", "0001", False)
    await life.converge("account", "machine")
    assert life.rows["machine"].identity["node_sid"] == "0002"
    life.world.drift.set_node_online("compute1", "0002", False)
    ask(life, "machine", rebuild=1)
    with pytest.raises(Blocked) as caught:
        await life.plan("machine")
    assert caught.value.reason == "NodeOffline"
    assert life.world.books()["vms"] == 1, "the old one is not given up for nothing"


async def test_lesson_41_free_disk_in_small_pieces_is_no_room(lives: Lives) -> None:
    life = lives()
    for node in ("0001", "0002"):
        life.world.drift.fragment_pools("compute1", node, 45)
    await life.settle("account")
    with pytest.raises(Blocked, match="15 GiB of disk in one pool"):
        await life.plan("machine")


# ---------------------------------------------------------------- rebuilds


@pytest.mark.parametrize("address", ["auto", "alices"])
async def test_lesson_45_a_rebuild_leaves_the_account_alone_and_everything_follows(lives: Lives, address: str) -> None:
    life = lives({"address": address})
    await life.converge(*DOOR)
    account, vm, row, secret = (
        life.facts["account"],
        life.vm,
        life.rows["gateway"],
        life.secrets[f"alice/{CLIENT_SECRET}"],
    )
    host_key = life.facts["machine_access"]
    ask(life, "machine", rebuild=1, image="Ubuntu 22.04")
    (rebuild,) = await life.plan("machine")
    assert isinstance(rebuild, Action)
    assert {"rebuild", "image"} <= {each.path for each in rebuild.changes}
    await life.converge(*DOOR)

    books = life.world.books()
    assert (books["vms"], books["gateways"], len(books["apps"])) == (1, 1, 1)
    assert life.facts["account"] == account
    assert life.vm != vm
    assert life.facts["machine_access"] != host_key
    assert (life.rows["gateway"].name == row.name) is (address == "alices")
    gateway = life.facts["gateway"]
    assert isinstance(gateway, GatewayFacts)
    assert books["apps"][0]["redirect_uris"] == [f"https://{gateway.fqdn}/oauth/callback"]
    now = life.secrets[f"alice/{CLIENT_SECRET}"]
    assert life.world.drift.secret(life.vm, "core", "FORGE_OAUTH_CLIENT_SECRET") == now.text()
    assert (now == secret) is (address == "alices"), "a secret is rotated only where the address changed"
    assert (await life.findings("machine"))["MachineAsSpecified"].status is True
    assert books["violations"] == []


async def test_lesson_10_never_reachable_is_rebuilt_twice_elsewhere_and_then_a_person_decides(lives: Lives) -> None:
    life = lives()
    life.world.faults.add(Fault(system="compute", method="deploy_vm", kind="never_reachable", times=None))
    await life.settle("account")
    nodes = []
    for _ in range(2):
        await life.settle("machine")
        nodes.append(life.rows["machine"].identity["node_sid"])
        _long_ago(life)
        (given_up,) = await life.plan("machine")
        assert isinstance(given_up, Action)
        assert given_up.reason == "NeverReachable"
        await life.perform("machine", given_up)
        # The process ends between the old machine and the new one: only the rows still know what was.
        life.steps = {step.name: step for step in all_steps(life.backends)}
    await life.settle("machine")
    _long_ago(life)
    with pytest.raises(Blocked, match="2 rebuilds are allowed") as caught:
        await life.plan("machine")
    assert caught.value.reason == "NeverReachable"
    assert set(nodes) == {"0001", "0002"}, "the second one was tried on another node"
    assert life.did.count("machine create") == 3
    assert life.world.books()["vms"] == 1

    life.world.drift.set_reachable(life.vm, True)
    assert await life.plan("machine") == (), "it answers after all"


def _long_ago(life: Life) -> None:
    since = life.now() - life.fleet.spec.timing.reachable_limit - timedelta(seconds=1)
    life.rows["machine"] = replace(life.rows["machine"], since=since)


async def test_a_machine_that_was_reached_once_is_never_rebuilt_by_itself(lives: Lives) -> None:
    life = lives()
    await life.converge("account", "machine", "machine_access")
    life.world.drift.set_reachable(life.vm, False)
    _long_ago(life)
    assert await life.plan("machine") == ()
    life.world.drift.fail_vm(life.vm)
    with pytest.raises(Blocked) as caught:
        await life.plan("machine")
    assert caught.value.reason == "MachineFailed"
    assert life.world.books()["vms"] == 1


async def test_a_machine_that_fails_at_birth_is_replaced(lives: Lives) -> None:
    life = lives()
    life.world.faults.add(Fault(system="compute", method="deploy_vm", kind="vm_fails", times=1))
    await life.settle("account")
    (create,) = await life.plan("machine")
    assert isinstance(create, Action)
    with pytest.raises(OutcomeUnknown):
        await life.perform("machine", create)
    assert life.rows["machine"].state is ObjectState.INTENDED
    assert brief(await life.plan("machine")) == [f"delete machine {life.rows['machine'].name}"]
    assert life.rows["machine"].identity["node_sid"], "its place was written down before the call"
    await life.converge("machine", "machine_access")
    assert life.world.books()["vms"] == 1


async def test_a_daemon_that_left_the_fleet_is_said_with_what_is_still_there(lives: Lives) -> None:
    life = lives()
    await life.converge("account", "machine", "machine_access", "gateway")
    other = life.fleet.spec.compute[0].model_copy(update={"name": "elsewhere"})
    spec = life.fleet.spec.model_copy(update={"compute": (other,)})
    life.fleet = life.fleet.model_copy(update={"spec": spec})
    for step in ("machine", "gateway"):
        with pytest.raises(Blocked, match=life.rows[step].name) as caught:
            await life.plan(step)
        assert caught.value.reason == "DaemonInUse"
