"""Lessons 26, 27, 29 and 30: settings live in hero_proc, are watched, read back, and reach the services that read them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from controller.records import Phase, Status
from tests.e2e.rig import PROVIDER_KEY
from tests.lessons.conftest import LEAN, asked, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

WITH_KEY = {"keys": {"providers": {"openrouter": "default"}}}
KEY = "OPENROUTER_API_KEY"
SOON = timedelta(minutes=25)  # two resyncs
LONG = timedelta(minutes=10)


def restarted(w: Rig, since: int = 0) -> list[str]:
    """The services that were restarted on alice's machine, by name."""
    calls = [e.what.partition("service restart ") for e in w.writes(since) if e.system == f"machine:{w.vm('alice')}"]
    return sorted(service for _, words, service in calls if words)


@in_virtual_time
async def test_lesson_26_any_other_setting_that_goes_is_put_back_as_well(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": WITH_KEY}, fleet=LEAN) as w:
        await w.ready("alice")
        drift, vm, since, before = w.world.drift, w.vm("alice"), len(w.world.log), len(await told(w, "alice"))
        drift.set_secret(vm, "cockpit", KEY, None)
        await w.until(lambda: restarted(w, since), "a restart", SOON)
        await w.settled()
        assert drift.secret(vm, "cockpit", KEY) == PROVIDER_KEY
        assert drift.unread_settings(vm, "hero_cockpit") == []
        assert restarted(w, since) == ["hero_cockpit"]
        assert any("drift" in line and KEY in line for line in (await told(w, "alice"))[before:])


@in_virtual_time
async def test_lesson_27_settings_are_hero_procs_secrets_and_their_readers_restart(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        drift, vm, since = w.world.drift, w.vm("alice"), len(w.world.log)
        w.edit("alice", components={"settings": {"hero_books": {"BOOKS_LIBRARIES": "hero,geomind"}}}, **WITH_KEY)
        await w.ready("alice")
        assert drift.secret(vm, "books", "BOOKS_LIBRARIES") == "hero,geomind"
        assert drift.secret(vm, "cockpit", KEY) == PROVIDER_KEY
        assert restarted(w, since) == ["hero_books", "hero_cockpit"]  # who reads them, once, and nobody else
        assert [drift.unread_settings(vm, service) for service in ("hero_books", "hero_cockpit")] == [[], []]


@in_virtual_time
async def test_lesson_29_a_value_that_reads_as_empty_once_is_noticed_and_set_again(tmp_path: Path) -> None:
    racy = fault("machine", "secret get", "secret_reads_empty", KEY)
    async with world(tmp_path, {"alice": WITH_KEY}, fleet=LEAN, faults=[racy]) as w:
        await w.ready("alice")
        assert w.world.drift.secret(w.vm("alice"), "cockpit", KEY) == PROVIDER_KEY
        assert any("reads back as something else" in line and KEY in line for line in await told(w, "alice"))


@in_virtual_time
async def test_lesson_30_a_value_that_never_reads_back_is_told_and_nobody_is_ready_on_it(tmp_path: Path) -> None:
    broken = fault("machine", "secret get", "secret_reads_empty", KEY, times=None)
    async with world(tmp_path, {"alice": WITH_KEY}, fleet=LEAN, faults=[broken]) as w:
        await w.run_for(LONG)
        whole = await asked(w, "/api/v1/testers/alice")
        assert (whole["tester"]["phase"], whole["tester"]["reason"]) == (Phase.FAILING, "ReadBackMismatch")
        assert f"cockpit/{KEY} was written and reads back as something else" in whole["tester"]["message"]
        assert w.books()["mailbox"] == []  # nobody is invited to it
        assert PROVIDER_KEY not in str(whole)

        w.world.drift.clear_faults()
        await w.ready("alice")
        assert len(w.books()["mailbox"]) == 1


@in_virtual_time
async def test_lesson_30_a_sign_in_secret_that_does_not_read_back_keeps_the_door_shut(tmp_path: Path) -> None:
    broken = fault("machine", "secret get", "secret_reads_empty", "FORGE_OAUTH_CLIENT_SECRET", times=None)
    async with world(tmp_path, ["alice"], fleet=LEAN, faults=[broken]) as w:
        await w.run_for(LONG)
        gate = (await w.conditions("alice"))["SignInGate"]
        assert (gate.status, gate.reason) == (Status.FALSE, "ReadBackMismatch")
        assert "core/FORGE_OAUTH_CLIENT_SECRET" in gate.message
        (machine,) = w.books()["machines"].values()
        assert machine["listener"] is False
