"""What the controller's books say, kept from its commits: what a watch compares the world with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from controller.passes.rows import KEPT
from controller.records import (
    Change,
    Condition,
    DropCondition,
    DropFacts,
    DropTester,
    FreshenFacts,
    PutCondition,
    PutFacts,
    PutFleet,
    PutObject,
    PutTester,
    SetStatus,
    Status,
    TesterRecord,
)
from reconcilers.facts import FACTS, ObjectState, OutsideObject, StepFacts
from specs.fleet import Fleet
from specs.names import bearer_of, is_borne_by

RowKey = tuple[str, str, int, int]
SAID = {"machine": "machine", "gateway": "gateway", "sign_in_app": "OAuth app", "engine_access": "tenant"}
"""Step → what orphans of it are called when they are told."""


@dataclass
class Books:
    """The rows as the last commit left them. `version` counts what may change whose a thing is."""

    testers: dict[str, TesterRecord] = field(default_factory=dict)
    rows: dict[RowKey, OutsideObject] = field(default_factory=dict)
    facts: dict[tuple[str, str], StepFacts] = field(default_factory=dict)
    conditions: dict[tuple[str, str], Condition] = field(default_factory=dict)
    fleet: Fleet | None = None
    version: int = 0
    _named: dict[tuple[str, str], list[RowKey]] = field(default_factory=dict)
    _bearers: dict[tuple[str, str], None] = field(default_factory=dict)  # name and uid of everybody who ever was
    _fleet_text: str = ""

    def begin(self, testers: Iterable[TesterRecord], rows: Iterable[OutsideObject]) -> None:
        """A new life: what its store says is so, whatever was seen of the commits before."""
        self.testers = {}
        for record in testers:
            self._put_tester(record)
        self.rows, self._named = {}, {}
        for row in rows:
            self._put_row(row)
        self.version += 1

    def take(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._take(change)

    def _take(self, change: Change) -> None:
        match change:
            case PutObject(row):
                self._put_row(row)
                self.version += 1
            case PutTester(record):
                self._put_tester(record)
                self.version += 1
            case SetStatus(tester=name):
                known = self.testers.get(name)
                if known is not None:
                    self.testers[name] = replace(
                        known, phase=change.phase, observed_generation=change.observed_generation
                    )
            case DropTester(name):
                self._drop(name)
            case PutFacts(name, facts):
                self._forget_if_moved(name, facts)
                self.facts[name, facts.step] = facts
                self.version += 1
            case FreshenFacts(tester=name, before=before, facts=facts):
                if self.facts.get((name, facts.step)) == before:
                    self.facts[name, facts.step] = facts
            case DropFacts(name, step):
                self._forget(name, step)
            case PutCondition(condition):
                self.conditions[condition.tester, condition.type] = condition
                self.version += condition.tester == ""
            case DropCondition(name, kind):
                self.conditions.pop((name, kind), None)
            case PutFleet(text):
                self._take_fleet(text)
            case _:
                pass

    def _take_fleet(self, text: str) -> None:
        if text != self._fleet_text:
            self._fleet_text, self.fleet = text, Fleet.model_validate_json(text)

    def _put_tester(self, record: TesterRecord) -> None:
        self.testers[record.name] = record
        self._bearers[record.name, record.uid] = None

    def _put_row(self, row: OutsideObject) -> None:
        key = (row.tester, row.step, row.incarnation, row.attempt)
        known = self.rows.get(key)
        if known is None or known.name != row.name:
            self._named.setdefault((row.step, row.name.casefold()), []).append(key)
        self.rows[key] = row

    def _drop(self, name: str) -> None:
        record = self.testers.get(name)
        if record is None or not record.leaving:
            return
        del self.testers[name]
        for kept in (self.facts, self.conditions):
            for key in [key for key in kept if key[0] == name]:
                del kept[key]  # type: ignore[attr-defined]
        for key in [key for key, row in self.rows.items() if key[0] == name and row.state is ObjectState.GONE]:
            del self.rows[key]
        self.version += 1

    def _forget_if_moved(self, name: str, facts: StepFacts) -> None:
        old = self.facts.get((name, facts.step))
        if facts.step == "machine" and old is not None and getattr(old, "key", "") != getattr(facts, "key", ""):
            self._forget(name, "machine")

    def _forget(self, name: str, step: str) -> None:
        self.facts.pop((name, step), None)
        if step == "machine":
            for key in [key for key in self.facts if key[0] == name and FACTS[key[1]].on_machine]:
                del self.facts[key]
        self.version += 1

    # -- asking

    def rows_named(self, step: str, name: str) -> Iterator[OutsideObject]:
        """Whoever's, in whatever state."""
        for key in self._named.get((step, name.casefold()), ()):
            row = self.rows.get(key)
            if row is not None and row.name.casefold() == name.casefold():
                yield row

    def whose(self, step: str, name: str) -> str | None:
        """The tester who gives a thing this name, None when it is no name of ours."""
        for row in self.rows_named(step, name):
            return row.tester
        told = bearer_of(name)
        for bearer in self._bearers:
            if told == bearer or (told is None and is_borne_by(name, *bearer)):
                return bearer[0]
        return None

    def is_true(self, tester: str, kind: str) -> bool:
        condition = self.conditions.get((tester, kind))
        return condition is not None and condition.status is Status.TRUE

    def told_of_orphan(self, step: str, name: str) -> bool:
        """Whether an admin was told that such a thing of this name is in no row."""
        told = self.conditions.get(("", "NothingOrphaned"))
        return told is not None and told.status is Status.FALSE and f"{SAID[step]} {name} at " in told.message

    def quarantined(self, tester: str, step: str) -> frozenset[str]:
        """Ids of the things beside the one in use that the books tell of."""
        facts = self.facts.get((tester, step))
        return frozenset(each.id for each in getattr(facts, "doubles", ()))


def is_kept(row: OutsideObject) -> bool:
    """Left on purpose by a removed tester."""
    return KEPT in row.identity
