"""What the command line tells of the fleet itself: what is wrong with it, and who else works on its books."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from api import logs
from controller.records import Condition, PutCondition, Status
from controller.running import Places, opened_store
from reconcilers.clock import SystemClock
from tests.api.conftest import Terminal

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
