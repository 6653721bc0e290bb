"""What commands say over books that cannot be used, and that they leave them as they are."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from controller.places import Places, opened_store
from controller.store import sqlite
from reconcilers.clock import SystemClock
from tests.api.conftest import Terminal, fill

pytestmark = pytest.mark.on_a_file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with filled books."""

    async def make() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await fill(store)

    asyncio.run(make())
    return tmp_path / "state"


@pytest.mark.parametrize("command", [["get"], ["describe", "alice"], ["wait", "alice"], ["keys", "rotate"], ["run"]])
def test_emptied_books_are_not_taken_for_new_ones(testerctl: Terminal, state: Path, command: list[str]) -> None:
    """Everybody would be made a second time."""
    (state / "controller.db").write_bytes(b"")
    (state / "specs").mkdir()
    fleet = ["--fleet", state / "specs", "--listen", "127.0.0.1:0"] if command == ["run"] else []
    assert testerctl(*command, "--state", state, *fleet) == 1
    assert "is empty (0 bytes)" in said(testerctl)
    assert (state / "controller.db").read_bytes() == b""


def test_books_whose_disk_is_not_there_are_told(testerctl: Terminal, state: Path) -> None:
    (state / "controller.db").rename(state / "elsewhere.db")
    (state / "controller.db").symlink_to(state / "unmounted" / "controller.db")
    assert testerctl("get", "--state", state) == 1
    assert "which is not there. Is its disk mounted?" in said(testerctl)


def test_keys_that_are_not_changed_now_are_changed_by_the_next_call(
    testerctl: Terminal, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    assert testerctl("token", "make", "prometheus", "--state", state) == 0
    with closing(sqlite3.connect(state / "controller.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert testerctl("get", "--state", state) == 0
        assert testerctl("keys", "rotate", "--state", state) == 1
        assert "held by another process" in said(testerctl)
        assert "Nothing is lost: the key file has a fresh key beside the old ones" in said(testerctl)
        other.execute("COMMIT")
    assert testerctl("keys", "rotate", "--state", state) == 0
    assert len((state / "sealing.key").read_text().splitlines()) == 1


def said(testerctl: Terminal) -> str:
    return " ".join(testerctl.err.split())
