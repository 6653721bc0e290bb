"""The testers as lists show them, kept at hand: a list of a thousand is asked for again and again, and few have changed.

What a commit was about is read anew with the next question, and nothing else. So it holds only where every write to the
books is heard of: in the controller that works on them, and in replicas, which tell each other. Whoever reads the books of
another reads them whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from controller.news import Kind, Topic, topics_of
from controller.records import Change
from controller.store import Store
from controller.store.briefs import Brief
from reconcilers.facts import (
    ComponentsFacts,
    FrontDoorFacts,
    GatewayFacts,
    InstallLogsFacts,
    MachineFacts,
    SupervisorFacts,
)

STEPS = tuple(
    kind.step
    for kind in (MachineFacts, GatewayFacts, SupervisorFacts, FrontDoorFacts, ComponentsFacts, InstallLogsFacts)
)
"""Whose facts lists show."""


class Shelf:
    """Of one store. Raises StoreError as the store does; what was to be read anew is still to be then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, Brief] = {}
        self._stale: set[str] = set()
        self._filled = False
        self._reading = asyncio.Lock()

    def hear(self, changes: tuple[Change, ...]) -> None:
        """Something was committed (a listener of the store)."""
        self.hear_of(topics_of(changes))

    def hear_of(self, topics: Iterable[Topic]) -> None:
        """Something was committed, here or by another replica."""
        self._stale |= {topic.name for topic in topics if topic.kind is Kind.TESTER}

    def forget(self) -> None:
        """Nobody knows what was missed: all are read anew."""
        self._filled = False

    async def testers(self) -> Mapping[str, Brief]:
        """All of them, by name, as of now."""
        async with self._reading:
            if self._stale or not self._filled:
                await self._read()
            return self._kept

    async def _read(self) -> None:
        stale, self._stale = self._stale, set()
        filled, self._filled = self._filled, True  # it may all be forgotten while it is read
        try:
            found = await self._store.briefs(STEPS, stale if filled else None)
        except BaseException:
            self._stale |= stale
            self._filled = filled and self._filled
            raise
        kept = {name: brief for name, brief in self._kept.items() if name not in stale} if filled else {}
        self._kept = dict(sorted({**kept, **found}.items()))


def shelf_of(store: Store) -> Shelf:
    """The shelf of a store that only this process writes: one for all who ask."""
    for listener in store.listeners:
        of = getattr(listener, "__self__", None)
        if isinstance(of, Shelf):
            return of
    made = Shelf(store)
    store.listeners.append(made.hear)
    return made
