"""Which steps' outcomes hold within a pass: not that of a step that takes another turn, or is about to, because what it
needs has changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.passes.graph import MOST_TURNS, versions_of


@dataclass
class Turns:
    """The turns of one pass. `version` tells how often a step's facts have changed, as it does to the graph."""

    needs: Mapping[str, tuple[str, ...]]
    version: Callable[[str], int]
    _under_way: dict[str, int] = field(default_factory=dict)  # the version of its own facts when its turn began
    _knew: dict[str, tuple[int, ...]] = field(default_factory=dict)  # those of what it needs, when its last turn did
    _due: set[str] = field(default_factory=set)
    _taken: Counter[str] = field(default_factory=Counter)

    def begin(self, name: str) -> None:
        self._due.discard(name)
        self._taken[name] += 1
        self._under_way[name] = self.version(name)
        self._knew[name] = self._needed(name)

    def end(self, name: str) -> None:
        """Who needs it, and began before, takes another turn when it has learnt something, as the graph has it."""
        before = self._under_way.pop(name, None)
        if before is not None and self.version(name) != before:
            self._due |= {other for other, needs in self.needs.items() if name in needs and not self.is_current(other)}

    def is_awaited(self, name: str) -> bool:
        """Whether a turn of it is under way, or another one is about to begin."""
        return name in self._under_way or (name in self._due and self._taken[name] < MOST_TURNS)

    def is_current(self, name: str) -> bool:
        """Whether what it needs is as it was when its last turn began."""
        return self._knew.get(name) == self._needed(name)

    def _needed(self, name: str) -> tuple[int, ...]:
        return versions_of(self.needs[name], self.version)
