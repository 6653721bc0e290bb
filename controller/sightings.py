"""When what is told of a tester was last seen to be so (law 11), in the memory of the controller that runs.

The books tell when something changed. A pass that finds everything as it was writes nothing (law 8), so that it was looked
at is kept here only. It begins empty: until the first pass or comparison at rest,
and for whoever reads the books alone, it is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from controller.passes.outcomes import StepOutcome
from controller.passes.status import LASTING, NOT_LOOKED_AT, READY, STALLED, condition_type
from controller.records import Condition

DERIVED = frozenset({READY, STALLED})  # seen when that was seen which they follow from


@dataclass(frozen=True, slots=True)
class Seen:
    """`at`: nothing that it rests on was looked at before. `told`: when the pass ended that came to it (both UTC)."""

    at: datetime
    told: datetime

    def of(self, written_at: datetime) -> datetime:
        """For what the books have had since `written_at`: an answer that was written down after the pass was seen then."""
        return self.at if self.told >= written_at else written_at


_AT_REST = Seen(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


class Sightings:
    """By tester: of conditions by type, of facts by step. Never raises; None stands for unknown."""

    def __init__(self) -> None:
        self._rests: dict[str, Seen] = {}  # where everything was seen to be as it was, at once
        self._conditions: dict[str, Mapping[str, Seen]] = {}
        self._facts: dict[str, Mapping[str, Seen]] = {}

    def note(self, tester: str, outcomes: Sequence[StepOutcome], now: datetime) -> None:
        """A pass has ended. What it left alone keeps its age."""
        rest = self._rests.pop(tester, None)
        conditions, facts = dict(self._conditions.get(tester, {})), dict(self._facts.get(tester, {}))
        if rest is not None:
            conditions, facts = dict.fromkeys(conditions, rest), dict.fromkeys(facts, rest)
        self._conditions[tester], self._facts[tester] = conditions, facts
        conditions[LASTING] = Seen(now, now)  # follows from the spec and the day
        for outcome in outcomes:
            if outcome.left_alone:
                continue
            seen = Seen(outcome.seen_at or now, now)
            for kind in (condition_type(outcome.step), *(finding.type for finding in outcome.findings)):
                conditions[kind] = seen
            if outcome.learnt:
                facts[outcome.step] = seen

    def kinds(self, tester: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of which conditions, and of which steps' facts, it is known when they were seen; each in order."""
        return tuple(sorted(self._conditions.get(tester, ()))), tuple(sorted(self._facts.get(tester, ())))

    def rests(self, tester: str, at: datetime, now: datetime, seen: tuple[frozenset[str], frozenset[str]]) -> None:
        """Everything of it was seen to be as it was: `seen`, as `kinds` told when it came to rest."""
        if tester not in self._rests:  # from now on only what there is matters, and that is alike for most of them
            self._conditions[tester], self._facts[tester] = map(_all_of, seen)
        self._rests[tester] = Seen(at, now)

    def forget(self, tester: str) -> None:
        """It is no more: a namesake begins anew."""
        self._rests.pop(tester, None)
        self._conditions.pop(tester, None)
        self._facts.pop(tester, None)

    def forget_those(self, whose: Callable[[str], bool]) -> None:
        """They are looked at elsewhere from now on."""
        for name in [name for name in {*self._conditions, *self._facts} if whose(name)]:
            self.forget(name)

    def looked_at(self, tester: str) -> datetime | None:
        """When its last whole pass ended; None: not known here."""
        seen = self._rests.get(tester) or self._conditions.get(tester, {}).get(LASTING)
        return seen.told if seen is not None else None

    def of_facts(self, tester: str, step: str, written_at: datetime) -> datetime | None:
        """When the facts of a step, as they were written down at `written_at`, were last seen to be so."""
        seen = self._facts.get(tester, {}).get(step)
        seen = self._rests.get(tester, seen) if seen is not None else None
        return seen.of(written_at) if seen is not None else None

    def of_conditions(self, tester: str, known: Mapping[str, Condition]) -> dict[str, datetime | None]:
        """By type, for the conditions that the books tell of a tester."""
        own = {kind: self._of_condition(one) for kind, one in known.items() if kind not in DERIVED}
        derived = {kind: _derived(one, own) for kind, one in known.items() if kind in DERIVED}
        return {**own, **derived}

    def _of_condition(self, one: Condition) -> datetime | None:
        seen = self._conditions.get(one.tester, {}).get(one.type)
        seen = self._rests.get(one.tester, seen) if seen is not None else None
        return seen.of(one.since) if seen is not None and one.reason != NOT_LOOKED_AT else None


@lru_cache(maxsize=64)
def _all_of(kinds: frozenset[str]) -> Mapping[str, Seen]:
    """For one at rest, whose `Seen` stands for them all."""
    return dict.fromkeys(kinds, _AT_REST)


def _derived(one: Condition, own: Mapping[str, datetime | None]) -> datetime | None:
    """As old as the condition that it names first; else as the oldest of all, unknown when one is."""
    cause = one.message.partition(":")[0]
    if cause in own:
        return own[cause]
    known = [at for at in own.values() if at is not None]
    return min(known) if known and len(known) == len(own) else None
