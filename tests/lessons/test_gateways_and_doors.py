"""Lessons 12 to 17: gateways that are half there, addresses, names, links, and which side of the way to them is broken."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controller.records import Change, PutJournal
from controller.store.store import AFTER_COMMIT
from examples.simulator.http import Request
from examples.simulator.invariants import PROBED, accepting, open_doors
from specs.names import gateway_name
from tests.lessons.conftest import LEAN, asked, fault, told
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world

COCKPIT = "/hero_cockpit/web/"
GATED = {path for path in PROBED if not path.endswith(("health", "login"))}
SOON = timedelta(minutes=1)
A_WHILE = timedelta(minutes=30)


def stranger(w: Rig, fqdn: str, path: str = "/") -> int:
    """The status that somebody without a session gets from outside."""
    return w.world.ask_outside(fqdn, Request("GET", path, headers={"host": fqdn})).status


def addresses(w: Rig) -> list[str]:
    """The public names of all gateways that are ours."""
    return [row.fqdn for _, row in w.world.grid.gateways() if row.secret != "somebody-else"]


def calls(w: Rig, method: str, since: int = 0) -> list[int]:
    """The numbers of the log's entries that are calls of one method of a daemon."""
    return [entry.number for entry in w.world.log if entry.number > since and entry.what == f"/rpc {method}"]


async def became_ready(w: Rig, name: str) -> float:
    """When it first did, as the world counts time."""
    return next(event.at.timestamp() for event in await w.events(name) if event.reason == "Ready")


# ------------------------------------------------------------------ 12: half there, and open


@in_virtual_time
async def test_lesson_12_a_gateway_that_the_grid_calls_failed_is_taken_for_what_it_is_and_gated(tmp_path: Path) -> None:
    failed = fault("compute", "deploy_webgateway", "gateway_failed_but_exists")
    async with world(tmp_path, ["alice"], faults=[failed], fleet=LEAN) as w:
        await w.until(lambda: w.books()["gateways"], "the gateway")
        ((_, row),) = w.world.grid.gateways()
        row.failed = True  # so says the listing, too
        await w.ready("alice")
        assert addresses(w) == [row.fqdn]
        assert len(calls(w, "deploy_webgateway")) == 1
        assert any(line.startswith("OutcomeUnknown: create gateway") for line in await told(w, "alice"))
        assert [stranger(w, row.fqdn, path) for path in sorted(GATED)] == [302] * len(GATED)
        assert [(await w.sign_in("alice", user))[0] for user in ("alice", "bob")] == [200, 403]


@in_virtual_time
async def test_lesson_12_nobody_is_ready_before_every_path_was_seen_to_ask_for_sign_in_from_outside(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        door, moment = f"door:{w.vm('alice')}", await became_ready(w, "alice")
        asked_before = [entry for entry in w.world.log if entry.system == door and entry.time <= moment]
        seen = {entry.what: entry.status for entry in asked_before if entry.who == "outside"}
        assert seen.keys() >= GATED
        assert {seen[path] for path in GATED} == {302}


@in_virtual_time
async def test_lesson_12_a_door_that_opens_without_its_gate_is_shut_at_once_and_nobody_is_ready(tmp_path: Path) -> None:
    """On loopback it asked for sign-in; the very restart that opens the listener forgets the gate."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        ungated = [fault("machine", "hero_proxy start", "listener_opens_ungated")]

        async def forgets(moment: str, changes: tuple[Change, ...]) -> None:
            opening = any(isinstance(each, PutJournal) and each.entry.verb == "open" for each in changes)
            if moment == AFTER_COMMIT and opening and ungated:
                w.world.drift.add_fault(**ungated.pop())

        w.store.hooks.append(forgets)
        await w.until(lambda: open_doors(w.world), "an open door", within=A_WHILE)
        opened = w.clock.now().timestamp()
        await w.until(lambda: not open_doors(w.world), "it is shut", within=SOON)
        await w.ready("alice")
        assert await became_ready(w, "alice") > opened
        lines = await told(w, "alice")
        (seen,) = [line for line in lines if line.startswith("SeenOpen: SignInProtected")]
        assert "a stranger was let in" in seen
        assert next(line for line in lines if line.startswith("DoorShut: shut"))
        assert stranger(w, w.fqdn("alice")) == 302
        w.excuse("OpenDoor")


# ------------------------------------------------------------------ 13: the address


@pytest.mark.parametrize("listed", [True, False])
def test_lesson_13_an_address_missing_in_the_answer_is_listed_or_else_computed_and_said_so(
    tmp_path: Path, listed: bool
) -> None:
    async def life() -> None:
        untold = [fault("compute", "deploy_webgateway", "gateway_answer_lacks_fqdn")]
        unlisted = fault("compute", "list_webgateways", "gateway_listing_lacks_fqdn", times=None)
        faults = untold if listed else [*untold, unlisted]
        async with world(tmp_path, ["alice"], faults=faults, fleet=LEAN) as w:
            await w.ready("alice")
            fqdn = w.fqdn("alice")
            assert (await asked(w, "/api/v1/testers/alice"))["tester"]["link"] == f"https://{fqdn}{COCKPIT}"
            assert (await w.sign_in("alice", "alice"))[0] == 200
            confirmed = (await w.conditions("alice"))["AddressConfirmed"]
            if listed:
                assert (confirmed.status, confirmed.reason) == ("True", "AddressTold")
                return
            assert (confirmed.status, confirmed.reason) == ("Unknown", "AddressComputed")
            assert fqdn in confirmed.message
            assert "computed" in confirmed.message
            w.world.drift.clear_faults()
            before = len(w.writes())
            await w.until(lambda: _is_told(w), "the daemon tells it after all", within=A_WHILE)
            assert len(w.writes()) == before

    run(life())


async def _is_told(w: Rig) -> bool:
    return (await w.conditions("alice"))["AddressConfirmed"].reason == "AddressTold"


# ------------------------------------------------------------------ 14: names


@in_virtual_time
async def test_lesson_14_a_taken_name_leads_to_another(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.until(lambda: w.books()["vms"], "a machine")
        (record,) = await w.store.testers()
        taken = gateway_name("alice", record.uid)
        w.world.drift.occupy_gateway_name(taken)
        await w.ready("alice")
        (fqdn,) = addresses(w)
        assert fqdn.startswith(f"alice{record.uid}")
        assert fqdn.split(".")[0] != taken
        assert any("NameExists" in line for line in await told(w, "alice"))
        (app,) = w.books()["apps"]
        assert app["redirect_uris"] == [f"https://{fqdn}/oauth/callback"]


@in_virtual_time
async def test_lesson_14_what_is_left_of_a_machines_name_does_not_keep_the_next_one_from_being_built(
    tmp_path: Path,
) -> None:
    """The grid goes on holding the name though the gateway is deleted."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        (first,) = addresses(w)
        w.world.drift.occupy_gateway_name(first.split(".")[0])
        w.edit("alice", machine={"rebuild": 1})
        await w.until(lambda: addresses(w) not in ([], [first]), "another gateway", within=A_WHILE)
        await w.ready("alice")
        (second,) = addresses(w)
        assert second != first
        assert not [line for line in await told(w, "alice") if "NameExists" in line]
        assert stranger(w, second) == 302


# ------------------------------------------------------------------ 15: nothing stays behind


@in_virtual_time
async def test_lesson_15_a_removal_is_finished_when_each_thing_is_seen_to_be_gone(tmp_path: Path) -> None:
    """Said to be deleted and still there, a gateway is deleted again; who is leaving is shown until then."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("compute", "delete_webgateway", "says_done"))
        begun = len(w.world.log)
        w.remove("alice")
        await w.until(lambda: calls(w, "delete_webgateway", begun), "the first delete", within=SOON)
        assert w.books()["gateways"] == 1
        assert (await asked(w, "/api/v1/testers/alice"))["tester"]["phase"] == "Removing"
        await w.gone("alice", within=A_WHILE)
        books = w.books()
        assert (books["gateways"], books["vms"], books["apps"]) == (0, 0, [])
        assert accepting(w.world, "alice") == []
        assert books["disabled_accounts"] == ["alice"]
        for kind in ("webgateway", "vm"):
            assert calls(w, f"list_{kind}s", calls(w, f"delete_{kind}", begun)[-1])


@in_virtual_time
async def test_lesson_15_access_goes_before_what_stands(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        begun = len(w.world.log)
        w.remove("alice")
        await w.gone("alice", within=A_WHILE)
        done = [f"{entry.method} {entry.what}" for entry in w.writes(begun)]
        shut, app, gateway, vm = (
            next(number for number, what in enumerate(done) if words in what)
            for words in ("GATEWAY_LISTENER", "DELETE /api/v1/user/applications", "delete_webgateway", "delete_vm")
        )
        assert shut < app < gateway < vm


# ------------------------------------------------------------------ 16: the link


@in_virtual_time
async def test_lesson_16_every_link_that_is_shown_leads_to_the_cockpit(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        link = (await asked(w, "/api/v1/testers/alice"))["tester"]["link"]
        assert link == f"https://{w.fqdn('alice')}{COCKPIT}"
        mail = w.world.drift.mail()
        assert f"Link: {link}\n" in mail["text"]
        assert f'href="{link}"' in mail["html"]
        status, page = await w.sign_in("alice", "alice", "/" + link.split("/", 3)[3])
        assert (status, "hero_cockpit" in page, "Services" in page) == (200, True, False)


# ------------------------------------------------------------------ 17: which side is broken


@in_virtual_time
async def test_lesson_17_fine_inside_and_dead_outside_is_said_to_be_the_grids_routing(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("compute", "gateway", "outside_unroutable", times=None))
        await w.until(lambda: _says(w, "PublicReachable", "GridRouting"), "it is noticed", within=timedelta(hours=1))
        conditions = await w.conditions("alice")
        assert "answers inside, and its public address does not" in conditions["PublicReachable"].message
        assert (conditions["InnerProtected"].status, conditions["MachineAccess"].status) == ("True", "True")
        ready = conditions["Ready"]
        assert (ready.status, ready.reason) == ("False", "GridRouting")
        w.world.drift.clear_faults()
        await w.ready("alice")


@in_virtual_time
async def test_lesson_17_dead_inside_is_not_called_the_grids_routing(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("machine", "overlay", "inner_unroutable", w.vm("alice"), times=None))
        await w.until(lambda: _says(w, "PublicReachable", "NoAnswer"), "it is noticed", within=timedelta(hours=1))
        conditions = await w.conditions("alice")
        assert "neither the public address nor the machine answers" in conditions["PublicReachable"].message
        assert (conditions["MachineAccess"].status, conditions["Ready"].status) == ("False", "False")
        assert not [line for line in await told(w, "alice") if "GridRouting" in line]
        w.world.drift.clear_faults()
        await w.ready("alice")


async def _says(w: Rig, kind: str, reason: str) -> bool:
    found = (await w.conditions("alice")).get(kind)
    return found is not None and found.reason == reason
