"""What the command line tells of the fleet itself: what is wrong with it, and who else works on its books."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from pathlib import Path

import httpx
import pytest

from api import logs
from controller.places import Places, opened_store
from controller.records import Condition, PutCondition, Status
from controller.running import Controller
from controller.store import alone
from reconcilers.clock import SystemClock
from tests.api.conftest import Terminal, fill

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"


def test_get_tells_what_is_wrong_with_the_fleet_itself(testerctl: Terminal, tmp_path: Path) -> None:
    async def write() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            told = Condition(
                "", "NothingOrphaned", Status.FALSE, "OrphansFound", "1 bears\na name", 0, store.clock.now()
            )
            await store.write(PutCondition(told))

    asyncio.run(write())
    assert testerctl("get", "--state", tmp_path / "state") == 0
    assert "1 bears a name" in testerctl.err
    assert testerctl.out == "no testers\n"


@pytest.mark.on_a_file
def test_a_second_controller_on_the_same_books_is_refused_and_told_who_has_them(
    testerctl: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "set_up", lambda **_: None)
    with (tmp_path / "controller.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7 on elsewhere\n")
        held.flush()
        assert testerctl("run", "--fleet", EXAMPLES, "--state", tmp_path, "--listen", "127.0.0.1:0") == 1
    assert "Another controller works with" in testerctl.err
    assert "process 7 on elsewhere" in testerctl.err
    assert "Traceback" not in testerctl.err
    assert not (tmp_path / "controller.db").exists(), "it is refused before anything is made or brought up"
    assert testerctl("get", "--state", tmp_path) == 1, "nothing was made"


# ------------------------------------------------------------------ whether anybody keeps what is shown


@pytest.mark.on_a_file
@pytest.mark.parametrize("words", [("get",), ("describe", "alice"), ("wait", "alice", "--for", "Ready")])
def test_it_is_told_when_no_controller_works_on_the_books(
    testerctl: Terminal, tmp_path: Path, words: tuple[str, ...]
) -> None:
    asyncio.run(_filled(tmp_path))
    assert testerctl(*words, "--state", tmp_path) == 0
    assert "No controller works on these books (last sign of one: " in testerctl.err
    assert "No controller" not in testerctl.out

    async def beside() -> None:
        async with alone(Places(tmp_path, tmp_path).url, SystemClock()):
            assert await asyncio.to_thread(testerctl, *words, "--state", tmp_path) == 0

    asyncio.run(beside())
    assert "No controller" not in testerctl.err
    three_hours_ago = SystemClock().now().timestamp() - 3 * 3600
    os.utime(tmp_path / "controller.lock", (three_hours_ago, three_hours_ago))
    assert testerctl(*words, "--state", tmp_path) == 0
    told = r"No controller works on these books \(last sign of one: 3 h( \d+ s)? ago\): what is shown was so then\."
    assert re.search(told, testerctl.err)


def test_programs_are_told_in_a_field(testerctl: Terminal, tmp_path: Path) -> None:
    def asked() -> tuple[object, object]:
        assert testerctl("get", "-o", "json", "--state", tmp_path) == 0
        several = json.loads(testerctl.out)
        assert testerctl("describe", "alice", "-o", "json", "--state", tmp_path) == 0
        assert testerctl.err == ""
        return {one["watched"] for one in several}.pop(), json.loads(testerctl.out)["tester"]["watched"]

    asyncio.run(_filled(tmp_path))
    assert asked() == (False, False)

    async def beside() -> None:
        async with alone(Places(tmp_path, tmp_path).url, SystemClock()):
            assert await asyncio.to_thread(asked) == (True, True)

    asyncio.run(beside())


async def _filled(state: Path) -> None:
    async with opened_store(Places(state, state), SystemClock()) as store:
        await fill(store)


# ------------------------------------------------------------------ removals that are held back

HELD = "5 testers would be removed at once (alice, …)"


def stalled(status: Status) -> PutCondition:
    reason, text = ("TooManyRemovals", HELD) if status is Status.TRUE else ("Moving", "nobody's removal is held back")
    return PutCondition(Condition("", "Stalled", status, reason, text, 0, SystemClock().now()))


@pytest.mark.parametrize(("status", "told"), [(Status.TRUE, True), (Status.FALSE, False)])
def test_get_tells_when_the_fleet_stalls_and_only_then(
    testerctl: Terminal, tmp_path: Path, status: Status, told: bool
) -> None:
    async def write() -> None:
        async with opened_store(Places(tmp_path, tmp_path), SystemClock()) as store:
            await store.write(stalled(status))

    asyncio.run(write())
    assert testerctl("get", "--state", tmp_path) == 0
    assert (f"Stalled, TooManyRemovals: {HELD}" in testerctl.err) is told
    assert "nobody's removal" not in testerctl.err


@pytest.mark.parametrize(("status", "told"), [(Status.TRUE, True), (Status.FALSE, False)])
async def test_the_page_and_the_api_tell_it_too(
    controller: Controller, browser: httpx.AsyncClient, status: Status, told: bool
) -> None:
    await controller.store.write(stalled(status))
    page = (await browser.get("/")).text
    assert ("Too many would be removed at once" in page and HELD in page) is told
    assert "nobody&#39;s removal" not in page
    fleet = (await browser.get("/api/v1/fleet")).json()
    (found,) = [one for one in fleet["conditions"] if one["type"] == "Stalled"]
    assert (found["status"], found["reason"]) == (status, "TooManyRemovals" if told else "Moving")


# ------------------------------------------------------------------ what was typed wrong


def test_a_kind_of_document_that_there_is_not(testerctl: Terminal) -> None:
    assert testerctl("schema", "testr") == 1
    wanted = "There is no kind of document testr; there are tester and fleet. Did you mean `testerctl schema tester`?"
    assert " ".join(testerctl.err.split()) == wanted


def test_logs_of_a_folder_that_there_is_not(testerctl: Terminal, tmp_path: Path) -> None:
    asyncio.run(_filled(tmp_path))
    assert testerctl("logs", "alice", "--fleet", tmp_path / "flet", "--state", tmp_path) == 1
    told = " ".join(testerctl.err.split())
    assert told.startswith("There is no folder")
    assert "flet: --fleet (or TESTERCTL_FLEET) names the folder of specs." in told
