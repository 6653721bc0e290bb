"""The turns of one pass: who is to take one, and whose outcome holds. Not that of a step that takes another turn, or is about to,
because what it needs has changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MOST_TURNS = (
    4  # of one step in one pass; more means that two steps undo each other, and the next pass comes soon enough
)


@dataclass
class Turns:
    """`version` tells how often a step's facts have changed."""

    needs: Mapping[str, tuple[str, ...]]
    version: Callable[[str], int]
    _under_way: dict[str, int] = field(default_factory=dict)  # the version of its own facts when its turn began
    _knew: dict[str, tuple[int, ...]] = field(default_factory=dict)  # those of what it needs, when its last turn did
    _due: set[str] = field(init=False)
    _taken: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._due = set(self.needs)

    @property
    def never_taken(self) -> frozenset[str]:
        return frozenset(name for name in self.needs if not self._taken[name])

    def begin(self, name: str) -> None:
        self._due.discard(name)
        self._taken[name] += 1
        self._under_way[name] = self.version(name)
        self._knew[name] = self._needed(name)

    def end(self, name: str) -> None:
        """Who needs it, and began before, takes another turn when it has learnt something. Nothing when it has ended already."""
        before = self._under_way.pop(name, None)
        if before is not None and self.version(name) != before:
            self._due |= {other for other, needs in self.needs.items() if name in needs and not self.is_current(other)}

    def is_due(self, name: str) -> bool:
        """Whether it is to take a turn, its first or another one, and may."""
        return name in self._due and self._taken[name] < MOST_TURNS

    def is_awaited(self, name: str) -> bool:
        """Whether a turn of it is under way, or another one is about to begin."""
        return name in self._under_way or (self._taken[name] > 0 and self.is_due(name))

    def is_current(self, name: str) -> bool:
        """Whether what it needs is as it was when its last turn began."""
        return self._knew.get(name) == self._needed(name)

    def _needed(self, name: str) -> tuple[int, ...]:
        return tuple([self.version(need) for need in self.needs[name]])
