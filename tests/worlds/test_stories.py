"""Seeded worlds: some here with every run, as many as anybody likes by `make worlds`."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconcilers.account import AccountReconciler
from reconcilers.errors import Blocked
from tests.worlds import living
from tests.worlds.__main__ import main
from tests.worlds.edits import Edit, is_only_told
from tests.worlds.living import Outcome, live
from tests.worlds.mishaps import Mishap
from tests.worlds.standing import explained
from tests.worlds.story import Event, Kill, Story, line_of

SPAN = timedelta(hours=3)
SEEDS = (1, 2, 3, 4)


def told(outcome: Outcome) -> str:
    """What there is to say of a world that is not well."""
    failure = outcome.failure
    return f"{failure.kind}: {failure.text}\n{outcome.story.text()}" if failure is not None else ""


@pytest.mark.parametrize("seed", SEEDS)
def test_after_all_that_befell_it_a_world_is_well_and_quiet(tmp_path: Path, seed: int) -> None:
    outcome = live(tmp_path, Story.drawn(seed, 1, SPAN))
    assert outcome.failure is None, told(outcome)
    assert "it is quiet" in outcome.trace


@pytest.mark.on_a_file  # as the other process, to which nobody gives a server, has one
def test_the_same_story_gives_the_same_world_byte_for_byte(tmp_path: Path) -> None:
    """In another process, where sets have another order and everything lies elsewhere in memory."""
    outcome = live(tmp_path / "one", Story.drawn(5, 1, SPAN))
    again = subprocess.run(
        [sys.executable, "-c", OTHERWISE, str(tmp_path / "two"), outcome.story.text()],
        env={**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=True,
    ).stdout
    assert len(outcome.trace.splitlines()) > 150
    assert f"{outcome.failure} {outcome.standing} {outcome.simulated}\n{outcome.trace}".encode() == again


OTHERWISE = """
import sys
from pathlib import Path
from tests.worlds.edits import Edit, is_only_told
from tests.worlds.living import live
from tests.worlds.story import Story
told = live(Path(sys.argv[1]), Story.of_text(sys.argv[2]))
sys.stdout.buffer.write(f"{told.failure} {told.standing} {told.simulated}\\n{told.trace}".encode())
"""


def test_a_story_is_read_back_from_its_text() -> None:
    for seed in range(40):
        story = Story.drawn(seed, 10, timedelta(days=1), density=2)
        assert Story.of_text(f"# a word\n{story.text()}\n") == story
        assert [event.at for event in story.events] == sorted(event.at for event in story.events)
        assert story == Story.drawn(seed, 10, timedelta(days=1), density=2)


def story_of(*events: Event, **fleet: Any) -> Story:
    return Story(1, 1, timedelta(hours=1), 0, {**Story.drawn(1, 1, SPAN).fleet, "engines": [], **fleet}, events)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def moments(outcome: Outcome, *words: str) -> list[float]:
    """When the first line with each of these words stands in the trace."""
    lines = outcome.trace.splitlines()
    return [float(next(line for line in lines if word in line).split()[0]) for word in words]


def test_what_happens_while_the_controller_is_down_happens_then_and_a_second_kill_makes_it_longer(
    tmp_path: Path,
) -> None:
    kills = Kill(minutes(20), minutes(30)), Kill(minutes(40), minutes(20), graceful=True)
    outcome = live(tmp_path, story_of(*kills))
    assert (outcome.failure, outcome.lives) == (None, 2)
    assert moments(outcome, line_of(kills[0]), line_of(kills[1])) == [1200, 2400]
    calls = [float(line.split()[0]) for line in outcome.trace.splitlines() if " call " in line]
    assert not [moment for moment in calls if 1300 < moment < 3600]
    assert [moment for moment in calls if moment > 3600]


def test_who_stands_still_for_a_reason_and_a_person_is_told_and_is_no_failure(tmp_path: Path) -> None:
    """Nobody has that account, so it cannot be adopted."""
    asked = Edit(minutes(20), "edit", "alice", {"identity": {"account": "nobody", "existing": True}})
    outcome = live(tmp_path, story_of(asked))
    assert outcome.failure is None, told(outcome)
    assert outcome.standing == ("alice: AccountMissing (an admin)",)


def test_only_what_happened_to_a_tester_explains_why_it_stands_still() -> None:
    renamed, stranger = (
        Mishap(minutes(1), minutes(9), kind, "alice") for kind in ("user_renamed", "account_of_a_stranger")
    )
    assert explained("alice", [renamed]) == explained("carol", [renamed, stranger]) == frozenset()
    assert explained("alice", [renamed, stranger]) == {"AccountRenamed", "EmailTaken"}


def test_an_excuse_that_nothing_explains_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that makes nobody anything, and says that an admin must act."""

    async def sulks(*_: object) -> None:
        raise Blocked("I do not feel like it", system="Forge", reason="Lazy")

    monkeypatch.setattr(AccountReconciler, "observe", sulks)
    failure = live(tmp_path, story_of()).failure
    assert failure is not None
    assert (failure.kind, "alice is not Ready" in failure.text) == ("liveness", True)


def test_there_are_daemons_enough_for_everybody_and_sometimes_one_more() -> None:
    assert {Story.drawn(seed, 2, SPAN).daemons for seed in range(20)} == {1, 2}
    assert {Story.drawn(seed, 200, minutes(1)).daemons for seed in range(20)} == {11, 12}
    assert Story.of_text("seed 1\ntesters 1\nspan 60\nhour 0\nfleet {}\n").daemons == 1  # of before


def test_what_never_befell_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = Mishap(minutes(30), minutes(32), "account_of_a_stranger", "alice")
    story_drawn = story_of(missed, Mishap(minutes(31), minutes(32), "clock_jumps"))
    monkeypatch.setattr(Story, "drawn", lambda *_, **__: story_drawn)
    assert main(["--worlds", "1", "--processes", "1", "--place", str(tmp_path)]) == 0
    assert "never befell anybody: account_of_a_stranger (of 1)\n" in capsys.readouterr().out


def test_a_world_that_fails_is_shortened_kept_and_can_be_lived_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    story_drawn = story_of(Kill(minutes(1), minutes(1)), Mishap(minutes(2), minutes(3), "http_502"))
    monkeypatch.setattr(Story, "drawn", lambda *_, **__: story_drawn)
    monkeypatch.setattr(living, "BOUND", timedelta(0))
    asked = ["--worlds", "1", "--processes", "1", "--place", str(tmp_path)]
    assert main([*asked, "--tries", "6"]) == 1
    printed = capsys.readouterr().out
    assert "1 FAILED, liveness" in printed
    assert "0 of its 2 events are enough" in printed
    story, trace = tmp_path / "1.story", tmp_path / "1.trace"
    assert f"make worlds REPLAY={story}" in printed
    kept = trace.read_text()
    assert "alice is not Ready" in story.read_text()
    assert main([*asked, "--replay", str(story)]) == 1
    assert trace.read_text() == kept


def test_who_only_wants_to_be_told_of_releases_has_none_broken_in_her_story() -> None:
    stories = [Story.drawn(seed, 2, timedelta(hours=3)) for seed in range(400)]
    told = [each for each in stories if is_only_told([one for one in each.events if isinstance(one, Edit)])]
    broken = [each for each in stories if "release_broken" in each.text()]
    assert told
    assert broken
    assert not {each.seed for each in told} & {each.seed for each in broken}
