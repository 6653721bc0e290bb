"""Edits of the folder: each can be told in a line, does what it says, and removes nobody who is not taken out."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.worlds.edits import FLEET, SPOILING, Desk, Edit, drawn
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

NAMES = ("alice", "carol", "dave")
LEAN: dict[str, Any] = {
    "componentSets": {"demo": ["hero_books"]},
    "engines": [],
    "safety": {"maxRemovals": len(NAMES)},
    "timing": {"poll": "30s", "resync": "30m", "outsideProofEvery": "4h", "releasesEvery": "4h"},
}


def test_a_schedule_of_edits_is_read_back_from_its_lines() -> None:
    for seed in range(50):
        edits = drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
        assert edits == tuple(Edit.of_line(edit.line()) for edit in edits)
        assert list(edits) == sorted(edits, key=lambda edit: edit.at)
        assert edits == drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
    kinds = {
        edit.kind for seed in range(50) for edit in drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
    }
    assert {"add", "remove", "put_back", "pause", "resume", "break", "mend", "expire", "extend", "fleet"} <= kinds
    assert {"break_fleet", "mend_fleet", "vanish", "reappear"} <= kinds


@in_virtual_time
async def test_nobody_is_removed_by_an_empty_folder_or_by_more_going_at_once_than_may(tmp_path: Path) -> None:
    names = ["alice", "carol"]
    async with world(tmp_path, names, fleet={**LEAN, "safety": {"maxRemovals": 1}}) as w:
        desk = Desk(w, {name: {} for name in names})
        await w.until(w._all_taken_in, "the first reading")
        before = {file.name: file.read_bytes() for file in w.places.folder.glob("*.yaml")}
        for kind, spec in (("vanish", {}), ("vanish", {"but": FLEET}), ("break_fleet", {"how": "half"})):
            desk.do(Edit(timedelta(0), kind, "", spec))
            await w.run_for(timedelta(minutes=2))
            assert [(row.name, row.leaving) for row in await w.store.testers()] == [("alice", False), ("carol", False)]
            desk.mend_all()
            assert {file.name: file.read_bytes() for file in w.places.folder.glob("*.yaml")} == before
            await w.until(w._all_taken_in, "what it was")
        desk.do(Edit(timedelta(0), "vanish", "", {"but": FLEET}))
        desk.do(Edit(timedelta(0), "edit", "alice", {"allowlist": ["bob"]}))
        desk.do(Edit(timedelta(0), "remove", "carol"))
        desk.mend_all()
        assert sorted(file.name for file in w.places.folder.glob("*.yaml")) == ["alice.yaml", FLEET]
        assert "bob" in (w.places.folder / "alice.yaml").read_text()


@pytest.mark.parametrize("how", sorted(SPOILING))
def test_every_way_to_break_a_file_breaks_it(tmp_path: Path, how: str) -> None:
    @in_virtual_time
    async def broken() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            desk = Desk(w, {"alice": {}})
            await w.until(w._all_taken_in, "the first reading")
            desk.do(Edit(timedelta(0), "break", "alice", {"how": how}))
            await w.until(w._all_taken_in, "the broken reading")
            (row,) = await w.store.testers()
            source = await w.store.source()
            assert source is not None
            assert source.errors
            assert (row.source_error != "", row.leaving) == (True, False)
            desk.mend_all()
            await w.until(w._all_taken_in, "the mended one")
            (row,) = await w.store.testers()
            assert (row.source_error, row.leaving) == ("", False)

    broken()


def now(desk: Desk, kind: str, tester: str = "", **spec: Any) -> None:
    desk.do(Edit(timedelta(0), kind, tester, spec))


def files(w: Rig) -> list[str]:
    return sorted(file.name for file in w.places.folder.glob("*.yaml"))


@in_virtual_time
async def test_a_file_with_another_name_or_a_copy_of_it_removes_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        desk = Desk(w, {"alice": {}})
        await w.until(w._all_taken_in, "the first reading")
        now(desk, "move", "alice", to="z-alice.yaml")
        await w.until(w._all_taken_in, "it has moved")
        (row,) = await w.store.testers()
        assert (row.source_file, row.generation, row.leaving) == ("z-alice.yaml", 1, False)
        now(desk, "copy", "alice")
        await w.until(w._all_taken_in, "two of them")
        (row,) = await w.store.testers()
        assert "there is a second tester alice" in row.source_error
        assert files(w) == ["alice-copy.yaml", FLEET, "z-alice.yaml"]
        now(desk, "mend", "alice")
        await w.until(w._all_taken_in, "one of them")
        (row,) = await w.store.testers()
        assert (row.source_error, row.leaving) == ("", False)
        now(desk, "copy", "alice")
        now(desk, "remove", "alice")
        assert files(w) == [FLEET]
        now(desk, "put_back", "alice")
        assert files(w) == ["alice.yaml", FLEET]


@in_virtual_time
async def test_an_engine_leaves_when_it_was_retired_or_is_torn_out_of_a_fleet_that_is_broken_then(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet={key: LEAN[key] for key in LEAN if key != "engines"}) as w:
        desk = Desk(w, {"alice": {}})

        def engines() -> dict[str, bool]:
            spec = yaml.safe_load((w.places.folder / FLEET).read_text())["spec"]
            return {each["name"]: each.get("retired", False) for each in spec["engines"]}

        now(desk, "engine", name="voice", does="leave")
        assert engines() == {"embedder": False, "voice": False}
        now(desk, "engine", name="voice", does="retire")
        assert engines() == {"embedder": False, "voice": True}
        now(desk, "engine", name="voice", does="leave")
        assert engines() == {"embedder": False}
        now(desk, "engine", name="voice", does="come")
        assert engines() == {"embedder": False, "voice": False}
        now(desk, "engine", name="embedder", does="tear")
        assert engines() == {"voice": False}
        desk.mend_all()
        assert engines() == {"embedder": False, "voice": False}
