"""Who is removed loses what was given at once: the keys on a machine that is kept, and the feedback repository."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.lessons.conftest import LEAN
from tests.reconcilers.data import ADMIN_KEY, OTHER_KEY, OWN_KEY
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import QUIET, Rig, world
from tests.worlds.test_lives import changes_of

REPOSITORY, OTHER = "geomind/feedback", "geomind/fleet"
FLEET = {
    **LEAN,
    "admins": [{"account": "mik", "sshKeys": [ADMIN_KEY]}],
    "forge": {"feedbackRepository": REPOSITORY},
}
ALICE = {"keys": {"ssh": [OWN_KEY]}, "machine": {"keepAfterRemoval": "24h"}}
BOB = {"identity": {"account": "bob", "email": "bob@example.org", "existing": True}}
SOON = timedelta(minutes=1)
SETTLED = {"mik", "installer"}


def keys(w: Rig, vm: str) -> set[str]:
    """By their comments."""
    return {line.split()[-1] for line in w.world.drift.authorized_keys(vm)}


def readers(w: Rig, repository: str = REPOSITORY) -> set[str]:
    found: dict[str, Any] = w.books()["collaborators"]
    return set(found.get(repository, ()))


async def is_kept(w: Rig, name: str) -> bool:
    return (await w.conditions(name))["Machine"].reason == "KeptAfterRemoval"


@in_virtual_time
async def test_a_removed_testers_keys_go_at_once_and_come_back_with_her_file(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": ALICE}, fleet=FLEET) as w:
        await w.ready("alice")
        vm = w.vm("alice")
        assert keys(w, vm) == {*SETTLED, "alice"}
        w.remove("alice")
        await w.until(lambda: keys(w, vm) == SETTLED, "her key is gone", within=SOON)
        w.world.drift.add_authorized_key(vm, OTHER_KEY)
        await w.until(lambda: keys(w, vm) == SETTLED, "nobody else's stays there either", within=timedelta(minutes=25))
        assert await is_kept(w, "alice")
        await w.settled()
        w.write("alice", **ALICE)
        await w.ready("alice")
        assert (w.vm("alice"), keys(w, vm)) == (vm, {*SETTLED, "alice"})
        assert readers(w) == {"alice"}


@in_virtual_time
async def test_a_machine_out_of_reach_is_tried_for_as_long_as_it_is_kept_and_holds_up_nothing(tmp_path: Path) -> None:
    kept = {**ALICE, "machine": {"keepAfterRemoval": "40m"}}
    async with world(tmp_path, {"alice": kept, "carol": kept}, fleet=FLEET) as w:
        await w.ready("alice", "carol")
        vms = {name: w.vm(name) for name in ("alice", "carol")}
        for vm in vms.values():
            w.world.drift.set_reachable(vm, False)
        for name in vms:
            w.remove(name)
        await w.until(lambda: w.books()["disabled_accounts"] == ["alice", "carol"], "their accounts", within=2 * SOON)
        await w.until(lambda: readers(w) == set(), "what they could read", within=SOON)
        await w.run_for(timedelta(minutes=10))
        assert keys(w, vms["alice"]) == {*SETTLED, "alice"}
        assert (await w.conditions("alice"))["MachineAccess"].reason == "KeysMayBeLeft"
        w.world.drift.set_reachable(vms["alice"], True)
        await w.until(lambda: keys(w, vms["alice"]) == SETTLED, "her key is gone", within=5 * SOON)
        await w.gone("alice", "carol", within=timedelta(hours=3))
        assert w.books()["vms"] == 0


@in_virtual_time
async def test_the_feedback_repository_is_read_by_testers_and_by_nobody_any_more(tmp_path: Path) -> None:
    async with world(tmp_path, {"bob": BOB, "alice": {}}, fleet=FLEET) as w:
        await w.ready("alice", "bob")
        assert readers(w) == {"alice", "bob"}
        w.world.state.forge.repositories[REPOSITORY].collaborators.clear()
        await w.until(lambda: readers(w) == {"alice", "bob"}, "it is given back", within=timedelta(minutes=25))
        w.world.state.forge.repositories[OTHER].collaborators["bob"] = "write"
        w.write_fleet(forge={"feedbackRepository": OTHER})
        await w.until(lambda: readers(w) == set(), "the old one is taken", within=timedelta(minutes=25))
        await w.ready("alice", "bob")
        assert readers(w, OTHER) == {"alice", "bob"}
        w.remove("alice")
        w.remove("bob")
        await w.gone("alice", "bob")
        assert w.books()["collaborators"] == {OTHER: {"bob": "write"}}, "what a person gave is not ours to take"


@in_virtual_time
async def test_an_account_that_the_spec_gives_up_loses_it(tmp_path: Path) -> None:
    lost = {"system": "forge", "method": "PUT *", "kind": "timeout_after_effect", "times": 1}
    async with world(tmp_path, {"alice": {}}, fleet=FLEET, faults=[lost]) as w:
        await w.ready("alice")
        assert readers(w) == {"alice"}
        w.edit("alice", identity={"account": "alice-two", "email": "two@example.org"})
        await w.until(lambda: readers(w) == {"alice-two"}, "the new one has it, the old one has not")
        assert w.books()["disabled_accounts"] == ["alice"]


@in_virtual_time
async def test_one_listing_serves_everybody_and_settled_is_quiet(tmp_path: Path) -> None:
    names = ("alice", "carol")
    async with world(tmp_path, names, fleet=FLEET) as w:
        await w.ready(*names)
        await w.settled()
        since, changes = len(w.world.log), changes_of(w)
        await w.run_for(timedelta(minutes=30))
        asked = [entry for entry in w.world.log.entries[since:] if "/collaborators" in entry.what]
        assert {entry.what for entry in asked} == {f"/api/v1/repos/{REPOSITORY}/collaborators"}
        assert len(asked) >= 3
        assert min(later.time - earlier.time for earlier, later in pairwise(asked)) >= 30
        assert w.writes(since) == []
        assert {type(change) for change in changes} <= {*QUIET}  # when a door and an engine were proven last
