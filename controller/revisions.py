"""What became of a revision: how many of its testers are as it says, and who is not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from controller.records import Condition, Phase, RevisionRecord, RevisionState, SourceState, TesterRecord

FAILING_FOR: Final = timedelta(minutes=30)
"""So long what fails may mend itself before the revision is called a failure."""

NAMED: Final = 3
"""So many testers, or errors, are named; of the others there is only the number."""

_APART: Final = frozenset({Phase.PAUSED, Phase.EXPIRED})  # they are as their files say, and not meant to be Ready


def judged(
    record: RevisionRecord,
    source: SourceState | None,
    testers: Sequence[TesterRecord],
    ready: Mapping[str, Condition],
    now: datetime,
) -> RevisionRecord:
    """The record of the revision in force with its present state. `ready`: the condition `Ready` by tester."""
    counted = [each for each in testers if each.phase not in _APART]
    done = [each for each in counted if _is_as_it_says(each)]
    stuck = [each for each in counted if _is_stuck(each, ready.get(each.name), now)]
    state, text = _in_short(record, source, counted, done, stuck, ready)
    return replace(record, state=state, ready=len(done), total=len(counted), text=text)


def _in_short(
    record: RevisionRecord,
    source: SourceState | None,
    counted: Sequence[TesterRecord],
    done: Sequence[TesterRecord],
    stuck: Sequence[TesterRecord],
    ready: Mapping[str, Condition],
) -> tuple[RevisionState, str]:
    count = f"{len(done)}/{len(counted)} testers ready"
    if record.errors:
        return RevisionState.FAILURE, _listed(record.errors)
    if source is not None and source.held:
        return RevisionState.FAILURE, f"{len(source.held)} removals are held back (TooManyRemovals)"
    if stuck:
        named = [f"{each.name}: {_why(ready.get(each.name))}" for each in stuck]
        return RevisionState.FAILURE, f"{count}; {_listed(named)}"
    if len(done) == len(counted):
        return RevisionState.SUCCESS, count
    return RevisionState.PENDING, count


def _is_as_it_says(tester: TesterRecord) -> bool:
    return tester.phase is Phase.READY and tester.observed_generation == tester.generation


def _is_stuck(tester: TesterRecord, ready: Condition | None, now: datetime) -> bool:
    """It needs a person, or has been failing for longer than what mends itself does."""
    if tester.phase is Phase.STALLED:
        return True
    return tester.phase is Phase.FAILING and ready is not None and now - ready.since >= FAILING_FOR


def _why(ready: Condition | None) -> str:
    return "not looked at yet" if ready is None else ready.message or ready.reason


def _listed(words: Iterable[str]) -> str:
    every = list(words)
    more = f" (and {len(every) - NAMED} more)" if len(every) > NAMED else ""
    return "; ".join(every[:NAMED]) + more
