"""A schedule that fails is made shorter, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 60
"""Tries: each is a world."""


def shrunk(events: Sequence[T], fails: Callable[[Sequence[T]], bool], most: int = MOST) -> tuple[T, ...]:
    """The shortest beginning of `events`, of which all together fail, that still does, found by bisection; then without
    each single one that it does not take. Tries `fails` no more than `most` times.
    """
    tries = _Tries(fails, most)
    long = _beginning(events, tries)
    return _without_each(events[:long], tries)


class _Tries(Generic[T]):
    def __init__(self, fails: Callable[[Sequence[T]], bool], left: int) -> None:
        self._fails = fails
        self.left = left

    def fail(self, events: Sequence[T]) -> bool:
        """Nothing more is tried when there have been enough: then it does not fail."""
        self.left -= 1
        return self.left >= 0 and self._fails(events)


def _beginning(events: Sequence[T], tries: _Tries[T]) -> int:
    """How long it is. Where a longer beginning may be well again although a shorter one fails, it is one that fails."""
    well, failing = -1, len(events)
    while failing - well > 1:
        middle = (well + failing) // 2
        if tries.fail(events[:middle]):
            failing = middle
        else:
            well = middle
    return failing


def _without_each(events: Sequence[T], tries: _Tries[T]) -> tuple[T, ...]:
    """The last ones first: the earlier ones are more often what the later ones need."""
    left = list(events)
    for place in reversed(range(len(left))):
        fewer = [*left[:place], *left[place + 1 :]]
        if tries.fail(fewer):
            left = fewer
    return tuple(left)
