"""What a pass knows of its tester: the books as read at its start, kept true as the pass itself writes to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from controller.passes.proofs import Proofs
from controller.records import (
    Change,
    ClaimForge,
    Condition,
    DropFacts,
    PutFacts,
    PutObject,
    Seal,
    TesterBooks,
    TesterRecord,
    Unseal,
    Void,
)
from controller.store import Store
from reconcilers.contract import TesterView
from reconcilers.facts import FACTS, Facts, MachineFacts, ObjectState, OutsideObject, StepFacts
from reconcilers.secret import Secret
from specs.fleet import Fleet

CLOSED = frozenset({ObjectState.GONE})


class Snapshot:
    """`commit` writes to the store and to this copy alike, so that later steps of the pass see what earlier ones learnt."""

    def __init__(
        self,
        books: TesterBooks,
        fleet: Fleet,
        references: Mapping[str, Secret],
        store: Store,
        proofs: Proofs | None = None,
    ) -> None:
        self.record: TesterRecord = books.record
        self.conditions: Mapping[str, Condition] = books.conditions
        self._fleet = fleet
        self._store = store
        self._proofs = proofs
        self._facts: dict[str, StepFacts] = dict(books.facts if proofs is None else proofs.over(books))
        self._objects: dict[tuple[str, int, int], OutsideObject] = {_row_key(row): row for row in books.objects}
        self._secrets: dict[str, Secret] = {**references, **books.sealed}
        self._versions: Counter[str] = Counter()
        self.news = asyncio.Event()  # some step has learnt something
        self.forge_owner = books.forge_owner
        self._memory: dict[str, Any] = {}
        self._told: list[tuple[OutsideObject | None, Facts]] = []  # since something changed, by row
        self.has_changed = False  # something was written, or supposed

    @property
    def name(self) -> str:
        return self.record.name

    def version(self, step: str) -> int:
        """How often the facts or secrets of a step have changed in this pass."""
        return self._versions[step]

    def facts(self, row: OutsideObject | None = None) -> Facts:
        """An immutable copy, for a plan about the given row: the same one for all who ask before something changes."""
        known = next((facts for about, facts in self._told if about is row), None)
        if known is None:
            known = self._facts_now(row)
            self._told.append((row, known))
        return known

    def _facts_now(self, row: OutsideObject | None) -> Facts:
        return Facts(
            tester=self.name,
            uid=self.record.uid,
            fleet=self._fleet,
            steps=dict(self._facts),
            object=row,
            secrets=dict(self._secrets),
            leaving=self.record.leaving,
            forge_owner=self.forge_owner,
            earlier=() if row is None else self._before(row),
            memory=self._memory,
        )

    def view(self, row: OutsideObject | None = None) -> TesterView:
        return TesterView(self.record.desired, self.facts(row))

    def has_facts(self, step: str) -> bool:
        """Whether a step has recorded what others need of it; steps that never record anything lack nothing."""
        return step in self._facts or step not in FACTS

    def rows(self, step: str) -> list[OutsideObject]:
        """The rows of a step that are not closed, oldest first."""
        mine = [row for row in self._objects.values() if row.step == step and row.state not in CLOSED]
        return sorted(mine, key=lambda row: (row.incarnation, row.attempt))

    def open_rows(self) -> list[OutsideObject]:
        """Of all steps."""
        return [row for row in self._objects.values() if row.state not in CLOSED]

    def known(self) -> list[StepFacts]:
        """The facts of all steps."""
        return list(self._facts.values())

    def row(self, step: str, incarnation: int, attempt: int) -> OutsideObject | None:
        return self._objects.get((step, incarnation, attempt))

    def last_row(self, step: str) -> OutsideObject | None:
        """The newest row of a step, closed ones included: the next one counts on from it."""
        mine = [row for row in self._objects.values() if row.step == step]
        return max(mine, key=lambda row: (row.incarnation, row.attempt), default=None)

    def _before(self, row: OutsideObject) -> tuple[OutsideObject, ...]:
        older = [key for key in self._objects if key[0] == row.step and key < _row_key(row)]
        return tuple(self._objects[key] for key in sorted(older))

    async def claim_forge(self, step: str, owner: str) -> str:
        """Write down that the fleet's things at Forge are this account's, unless another one came first; whose they are."""
        if not self.forge_owner:
            await self.commit(step, ClaimForge(owner, self._store.clock.now()))
            self.forge_owner = await self._store.forge_owner()
            self._told.clear()
        return self.forge_owner

    async def learn(self, step: str, facts: StepFacts | None, *, at_least: tuple[Change, ...] = ()) -> None:
        """Record facts if they differ from those recorded, together with other changes, in one commit."""
        changes = list(at_least)
        before = self._facts.get(step)
        if facts is not None and before != facts:
            change = self.fact_change(facts)
            if self._proofs is not None and not changes and before is not None and before.is_as(facts):
                self._proofs.keep(change, before)  # only its hours are others: that is no news
                self._facts[step] = facts
                self._told.clear()
            else:
                changes.append(change)
        await self.commit(step, *changes)

    def fact_change(self, facts: StepFacts) -> PutFacts:
        """The change that records facts, bound to the machine that they speak of."""
        machine = self._facts.get(MachineFacts.step)
        key = machine.key if facts.on_machine and isinstance(machine, MachineFacts) else ""
        return PutFacts(self.name, facts, key, self._store.clock.now())

    async def commit(self, step: str, *changes: Change) -> None:
        """Write changes that a step's turn made. Durable when it returns; nothing is written when there is nothing."""
        if not changes:
            return
        await self._store.write(*changes)
        for change in changes:
            self._take(step, change)

    def suppose(self, step: str, *changes: Change) -> None:
        """As if changes were written: for a preview, which writes nothing."""
        for change in changes:
            self._take(step, change)

    def _take(self, step: str, change: Change) -> None:
        self.has_changed = True
        self._told.clear()
        match change:
            case PutObject(row):
                self._objects[_row_key(row)] = row
            case PutFacts(facts=facts):
                self._forget_if_moved(facts)
                self._facts[facts.step] = facts
                self._versions[facts.step] += 1
                self.news.set()
            case DropFacts(step=dropped):
                self._forget(dropped)
            case Seal(name, value):
                self._secrets[name] = value
                self._versions[step] += 1
            case Void(name) | Unseal(name):
                self._secrets.pop(name, None)
            case _:
                pass

    def _forget_if_moved(self, facts: StepFacts) -> None:
        old = self._facts.get(MachineFacts.step)
        if isinstance(facts, MachineFacts) and isinstance(old, MachineFacts) and old.key != facts.key:
            self._forget(MachineFacts.step)

    def _forget(self, step: str) -> None:
        """With a machine, what was known about things on it is forgotten too (the store reads it so as well)."""
        self._facts.pop(step, None)
        if step == MachineFacts.step:
            for name in [name for name, kept in self._facts.items() if kept.on_machine]:
                del self._facts[name]


def _row_key(row: OutsideObject) -> tuple[str, int, int]:
    return row.step, row.incarnation, row.attempt
