"""Lessons 28, 29, 31 and 35: from a bare image to running components, side by side, each on its own account."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lessons.conftest import LEAN, SMALL, asked, fault, told
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world

APPS = ["hero_books", "hero_slides", "hero_whiteboard"]
LEAST = 10.0  # seconds that an install takes in this world; at most 40
SOON = 15.0  # seconds: a few looks, and the door's two restarts


def commands(w: Rig, *words: str) -> list[tuple[float, str]]:
    """The commands that hold one of these words and ended on alice's machine: when, and which."""
    mine = [entry for entry in w.writes() if entry.system == f"machine:{w.vm('alice')}"]
    return [(one.time, f"{one.method} {one.what}") for one in mine if any(each in one.what for each in words)]


@in_virtual_time
async def test_lesson_28_base_packages_come_first_and_are_tried_again(tmp_path: Path) -> None:
    flaky = fault("machine", "apt-get install", "install_fails", "apt-get")
    async with world(tmp_path, ["alice"], fleet=LEAN, faults=[flaky]) as w:
        await w.ready("alice")
        packages = "apt-get install -y --no-install-recommends curl ca-certificates"
        first = [command for _, command in commands(w, "")][:5]
        assert first == 2 * ["apt-get update", packages] + ["lab build hero_proc --download --install"]
        assert any(line.startswith("InstallFailed: Supervisor: ") for line in await told(w, "alice"))
        assert any("Failed to fetch http://archive.ubuntu.com" in line for line in await told(w, "alice"))


@in_virtual_time
async def test_lesson_28_a_base_package_that_goes_missing_is_installed_again(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        packages = w.world.machine_named(w.vm("alice")).state.packages
        del packages["curl"]
        await w.until(lambda: "curl" in packages, "curl again", within=timedelta(minutes=25))
        await w.settled()
        await w.ready("alice")
        assert any("drift" in line and "curl is not installed" in line for line in await told(w, "alice"))


@in_virtual_time
async def test_lesson_29_a_service_that_loses_the_race_of_starting_is_started_again(tmp_path: Path) -> None:
    racy = fault("machine", "service start", "start_fails", "hero_books")
    async with world(tmp_path, ["alice"], fleet=LEAN, faults=[racy]) as w:
        await w.ready("alice")
        assert any("hero_books exited with code 101 during start" in line for line in await told(w, "alice"))
        (machine,) = w.books()["machines"].values()
        assert machine["services"]["hero_books"] == {"state": "running", "alive": True}


@pytest.mark.parametrize("places", [2, 8])
def test_lesson_31_components_are_installed_side_by_side_up_to_the_limit(tmp_path: Path, places: int) -> None:
    async def life() -> None:
        apps = {"componentSets": {"demo": APPS}, "engines": []}  # with the usual timing: seconds matter here
        async with world(tmp_path, ["alice"], fleet={**apps, "limits": {"installs": places}}) as w:
            await w.ready("alice")
            ends = [at for at, _ in commands(w, "build hero")][1:]  # the first is the supervisor's own
            assert len(ends) == len(APPS) + 3  # cockpit, router, proxy
            at_once = max(sum(end <= other < end + LEAST for other in ends) for end in ends)
            assert min(places, 3) <= at_once <= places
            # nobody sits out a pause: everything is proven soon after the last service has started
            assert w.clock.now().timestamp() - commands(w, "service hero")[-1][0] < SOON

    run(life())


@in_virtual_time
async def test_lesson_35_what_cannot_start_fails_alone_and_says_why(tmp_path: Path) -> None:
    broken = fault("machine", "lab build", "install_fails", "hero_slides", times=None)
    spec = {"components": {"add": ["hero_aibroker"]}}  # it does not start without an AI key, and there is none
    async with world(tmp_path, {"alice": spec}, fleet=SMALL, faults=[broken]) as w:
        await w.run_for(timedelta(minutes=20))
        whole = await asked(w, "/api/v1/testers/alice")
        assert not whole["tester"]["ready"]
        (health,) = [each["message"] for each in whole["conditions"] if each["type"] == "ComponentsHealthy"]
        assert "hero_slides: its install failed: error: hero_slides: download failed" in health
        assert "hero_aibroker: its install failed: error: hero_aibroker: no AI provider key configured" in health
        assert "the spec gives it none: see keys.providers" in health
        assert "hero_books" not in health

        (machine,) = w.books()["machines"].values()
        assert all(machine["services"][each]["alive"] for each in ("hero_books", "hero_cockpit", "hero_proxy"))
        assert (await w.sign_in("alice", "alice"))[0] == 200
        tries = [at for at, _ in commands(w, "build hero_aibroker")]
        pauses = [later - at for at, later in pairwise(tries)]
        assert pauses[-1] > 3 * pauses[0]  # again and again, at ever longer intervals

        w.world.drift.clear_faults()
        w.edit("alice", keys={"providers": {"openrouter": "default"}})
        await w.ready("alice")
