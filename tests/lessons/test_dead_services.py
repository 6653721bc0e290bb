"""Lesson 34: the supervisor's word is a hint; the service itself is asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from controller.records import Status
from tests.lessons.conftest import SMALL, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

SOON = timedelta(minutes=25)  # two resyncs


def services(w: Rig) -> dict[str, dict[str, object]]:
    (machine,) = w.books()["machines"].values()
    return dict(machine["services"])


@in_virtual_time
async def test_lesson_34_a_dead_service_that_is_said_to_run_is_restarted(tmp_path: Path) -> None:
    lie = fault("machine", "service start", "supervisor_lies", "hero_slides")
    async with world(tmp_path, ["alice"], fleet=SMALL, faults=[lie]) as w:
        await w.ready("alice")
        assert services(w)["hero_slides"]["alive"]
        assert any("hero_slides answers its health check with 502" in line for line in await told(w, "alice"))

        w.world.drift.kill_service(w.vm("alice"), "hero_books")
        assert services(w)["hero_books"] == {"state": "running", "alive": False}
        await w.until(lambda: services(w)["hero_books"]["alive"], "hero_books", SOON)
        await w.settled()
        await w.ready("alice")
        assert "ServiceRestarted: restart service hero_books" in await told(w, "alice")


@in_virtual_time
async def test_lesson_34_a_living_service_that_is_said_to_be_dead_is_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=SMALL) as w:
        await w.ready("alice")
        await w.settled()
        since, before = len(w.world.log), len(await w.events("alice"))
        for service, word in (("hero_books", "stopped"), ("hero_slides", "failed")):
            w.world.drift.misreport_service(w.vm("alice"), service, word)
        await w.run_for(SOON)
        assert w.writes(since) == []
        assert (await w.events("alice"))[before:] == []


@in_virtual_time
async def test_lesson_34_a_service_that_lives_and_does_not_work_is_no_healthy_one(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=SMALL) as w:
        await w.ready("alice")
        since = len(w.world.log)
        w.world.drift.break_service(w.vm("alice"), "hero_books")

        async def unready() -> bool:
            return (await w.conditions("alice"))["Ready"].status is Status.FALSE

        await w.until(unready, "a word about it", SOON)
        health = (await w.conditions("alice"))["ComponentsHealthy"]
        assert "hero_books lives, but /hero_books/api/libraries answers with 500" in health.message
        await w.until(lambda: "hero_proc service restart hero_books" in _writes(w, since), "a restart", SOON)
        w.world.drift.break_service(w.vm("alice"), "hero_books", works=True)
        await w.ready("alice")


def _writes(w: Rig, since: int) -> list[str]:
    return [f"{entry.method} {entry.what}" for entry in w.writes(since)]
