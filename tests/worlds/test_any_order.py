"""Specs edited in any order: some stories here with each run, more by `make long`; `make edits` for any others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from controller.records import Outcome
from specs.loading import Loaded, load_folder
from tests.worlds import any_order, living
from tests.worlds.any_order import FIELDS, Fallen, Specs, lived, tell
from tests.worlds.edits import FLEET
from tests.worlds.living import live
from tests.worlds.loop import START
from tests.worlds.story import Story


@pytest.mark.parametrize("number", range(1, 7))
def test_in_whatever_order_specs_are_edited_all_is_well_in_the_end(number: int) -> None:
    told = tell(number)
    assert not told, told


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(7, 19))
def test_in_more_orders(number: int) -> None:
    told = tell(number)
    assert not told, told


@pytest.fixture
def by_hand() -> Iterator[Specs]:
    """A machine whose rules a test follows itself."""
    machine = Specs()
    machine.a_world_begins(hour=9, engines=False)
    yield machine
    if machine.living is not None:
        machine.living.happened.clear()  # how it ends is not asked
    machine.teardown()


def test_a_violation_fells_the_next_rule_and_its_story_falls_alike(
    by_hand: Specs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the brake on removals."""
    monkeypatch.setattr(Loaded, "safety", None)
    by_hand.do(60.0, "add", "carol")
    by_hand.do(5.0, "vanish", "", {"but": FLEET})
    with pytest.raises(Fallen, match="RemovedThoughWanted: 2 of 2 are removed at once") as fallen:
        by_hand.do(60.0, "reappear", "")
    outcome = live(tmp_path, Story.of_text(fallen.value.story.text()))
    assert outcome.failure is not None
    assert outcome.failure.kind == "violation: RemovedThoughWanted"


def test_what_falls_is_the_same_each_time_and_is_kept_to_be_lived_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(any_order, "STEPS", 4)
    monkeypatch.setattr(living, "BOUND", timedelta(0))
    told = tell(1, tmp_path, tries=0)
    story = tmp_path / "edits-1.story"
    assert "edits-1 FAILED, liveness" in told
    assert f"again: make worlds REPLAY={story}" in told
    assert "make edits N=1 SEED=1" in told
    again = lived(1)
    assert again is not None
    assert story.read_text().startswith(again.story.text())


def test_every_wish_is_one_that_may_be_written_whatever_was_wished_before(by_hand: Specs) -> None:
    folder, day = by_hand.stage.rig.places.folder, (START + timedelta(hours=9)).date()
    for wish in (*FIELDS, *reversed(FIELDS)):
        by_hand.desk.do(by_hand.edit_of("alice", wish))
        assert load_folder(folder, day, frozenset({"alice"})).errors == (), wish


def test_an_edit_can_be_done_while_the_daemon_is_asked_for_a_machine(by_hand: Specs) -> None:
    def begun() -> list[str]:
        journal = by_hand.loop.run_until_complete(by_hand.stage.rig.store.journal(limit=99))
        return [each.verb for each in journal if each.step == "machine" and each.outcome is Outcome.BEGUN]

    while not begun():
        by_hand.do(1, "edit", "alice", {"allowlist": ["bob"]})
    assert by_hand.now < timedelta(seconds=5)
    assert begun() == ["create"]
