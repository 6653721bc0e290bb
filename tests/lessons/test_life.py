"""Lessons 36, 40, 43 and 45: what an admin sees of an install and of a removal, and what of a person outlives a machine."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from examples.simulator.invariants import accepting
from tests.lessons.conftest import LEAN, SELDOM, SMALL, asked, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

HOUR = timedelta(hours=1)
LOG = "/api/v1/testers/alice/logs/hero_books"
CAUSE = "error: hero_books: download failed: connection reset by peer"
BOB = {"account": "bob", "email": "bob@example.org", "existing": True}
PERSON = ("id", "name", "email", "password", "must_change", "prohibit_login", "keys")


def shown(whole: Any, kind: str) -> Any:
    """A condition as the read API tells it."""
    return next((each for each in whole["conditions"] if each["type"] == kind), None)


def person(w: Rig, account: str) -> dict[str, Any]:
    """What an account at Forge is to its owner."""
    return w.world.forge.need_account(account).model_dump(include=set(PERSON))


def calls(w: Rig, method: str) -> list[float]:
    """When a daemon was asked for this, in seconds."""
    return [each.time for each in w.world.log if each.what == f"/rpc {method}"]


# ------------------------------------------------------------------ 36: the log


@in_virtual_time
async def test_lesson_36_what_an_install_printed_is_part_of_the_status(tmp_path: Path) -> None:
    """Nobody has to enter the machine: the last words are in the condition and the events, all of it is one question away."""
    broken = fault("machine", "lab build", "install_fails", "hero_books", times=None)
    async with world(tmp_path, ["alice"], fleet=SMALL, faults=[broken]) as w:

        async def failed() -> bool:
            found = (await w.conditions("alice")).get("ComponentsHealthy")
            return found is not None and found.reason == "ComponentFailing"

        await w.until(failed, "the failed install is told")
        whole = await asked(w, "/api/v1/testers/alice")
        assert f"hero_books: its install failed: {CAUSE}" in shown(whole, "ComponentsHealthy")["message"]
        logs: list[Any] = []

        async def ended() -> bool:
            now = shown(await asked(w, "/api/v1/testers/alice"), "ComponentsHealthy")
            assert now["reason"] == "ComponentFailing", "also while it is being tried again"
            logs.append(await asked(w, LOG))
            return bool(logs[-1]["state"] == "failed")

        await w.until(ended, "its next try ends as well")
        assert logs[-1]["log"].splitlines() == ["+ lab build hero_books --download --install", CAUSE]
        assert logs[-1]["exitCode"] == 1
        assert [each for each in await told(w, "alice") if CAUSE in each]
        ends = {each["component"]: each for each in await asked(w, "/api/v1/testers/alice/logs")}
        assert ends["hero_slides"]["state"] == "succeeded"
        assert "+ lab build hero_slides" in ends["hero_slides"]["log"]
        assert "apt-get" in ends["hero_proc"]["log"], "the very first step as well"
        w.world.drift.clear_faults()
        await w.ready("alice")


# ------------------------------------------------------------------ 40: a removal that cannot be


@in_virtual_time
async def test_lesson_40_a_removal_keeps_trying_more_slowly_stays_visible_and_never_forgets(tmp_path: Path) -> None:
    """The relay answers 502 for most of a day, with the controller killed in between. Access is gone from the first hour on."""
    slowly = {"resync": "6h", "backoffCeiling": "2h"}
    async with world(tmp_path, ["alice"], fleet={**LEAN, "timing": {**SELDOM, **slowly}}) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("compute", "delete_vm", "http_502", times=None))
        w.world.drift.add_fault(**fault("compute", "delete_webgateway", "restart_required", times=None))
        w.remove("alice")
        await w.run_for(timedelta(minutes=5))
        assert 2 < len(calls(w, "delete_vm")) < 20, "not hammered"
        await w.run_for(HOUR)
        assert (accepting(w.world, "alice"), w.books()["apps"]) == ([], [])
        assert w.books()["disabled_accounts"] == ["alice"]
        await w.run_for(timedelta(hours=5))
        await w.restart()
        await w.run_for(timedelta(hours=10))
        for method, why in (("delete_vm", "502"), ("delete_webgateway", "restart required")):
            tries = calls(w, method)
            pauses = [after - before for before, after in pairwise(tries)]
            assert 8 < len(tries) < 60, f"{method}: it never gives up, and does not hammer"
            assert min(pauses[-3:]) > 3600, f"{method}: seldom in the end: {pauses}"
            assert [each for each in await told(w, "alice") if method.partition("_")[0] in each and why in each]
        first = calls(w, "delete_vm")
        assert first[2] - first[0] < 120, "what may pass at once is tried again at once"
        whole = await asked(w, "/api/v1/testers/alice")
        assert whole["tester"]["phase"] == "Removing"
        machine, gateway = shown(whole, "Machine"), shown(whole, "Gateway")
        assert (machine["reason"], "answered 502" in machine["message"]) == ("OutcomeUnknown", True)
        assert gateway["reason"] == "DaemonConnectionDead"  # the daemon's own words are in the events above
        assert gateway["message"].startswith("waits for compute compute1, which has lost the chain")
        everybody = shown(await asked(w, "/api/v1/fleet"), "BackendsUsable")
        assert (everybody["status"], everybody["reason"]) == ("False", "DaemonConnectionDead")
        assert "compute compute1 has lost the chain: whoever runs it restarts it" in everybody["message"]
        w.world.drift.clear_faults()
        await w.gone("alice", within=timedelta(hours=6))
        assert (w.books()["vms"], w.books()["gateways"]) == (0, 0)


# ------------------------------------------------------------------ 43: built before anybody waits


@in_virtual_time
async def test_lesson_43_a_machine_can_be_built_ahead_and_its_person_is_told_only_when_it_is_ready(
    tmp_path: Path,
) -> None:
    """The slow and flaky part is nobody's wait: who is invited later has a letter, and a machine, within a minute."""
    slow = [
        fault("compute", "deploy_vm", "slow_network", "alice*", seconds=900),
        fault("compute", "deploy_webgateway", "slow_chain", "alice*", seconds=290),
    ]
    async with world(tmp_path, {"alice": {"welcomeEmail": False}}, fleet=LEAN, faults=slow) as w:
        await w.ready("alice")
        assert w.elapsed > timedelta(minutes=15)
        assert w.world.mailbox == []
        machine, since = w.vm("alice"), w.clock.now()
        w.edit("alice", welcomeEmail=True)
        await w.until(lambda: w.world.mailbox, "the letter", within=timedelta(minutes=1))
        await w.ready("alice", within=timedelta(minutes=1))
        assert (await w.sign_in("alice", "alice"))[0] == 200
        assert w.vm("alice") == machine
        assert w.clock.now() - since < timedelta(minutes=1)


# ------------------------------------------------------------------ 45: machine and account


@in_virtual_time
async def test_lesson_45_a_machine_is_built_anew_and_its_persons_account_is_left_alone(tmp_path: Path) -> None:
    """An account that we made and one that we adopted; asked for, and because somebody deleted the machine."""
    async with world(tmp_path, {"alice": {}, "robert": {"identity": BOB}}, fleet=LEAN) as w:
        await w.ready("alice", "robert")
        assert (await w.sign_in("alice", "alice"))[0] == 200, "she chose a password of her own"
        people = {account: person(w, account) for account in ("alice", "bob")}
        machines, since = {name: w.vm(name) for name in ("alice", "robert")}, len(w.world.log)
        w.edit("alice", machine={"rebuild": 1})
        w.world.drift.delete_vm(machines["robert"])
        await w.until(lambda: w.books()["vms"] == 2 and machines["robert"] not in vm_names(w), "another machine", HOUR)
        await w.ready("alice", "robert", within=HOUR)
        await w.until(lambda: not set(machines.values()) & set(vm_names(w)), "the old ones are gone", HOUR)
        assert {account: person(w, account) for account in people} == people
        accounts = [each for each in w.writes(since) if each.system == "forge" and "oauth2" not in each.what]
        assert accounts == []
        assert [(await w.sign_in(name, user))[0] for name, user in (("alice", "alice"), ("robert", "bob"))] == [
            200,
            200,
        ]
        letter = w.world.drift.mail("alice@example.org")
        assert letter["subject"].endswith("has a new address")
        assert f"https://{w.fqdn('alice')}/hero_cockpit/web/" in letter["text"]


def vm_names(w: Rig) -> list[str]:
    return [vm.name for one in w.world.state.daemons.values() for vm in one.vms.values()]
