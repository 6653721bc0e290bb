"""Lessons 21 to 23: health is asked for and not guessed, and every path and every side of the door is tried."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.records import Change, Phase, SetStatus
from controller.store.store import AFTER_COMMIT
from examples.simulator.http import Request
from tests.lessons.conftest import LEAN, fault, told
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world

BARE = ("/", "/status")
A_WHILE, SOON = timedelta(minutes=20), timedelta(seconds=30)


def inner_status(w: Rig, path: str = "/") -> int | None:
    """What a neighbour on the inner network gets without a session; None: nobody listens."""
    answer = w.world.ask_inner(w.world.machine_named(w.vm("alice")), Request("GET", path, headers={"host": "any"}))
    return answer.status if answer else None


def is_open(w: Rig) -> bool:
    """Whether the front door listens to the gateway."""
    return w.world.machine_named(w.vm("alice")).door.listens("outside")


async def is_said_open(w: Rig) -> bool:
    found = (await w.conditions("alice"))["SignInProtected"]
    return (found.status, found.reason) == ("False", "SeenOpen")


# ------------------------------------------------------------------ 21: cold starts


@pytest.mark.parametrize("seconds", [25, 150])
def test_lesson_21_a_cold_start_takes_as_long_as_it_takes(tmp_path: Path, seconds: int) -> None:
    """Ready comes when the service answers: not before, and not long after. Nothing is installed twice for it."""

    async def life() -> None:
        slow = fault("machine", "service start", "slow_start", "hero_books", times=None, seconds=seconds)
        async with world(tmp_path, ["alice"], faults=[slow], fleet=LEAN) as w:
            unwell = await _watched(w)
            await w.ready("alice")
            assert unwell == [False]
            books = w.world.machine_named(w.vm("alice")).state.services["hero_books"]
            assert 0 <= w.clock.now().timestamp() - books.healthy_at < 15
            builds = [entry for entry in w.writes() if entry.what.startswith("build hero_books")]
            assert len(builds) == 1
            assert await _waited_for_health(w)

    run(life())


async def _watched(w: Rig) -> list[bool]:
    """At each moment when alice becomes Ready, whether her hero_books did not answer."""
    seen: list[bool] = []

    async def hook(moment: str, changes: tuple[Change, ...]) -> None:
        if moment == AFTER_COMMIT and any(isinstance(c, SetStatus) and c.phase is Phase.READY for c in changes):
            seen.append(not w.world.machine_named(w.vm("alice")).healthy("hero_books"))

    w.store.hooks.append(hook)
    return seen


async def _waited_for_health(w: Rig) -> bool:
    lines = await told(w, "alice")
    return any(line.startswith("WaitingForHealth: Components: ") and "hero_books" in line for line in lines)


# ------------------------------------------------------------------ 22: every path


@in_virtual_time
async def test_lesson_22_a_machine_with_open_status_pages_is_never_opened(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], faults=[open_paths(*BARE)], fleet=LEAN) as w:
        await w.until(lambda: _waits_for_the_door(w), "nothing is left to do but to ask again")
        await w.run_for(timedelta(minutes=1))
        assert not is_open(w)
        conditions = await w.conditions("alice")
        assert conditions["Ready"].status == "False"
        assert "/ answered 200" in conditions["SignInGate"].message
        assert not [line for line in await told(w, "alice") if line.startswith("DoorOpened")]
        w.world.drift.clear_faults()
        await w.ready("alice")


async def _waits_for_the_door(w: Rig) -> bool:
    found = (await w.conditions("alice")).get("SignInGate")
    return found is not None and found.reason == "DoorNotAsking"


@pytest.mark.parametrize("path", ["/", "/status", "/hero_books/"])
def test_lesson_22_one_open_path_shuts_the_door_until_it_asks_for_sign_in(tmp_path: Path, path: str) -> None:
    """The cockpit is gated all the while."""

    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            await w.ready("alice")
            w.world.drift.add_fault(**open_paths(path))
            await w.until(lambda: not is_open(w), "the door is shut", within=A_WHILE)
            w.excuse("OpenDoor")  # until the next look
            await w.until(lambda: is_said_open(w), "it is told", within=SOON)
            conditions = await w.conditions("alice")
            assert f"{path} answered 200" in conditions["SignInProtected"].message
            assert conditions["Ready"].status == "False"
            (event,) = [each for each in await w.events("alice") if each.reason == "SeenOpen"]
            assert event.severity == "Warning"
            w.world.drift.clear_faults()
            await w.ready("alice")
            assert (await w.conditions("alice"))["SignInProtected"].reason == "Proven"
            assert is_open(w)

    run(life())


def open_paths(*paths: str) -> dict[str, Any]:
    return fault("machine", "door", "open_paths", times=None, paths=paths)


# ------------------------------------------------------------------ 23: inside too


INNER = fault("machine", "door", "inner_side_open", times=None)


@in_virtual_time
async def test_lesson_23_open_on_the_inner_network_is_open(tmp_path: Path) -> None:
    """From outside and on loopback every path asks for sign-in."""
    async with world(tmp_path, ["alice"], faults=[INNER], fleet=LEAN) as w:
        await w.until(lambda: _has_vm(w) and inner_status(w) == 200, "a neighbour sees the dashboard")
        await w.until(lambda: inner_status(w) is None, "the door is shut", within=SOON)
        await w.run_for(timedelta(minutes=10))
        lines = await told(w, "alice")
        seen = "SeenOpen: SignInProtected: a stranger was let in over the inner network / answered 200"
        assert any(line.startswith(seen) for line in lines)
        assert not [line for line in lines if line.startswith("Ready: ")]
        w.world.drift.clear_faults()
        await w.ready("alice")
        conditions = await w.conditions("alice")
        assert (conditions["InnerProtected"].status, conditions["InnerProtected"].reason) == ("True", "Proven")
        assert inner_status(w) == 302


@in_virtual_time
async def test_lesson_23_a_fleet_may_choose_to_be_told_only(tmp_path: Path) -> None:
    fleet = {**LEAN, "safety": {"innerProof": "report"}}
    async with world(tmp_path, ["alice"], faults=[INNER], fleet=fleet) as w:
        await w.ready("alice")
        inner = (await w.conditions("alice"))["InnerProtected"]
        assert (inner.status, inner.reason) == ("False", "InnerOpen")


def _has_vm(w: Rig) -> bool:
    return bool(w.books()["vms"])
