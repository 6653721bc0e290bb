"""What became of a revision: how many of its testers are as it says, and who is not, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from controller.passes.status import READY, is_paused
from controller.records import Condition, Phase, RevisionRecord, RevisionState, SourceState, TesterRecord
from controller.store import Store
from controller.store.briefs import Outline

FAILING_FOR: Final = timedelta(minutes=30)
"""So long what fails may mend itself before the revision is called a failure."""

NAMED: Final = 3
"""So many testers, or errors, are named; of the others there is only the number."""

Tester = TesterRecord | Outline


def judged(
    record: RevisionRecord,
    source: SourceState | None,
    testers: Sequence[TesterRecord],
    ready: Mapping[str, Condition],
    now: datetime,
) -> RevisionRecord:
    """The record of the revision in force with its present state. `ready`: the condition `Ready` by tester."""
    return _came_to(record, source, [each for each in testers if not _is_apart(each, is_paused(each, now))], ready, now)


def _came_to(
    record: RevisionRecord,
    source: SourceState | None,
    counted: Sequence[Tester],
    ready: Mapping[str, Condition],
    now: datetime,
) -> RevisionRecord:
    done = [each for each in counted if _is_as_it_says(each)]
    stuck = [each for each in counted if _is_stuck(each, ready.get(each.name), now)]
    state, text = _in_short(record, source, counted, done, stuck, ready)
    return replace(record, state=state, ready=len(done), total=len(counted), text=text)


def superseded(record: RevisionRecord, by: str) -> RevisionRecord:
    """A revision that is not in force any more: what it had not come to, it never will."""
    if record.state is not RevisionState.PENDING:
        return record
    return replace(record, state=RevisionState.SUPERSEDED, text=f"superseded by {by[:12]}: {record.text}".rstrip(": "))


async def newest_judged(store: Store, most: int, now: datetime) -> tuple[RevisionRecord, ...]:
    """The newest revisions, newest first, as they stand now, whether or not that is written down yet. Raises StoreError."""
    source, records = await store.source(), await store.revisions(most)
    if source is None or not records:
        return records
    testers = (await store.outlines((READY,))).values()
    pausing = await store.testers({each.name for each in testers if each.pauses})
    paused = {each.name for each in pausing if is_paused(each, now)}
    counted = [each for each in testers if not _is_apart(each, each.name in paused)]
    ready = {each.name: each.conditions[READY] for each in testers if READY in each.conditions}
    return tuple(
        _came_to(each, source, counted, ready, now)
        if each.revision == source.revision
        else superseded(each, source.revision)
        for each in records
    )


def revision_had(record: TesterRecord, newest: Sequence[RevisionRecord]) -> str:
    """The revision that a tester is as, as far as it was seen; "" when it never was as any, or none is known that far back.

    `newest`: of the source, newest first. The one that it should be as is `record.revision`.
    """
    behind = record.generation - record.observed_generation
    if not behind:
        return record.revision
    if not record.observed_generation:
        return ""
    brought = [each.revision for each in newest if record.name in each.changed]
    before = brought[brought.index(record.revision) + 1 :] if record.revision in brought else brought
    return before[behind - 1] if behind <= len(before) else ""


def _in_short(
    record: RevisionRecord,
    source: SourceState | None,
    counted: Sequence[Tester],
    done: Sequence[Tester],
    stuck: Sequence[Tester],
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


def _is_apart(tester: Tester, paused: bool) -> bool:
    """As its file says, and not meant to be Ready. Who is paused is so before any pass has seen it, and no longer than that."""
    return tester.phase is Phase.EXPIRED or (paused and not tester.leaving)


def _is_as_it_says(tester: Tester) -> bool:
    return tester.phase is Phase.READY and tester.observed_generation == tester.generation


def _is_stuck(tester: Tester, ready: Condition | None, now: datetime) -> bool:
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
