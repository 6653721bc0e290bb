"""When things were last seen to be as the books tell, until that is worth a write (law 8: settled means quiet).

A door that is proven anew each half hour is no news, only its hour is. So the hour is kept here, over the facts as they stand in
the books, and written down for many testers at once, now and then and at the end; a kill -9 loses minutes of it, and some
doors are looked at a little early. Facts that were written meanwhile, by anybody, are left as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.fresh import FreshenFacts
from controller.records import Change, DropFacts, DropTester, PutFacts, TesterBooks
from controller.store import Store, StoreError
from reconcilers.facts import StepFacts

log = logging.getLogger("controller")

KEPT = timedelta(minutes=5)
AT_ONCE = 1000  # in one write


@dataclass(frozen=True, slots=True)
class _Fresh:
    base: StepFacts  # as the books have them
    machine: str
    facts: StepFacts
    at: datetime


class Proofs:
    """By tester and step."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[str, str], _Fresh] = {}
        self._since: datetime | None = None  # when the first of those was kept that are not written yet
        store.listeners.append(self._heard)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, change: PutFacts, before: StepFacts) -> None:
        """What a step learnt differs from what was known before only in its hours."""
        key = change.tester, change.facts.step
        known = self._kept.get(key)
        base = known.base if known is not None and known.facts == before else before
        self._kept[key] = _Fresh(base, change.machine, change.facts, change.at)
        self._since = self._since or change.at

    def over(self, books: TesterBooks) -> Mapping[str, StepFacts]:
        """The facts of a tester, as late as they are known."""
        found = dict(books.facts)
        for step, kept in books.facts.items():
            fresh = self._kept.get((books.record.name, step))
            if fresh is not None and fresh.base == kept:
                found[step] = fresh.facts
        return found

    def are_due(self, now: datetime) -> bool:
        return self._since is not None and not timedelta(0) <= now - self._since < KEPT

    async def flush(self, beside: Sequence[Change] = ()) -> bool:
        """Write down what is kept, and something else that is worth no write of its own. Whether `beside` is written; proofs
        that cannot be are kept on."""
        self._since = None
        kept = list(self._kept.items())
        for start in range(0, max(len(kept), 1), AT_ONCE):
            some, others = kept[start : start + AT_ONCE], () if start else beside
            changes = [FreshenFacts(tester, one.base, one.facts, one.machine, one.at) for (tester, _), one in some]
            try:
                await self._store.write(*others, *changes)
            except BaseException as error:
                self._since = self._store.clock.now() if some else None  # not again with every look
                if not isinstance(error, StoreError):
                    raise
                log.warning("proofs are not written down yet: %s", error)
                return start > 0
            for key, one in some:
                newer = self._kept.get(key)
                if newer is one:
                    del self._kept[key]
                elif newer is not None and newer.base is one.base:  # seen once more while this was written
                    self._kept[key] = replace(newer, base=one.facts)
        return True

    def _heard(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            match change:
                case PutFacts(tester=tester, facts=facts):
                    self._kept.pop((tester, facts.step), None)
                case DropFacts(tester=tester, step=step):
                    self._kept.pop((tester, step), None)
                case DropTester(tester=tester):
                    for key in [key for key in self._kept if key[0] == tester]:
                        del self._kept[key]
                case _:
                    pass
