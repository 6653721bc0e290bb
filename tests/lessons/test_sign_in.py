"""Lessons 18 to 20: an app for each tester, what a PATCH of it costs, and where the door really reads its gate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from examples.simulator.records import App
from tests.lessons.conftest import LEAN, asked, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

EVIL = "https://evil.example.org/oauth/callback"
CLIENT_SECRET = "FORGE_OAUTH_CLIENT_SECRET"
ALLOWED = "HERO_PROXY_ALLOWED_USERS"
NEXT_LOOK = timedelta(minutes=25)


def app_of(w: Rig, name: str) -> App:
    """The one OAuth app of a tester."""
    (found,) = [app for app in w.world.state.forge.apps if f" {name} " in app.name]
    return found


def stored(w: Rig, name: str, key: str, context: str = "core") -> str | None:
    """A secret on the tester's machine."""
    return w.world.drift.secret(w.vm(name), context, key)


def patches(w: Rig, since: int = 0) -> list[int]:
    """The numbers of the log's entries that changed an OAuth app."""
    return [entry.number for entry in w.writes(since) if entry.method == "PATCH" and "/oauth2/" in entry.what]


async def signs_in(w: Rig, name: str) -> list[int]:
    """What the tester, an admin and somebody else get to see at the tester's address."""
    return [(await w.sign_in(name, user))[0] for user in (name, "mik", "bob")]


MINE_ONLY = [200, 200, 403]


# ------------------------------------------------------------------ 18: one app each


@in_virtual_time
async def test_lesson_18_a_change_of_one_testers_sign_in_touches_nobody_elses(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice", "carol"], fleet=LEAN) as w:
        await w.ready("alice", "carol")
        for name in ("alice", "carol"):
            assert app_of(w, name).redirect_uris == [f"https://{w.fqdn(name)}/oauth/callback"]
        await w.settled()
        hers, before = app_of(w, "carol").model_dump(), len(w.world.log)
        w.world.drift.set_redirect(app_of(w, "alice").name, EVIL)
        await w.until(lambda: patches(w, before), "it is put right", within=NEXT_LOOK)
        await w.settled()
        assert app_of(w, "alice").redirect_uris == [f"https://{w.fqdn('alice')}/oauth/callback"]
        assert app_of(w, "carol").model_dump() == hers
        assert not [entry for entry in w.writes(before) if entry.system == f"machine:{w.vm('carol')}"]
        assert [await signs_in(w, name) for name in ("alice", "carol")] == [MINE_ONLY, MINE_ONLY]


# ------------------------------------------------------------------ 19: what a PATCH costs


@in_virtual_time
async def test_lesson_19_an_app_that_is_as_it_should_be_is_never_patched(tmp_path: Path) -> None:
    """Not by looks, not by a new life of the controller, not by another change of the spec."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        was = app_of(w, "alice").model_dump()
        await w.run_for(timedelta(hours=2))
        await w.restart()
        w.edit("alice", allowlist=["bob"])
        await w.until(lambda: "bob" in (stored(w, "alice", ALLOWED) or ""), "bob is let in")
        await w.ready("alice")
        assert patches(w) == []
        assert app_of(w, "alice").model_dump() == was
        assert await signs_in(w, "alice") == [200, 200, 200]


@in_virtual_time
async def test_lesson_19_the_plan_says_what_a_patch_costs_and_its_secret_reaches_the_machine_in_the_same_motion(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.edit("alice", paused={"reason": "somebody reads the plan first", "by": "mik"})
        w.world.drift.set_redirect(app_of(w, "alice").name, EVIL)
        await w.run_for(timedelta(minutes=1))  # shared listings are a little behind
        before = len(w.world.log)
        planned = _of_step(await asked(w, "/api/v1/testers/alice/plan"), "sign_in_app")
        assert planned["disruption"] == "restart"
        assert "Forge makes a new client secret; the old one stops working at once" in planned["consequences"]
        assert "hero_proxy restarts with the new one" in planned["consequences"]
        assert w.writes(before) == []
        w.write("alice")
        await w.until(lambda: patches(w, before), "it is put right", within=NEXT_LOOK)
        (patched,) = patches(w, before)
        wanted = app_of(w, "alice").client_secret
        await w.until(lambda: w.world.machine_named(w.vm("alice")).state.door.client_secret == wanted, "it arrives")
        done = [entry for entry in w.writes(patched) if entry.system.startswith("machine:")]
        assert [entry.what for entry in done] == [
            f"secret set --quiet --context core {CLIENT_SECRET}",
            "service restart hero_proxy",
        ]
        assert done[-1].time - w.world.log.entries[patched - 1].time < 30
        await w.settled()
        assert len(patches(w, before)) == 1
        assert await signs_in(w, "alice") == MINE_ONLY


def _of_step(plan: Any, step: str) -> Any:
    """The one action that is planned for a step."""
    (found,) = [each for each in plan["steps"] if each["step"] == step]
    (action,) = found["actions"]
    return action


@in_virtual_time
async def test_lesson_19_a_new_secret_that_nobody_heard_of_is_made_anew(tmp_path: Path) -> None:
    """The answer to the PATCH is lost: the old secret is dead, and the new one is known to nobody."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        await w.settled()
        before = len(w.world.log)
        w.world.drift.add_fault(**fault("forge", "PATCH *", "cut_mid_answer"))
        w.world.drift.set_redirect(app_of(w, "alice").name, EVIL)
        await w.until(lambda: len(patches(w, before)) == 2, "it is made anew", within=NEXT_LOOK)
        await w.settled()
        assert len(patches(w, before)) == 2
        assert stored(w, "alice", CLIENT_SECRET) == app_of(w, "alice").client_secret
        assert await signs_in(w, "alice") == MINE_ONLY


@in_virtual_time
async def test_lesson_19_no_secret_is_made_for_a_machine_that_cannot_be_told(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        before, vm = len(w.world.log), w.vm("alice")
        w.world.drift.set_reachable(vm, reachable=False)
        await w.until(lambda: _is_not_ready(w), "it is noticed", within=NEXT_LOOK)
        w.world.drift.set_redirect(app_of(w, "alice").name, EVIL)
        await w.run_for(timedelta(minutes=5))
        assert patches(w, before) == []
        assert w.vm("alice") == vm
        w.world.drift.set_reachable(vm, reachable=True)
        await w.until(lambda: patches(w, before), "it is put right", within=NEXT_LOOK)
        await w.ready("alice")
        assert await signs_in(w, "alice") == MINE_ONLY


async def _is_not_ready(w: Rig) -> bool:
    return str((await w.conditions("alice"))["Ready"].status) == "False"


# ------------------------------------------------------------------ 20: where the door reads


@in_virtual_time
async def test_lesson_20_a_domain_that_is_not_registered_is_seen_and_registered_gated(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        await w.settled()
        fqdn, machine = w.fqdn("alice"), w.world.machine_named(w.vm("alice"))
        w.world.drift.remove_domain(w.vm("alice"), fqdn)
        assert fqdn not in machine.state.domains
        await w.until(lambda: fqdn in machine.state.domains, "it is registered again", within=NEXT_LOOK)
        await w.settled()  # the door starts anew, which the books may not tell yet
        await w.ready("alice")
        assert machine.state.domains[fqdn].auth_mode == "oauth"
        assert await signs_in(w, "alice") == MINE_ONLY
        w.excuse("OpenDoor")  # between the drift and the next look


@in_virtual_time
async def test_lesson_20_an_allowlist_in_the_wrong_context_is_written_where_the_door_reads_it(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        await w.settled()
        vm, right = w.vm("alice"), stored(w, "alice", ALLOWED)
        w.world.drift.set_secret(vm, "cockpit", ALLOWED, right)
        w.world.drift.set_secret(vm, "core", ALLOWED, None)
        w.world.drift.restart_proxy(vm)
        assert await signs_in(w, "alice") == [200, 200, 200]
        door = w.world.machine_named(vm).state.door
        assert door.allowed == []
        machine = w.world.machine_named(vm)
        await w.until(lambda: machine.state.door.allowed == ["alice", "mik", "sara"], "the door has it", NEXT_LOOK)
        await w.ready("alice")
        assert stored(w, "alice", ALLOWED) == right
        assert await signs_in(w, "alice") == MINE_ONLY


@in_virtual_time
async def test_lesson_20_no_door_is_opened_while_what_it_reads_does_not_read_back(tmp_path: Path) -> None:
    empty = fault("machine", "secret get", "secret_reads_empty", ALLOWED, times=None)
    async with world(tmp_path, ["alice"], faults=[empty], fleet=LEAN) as w:
        await w.run_for(timedelta(minutes=20))
        gate = (await w.conditions("alice"))["SignInGate"]
        assert (gate.status, gate.reason) == ("False", "ReadBackMismatch")
        assert f"core/{ALLOWED}" in gate.message
        assert stored(w, "alice", "HERO_PROXY_SEED_GATEWAY_LISTENER") != "1"
        assert not [line for line in await told(w, "alice") if line.startswith(("DoorOpened", "Ready: "))]
        w.world.drift.clear_faults()
        await w.ready("alice")
        assert await signs_in(w, "alice") == MINE_ONLY
