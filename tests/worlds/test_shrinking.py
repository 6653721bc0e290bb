"""A failing schedule becomes as short as it goes, in few tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.worlds.shrinking import shrunk


class Tries:
    """Fails when all of `needed` are there."""

    def __init__(self, *needed: int) -> None:
        self.needed = needed
        self.count = 0

    def __call__(self, events: Sequence[int]) -> bool:
        self.count += 1
        return set(self.needed) <= set(events)


@pytest.mark.parametrize("needed", [(), (0,), (99,), (3, 17), (0, 50, 99)])
def test_what_is_needed_is_left_and_nothing_else(needed: tuple[int, ...]) -> None:
    assert shrunk(range(100), Tries(*needed), most=1000) == needed


def test_the_end_is_cut_off_by_bisection() -> None:
    tries = Tries(3)
    assert shrunk(range(1024), tries, most=16) == (3,)
    assert tries.count <= 16


def test_when_there_were_enough_tries_what_is_left_still_fails() -> None:
    for most in range(30):
        tries = Tries(2, 40)
        assert {2, 40} <= set(shrunk(range(100), tries, most))
        assert tries.count <= most


def test_a_schedule_that_is_well_again_when_it_is_longer_is_shortened_all_the_same() -> None:
    fails: Callable[[Sequence[int]], bool] = lambda events: (5 in events and 6 not in events) or 9 in events  # noqa: E731
    assert fails(left := shrunk(range(10), fails))
    assert len(left) == 1
