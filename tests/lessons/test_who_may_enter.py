"""Lessons 24 to 26: strangers at a shared whiteboard, the allowlist, and a sign-in that lost one of its settings."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

from examples.simulator.http import Request
from tests.lessons.conftest import LEAN, asked, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

WITH_WHITEBOARD = {**LEAN, "componentSets": {"demo": ["hero_books", "hero_whiteboard"]}}
SHARED = "/hero_whiteboard/share/abc"
SOON = timedelta(minutes=25)  # two resyncs


def stranger(w: Rig, path: str) -> str:
    """What somebody without a session gets at the public address: `in`, or where they are sent to."""
    fqdn = w.fqdn("alice")
    answer = w.world.ask_outside(fqdn, Request("GET", path, headers={"host": fqdn}))
    return "in" if answer.status == 200 else (answer.header("location") or str(answer.status)).partition("?")[0]


async def who_gets_in(w: Rig) -> list[str]:
    return [user for user in ("alice", "mik", "sara", "bob") if (await w.sign_in("alice", user))[0] == 200]


def lock_out(w: Rig, allowed: str | None) -> None:
    """Somebody edits the allowlist on the machine, and the front door starts again."""
    w.world.drift.set_secret(w.vm("alice"), "core", "HERO_PROXY_ALLOWED_USERS", allowed)
    w.world.drift.restart_proxy(w.vm("alice"))


@in_virtual_time
async def test_lesson_24_strangers_open_what_is_shared_and_nothing_else(tmp_path: Path) -> None:
    spec = {"components": {"publicPaths": ["/hero_whiteboard/share/"]}}
    async with world(tmp_path, {"alice": spec}, fleet=WITH_WHITEBOARD) as w:
        await w.ready("alice")
        sign_in = f"{w.world.realm.forge_url}/login/oauth/authorize"
        assert stranger(w, SHARED) == "in"
        beside = ("/", "/hero_whiteboard/", "/hero_whiteboard/share/../edit", "/hero_whiteboard/shared", "/hero_books/")
        assert {stranger(w, path) for path in beside} == {sign_in}
        assert (await w.conditions("alice"))["SignInProtected"].reason == "Proven"
        await w.settled()  # what is meant to be open keeps nobody busy

        w.edit("alice", components={"publicPaths": []})
        await w.ready("alice")
        assert stranger(w, SHARED) == sign_in


@in_virtual_time
async def test_lesson_24_a_public_path_that_is_no_part_of_one_app_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_WHITEBOARD) as w:
        await w.ready("alice")
        for path in ("/", "/hero_whiteboard/../", "/hero_slides/share/"):
            w.edit("alice", components={"publicPaths": [path]})
            await w.ready("alice")
            complaint = (await asked(w, "/api/v1/testers/alice"))["tester"]["fileError"]
            assert "publicPaths[0]" in complaint
        assert [each.public_paths for each in w.world.machine_named(w.vm("alice")).state.domains.values()] == [[]]


@in_virtual_time
async def test_lesson_25_admins_and_the_tester_are_on_every_allowlist(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": {"allowlist": ["bob"]}}, fleet=LEAN) as w:
        await w.ready("alice")
        assert await who_gets_in(w) == ["alice", "mik", "sara", "bob"]
        w.edit("alice", allowlist=[])
        await w.ready("alice")
        assert await who_gets_in(w) == ["alice", "mik", "sara"]

        lock_out(w, "bob")
        assert await who_gets_in(w) == ["bob"]
        await w.until(lambda: len(w.world.machine_named(w.vm("alice")).state.door.allowed) == 3, "the list", SOON)
        await w.settled()
        assert await who_gets_in(w) == ["alice", "mik", "sara"]
        assert any("drift" in line and "HERO_PROXY_ALLOWED_USERS" in line for line in await told(w, "alice"))


@in_virtual_time
async def test_lesson_26_a_sign_in_setting_that_a_restart_dropped_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        w.excuse("OpenDoor")  # without a client secret this front door asks for nothing
        await w.ready("alice")
        drift, vm = w.world.drift, w.vm("alice")
        for key in ("HERO_PROXY_ALLOWED_USERS", "FORGE_OAUTH_CLIENT_SECRET"):
            before, since = drift.secret(vm, "core", key), len(await w.events("alice"))
            drift.set_secret(vm, "core", key, None)
            drift.restart_proxy(vm)
            assert (await w.sign_in("alice", "bob"))[0] == 200
            await w.until(partial(_again, w, key, before), f"{key} again", SOON)
            await w.settled()
            assert await who_gets_in(w) == ["alice", "mik", "sara"]
            assert any(key in line for line in (await told(w, "alice"))[since:] if "drift" in line)


def _again(w: Rig, key: str, value: str | None) -> bool:
    return w.world.drift.secret(w.vm("alice"), "core", key) == value
