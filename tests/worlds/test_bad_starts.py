"""A controller that is started while somebody else holds its store, or the disk is full: all is well when that has passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.worlds.living import live
from tests.worlds.mishaps import Mishap
from tests.worlds.story import Kill, Story

SPAN = timedelta(hours=1)
SAID = {"store_locked": "held by another process", "store_full": "the disk is full"}


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.on_a_file
@pytest.mark.parametrize("begins", [1, 100], ids=["at_the_first_start", "in_the_middle"])
@pytest.mark.parametrize("kind", SAID)
def test_who_is_started_meanwhile_goes_on(
    tmp_path: Path, kind: str, begins: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times while it lasts, and once more some time after."""
    mishap = Mishap(seconds(begins), seconds(begins + 300), kind)
    starts = (Kill(seconds(begins + after), graceful=after == 60, down=seconds(5)) for after in (10, 60, 200, 400))
    outcome = live(tmp_path, Story(1, 1, SPAN, 0, Story.drawn(1, 1, SPAN).fleet, (mishap, *starts)))
    assert outcome.failure is None, f"{outcome.failure.kind}: {outcome.failure.text}"
    assert outcome.standing == ()
    assert outcome.lives == 5  # nobody ended over its store
    assert kind in outcome.bit
    assert SAID[kind] in caplog.text
