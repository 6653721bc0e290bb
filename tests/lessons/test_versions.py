"""Lessons 32 and 33: which version a machine runs, and what a broken release does to those who hold theirs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.lessons.conftest import SELDOM, SMALL, asked, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world


async def versions(w: Rig) -> dict[str, str]:
    """What the API says runs on alice's machine."""
    facts = (await asked(w, "/api/v1/testers/alice"))["facts"]
    found: dict[str, str] = {}
    for each in facts:
        found |= each["values"].get("versions", {})
        named = {"version": "hero_proc", "router": "hero_router", "proxy": "hero_proxy"}
        found |= {named[key]: value for key, value in each["values"].items() if key in named}
    return found


def there(w: Rig) -> dict[str, Any]:
    """What is on alice's machine."""
    (machine,) = w.books()["machines"].values()
    return dict(machine["components"])


@in_virtual_time
async def test_lesson_32_the_exact_version_of_every_component_is_recorded(tmp_path: Path) -> None:
    untold = fault("machine", "version", "version_unknown", "hero_slides", times=None)
    spec = {"version": {"pin": {"hero_books": "v0.3.0"}}}
    async with world(tmp_path, {"alice": spec}, fleet=SMALL, faults=[untold]) as w:
        await w.ready("alice")
        assert await versions(w) == {**there(w), "hero_slides": "unknown"}
        assert there(w)["hero_books"] == "v0.3.0"


@in_virtual_time
async def test_lesson_32_a_version_that_somebody_changed_is_noticed(tmp_path: Path) -> None:
    """Without being updated: that would put it right for another reason, and say so in other words."""
    async with world(tmp_path, {"alice": {"version": {"updates": "notify"}}}, fleet=SMALL) as w:
        await w.ready("alice")
        w.world.drift.set_version(w.vm("alice"), "hero_slides", "v0.2.9")
        w.world.drift.install(w.vm("alice"), "hero_memory", "v0.3.0")
        await w.until(lambda: there(w)["hero_slides"] == "v0.3.1", "the version", within=timedelta(minutes=25))
        await w.settled()
        assert any("drift" in line and "v0.2.9" in line for line in await told(w, "alice"))
        assert await versions(w) == there(w)
        own = (await w.conditions("alice"))["TestersOwnComponents"]
        assert (own.reason, own.message.rpartition(": ")[2]) == ("LeftAlone", "hero_memory v0.3.0")


@in_virtual_time
async def test_lesson_33_a_broken_release_does_not_reach_who_is_pinned_or_only_notified(tmp_path: Path) -> None:
    spec = {"version": {"pin": {"hero_books": "v0.3.1"}, "updates": "notify"}}
    often = {**SMALL, "timing": {**SELDOM, "releasesEvery": "15m"}}
    async with world(tmp_path, {"alice": spec}, fleet=often) as w:
        w.world.drift.publish_broken("hero_books", "v0.4.0")  # before the machine is made: everything new would break
        await w.ready("alice")
        assert there(w)["hero_books"] == "v0.3.1"
        w.world.drift.publish_broken("hero_slides", "v0.4.0")
        await w.until(lambda: _told_of(w, "hero_slides v0.3.1 → v0.4.0"), "the news", within=timedelta(hours=1))
        w.world.drift.set_version(w.vm("alice"), "hero_slides", "v0.2.9")  # put right, and with nothing newer
        await w.until(lambda: there(w)["hero_slides"] == "v0.3.1", "the version", within=timedelta(minutes=25))
        await w.settled()
        await w.ready("alice")
        assert there(w) == dict.fromkeys(there(w), "v0.3.1")


async def _told_of(w: Rig, words: str) -> bool:
    return words in (await w.conditions("alice"))["UpdateAvailable"].message
