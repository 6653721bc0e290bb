"""From what a source says to rows: generations, broken files, and who is removed (law 1: absent is not deleted)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.in_use import kept_to_what_is_used
from controller.passes.outcomes import AN_ADMIN
from controller.passes.status import STALLED
from controller.records import (
    AddEvent,
    Change,
    Commit,
    Condition,
    Event,
    PutCondition,
    PutFleet,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    Severity,
    SourceState,
    Status,
    TesterRecord,
)
from controller.store import Store
from controller.store.briefs import Head
from reconcilers.clock import Clock
from specs.desired import DesiredTester
from specs.fleet import Fleet
from specs.loading import Loaded
from specs.memory import LoadedTester
from specs.names import new_uid

TOO_MANY = "TooManyRemovals"
NAMED = 10  # so many testers are named; of the others there is only the number


@dataclass(frozen=True)
class Edit:
    """That a revision differs from another one in nothing but what it says of some testers, whom the other one knew too."""

    of: str
    testers: frozenset[str]


@dataclass(frozen=True)
class Revision:
    """One reading of a source. `id` tells readings with different contents apart.

    `commit`: who made it, where the source knows; `rewrites`: the revision before it, when that is no ancestor of it;
    `edit`: how little differs, where the source knows.
    """

    source: str
    id: str
    loaded: Loaded
    commit: Commit | None = None
    rewrites: str = ""
    edit: Edit | None = None


@dataclass(frozen=True)
class Taken:
    """What an intake did. `changed` must be looked at now; `fleet` is set when there is a new one."""

    changed: tuple[str, ...] = ()
    fleet: Fleet | None = None
    held: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass
class _Draft:
    """The changes of one intake as they gather."""

    now: datetime
    revision: str
    changes: list[Change] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def put(self, record: TesterRecord, reason: str, text: str, severity: Severity = Severity.NORMAL) -> None:
        self.changes.append(PutTester(record))
        self.changes.append(AddEvent(Event(record.name, "", reason, text, self.now, severity, record.generation)))

    def wake(self, name: str) -> None:
        self.changed.append(name)


async def take_in(revision: Revision, store: Store, clock: Clock, chance: random.Random) -> Taken:
    """Compare a revision with the rows and write what follows, in one commit. Raises StoreError."""
    now, edit = clock.now(), revision.edit
    before, known, edited = await store.in_force(revision.id, edit.testers if edit is not None else ())
    if before is not None and _is_an_edit(revision, before, edited, now):
        return await _take_edit(revision, before, known, edited, store, _Draft(now, revision.id), chance)
    loaded = await kept_to_what_is_used(revision.loaded, store)
    errors = tuple(str(error) for error in loaded.errors)
    if not loaded.readable:
        state = SourceState(
            revision.source, before.revision if before else "", now, False, errors, before.held if before else ()
        )
        await store.write(*_source_change(before, state, now))
        return Taken(errors=errors)
    heads = await store.heads()
    same = {name for name, head in heads.items() if _says_the_same(head, loaded.testers.get(name), now)}
    rows = {record.name: record for record in await store.testers(heads.keys() - same)}
    leaving = who_leaves(rows.values(), loaded, now, unchanged=len(same))
    draft = _Draft(now, revision.id)
    if revision.rewrites:
        draft.changes.append(_rewritten(revision, now))
    for name, tester in sorted(loaded.testers.items(), key=lambda each: each[0]):
        if name in same:
            continue
        _take_tester(draft, rows.get(name), tester, chance, held=name in leaving.held)
    _mark_broken(draft, rows, loaded, errors)
    fleet = await _take_fleet(draft, loaded, store)
    _take_absent(draft, rows, loaded, leaving)
    state = SourceState(revision.source, revision.id, now, True, errors, leaving.held)
    draft.changes += _revision_change(revision, known, before, errors, draft)
    await store.write(*draft.changes, *_source_change(before, state, now))
    return Taken(tuple(draft.changed), fleet, leaving.held, errors)


def _is_an_edit(revision: Revision, before: SourceState, rows: Iterable[TesterRecord], now: datetime) -> bool:
    """Whether nobody else need be compared. An edit is believed only if the revision that it is one of is in force, no removal
    is held back, and nobody comes or goes by it. `rows`: of those whom it says something of."""
    edit = revision.edit
    if edit is None or revision.rewrites or not before.readable or before.held:
        return False
    if (before.source, before.revision) != (revision.source, edit.of):
        return False
    if before.errors != tuple(str(error) for error in revision.loaded.errors):
        return False  # for one, its Fleet is refused
    stay = all(not each.leaving and not has_expired(revision.loaded.testers[each.name].desired, now) for each in rows)
    return stay and {each.name for each in rows} == edit.testers


async def _take_edit(
    revision: Revision,
    before: SourceState,
    known: RevisionRecord | None,
    rows: Iterable[TesterRecord],
    store: Store,
    draft: _Draft,
    chance: random.Random,
) -> Taken:
    """What follows from an edit, in one commit."""
    errors = before.errors
    for row in rows:
        _take_tester(draft, row, revision.loaded.testers[row.name], chance, held=False)
    state = SourceState(revision.source, revision.id, draft.now, True, errors)
    draft.changes += _revision_change(revision, known, before, errors, draft)
    await store.write(*draft.changes, *_source_change(before, state, draft.now))
    return Taken(tuple(draft.changed), errors=errors)


def _rewritten(revision: Revision, now: datetime) -> AddEvent:
    text = f"history was rewritten: {revision.id[:12]} does not follow {revision.rewrites[:12]}"
    return AddEvent(Event("", "source", "SourceRewritten", text, now, Severity.WARNING))


def _says_the_same(head: Head, tester: LoadedTester | None, now: datetime) -> bool:
    """Whether a file says of a tester what its row says, so that nothing follows from it."""
    if tester is None or head.leaving or head.source_error or has_expired(tester.desired, now):
        return False
    return (head.digest, head.source_file, head.source_line) == (tester.digest, tester.file, tester.line)


def _revision_change(
    revision: Revision,
    known: RevisionRecord | None,
    before: SourceState | None,
    errors: tuple[str, ...],
    draft: _Draft,
) -> list[Change]:
    """The revision is written down when it comes into force, again too, and when it is found to say something else."""
    if known is not None and before is not None and before.revision == revision.id:
        return [] if known.errors == errors else [PutRevision(replace(known, errors=errors))]
    by = revision.commit
    record = RevisionRecord(
        revision=revision.id,
        source=revision.source,
        read_at=draft.now,
        author=by.author if by is not None else "",
        subject=by.subject if by is not None else "",
        committed_at=by.at if by is not None else None,
        errors=errors,
        changed=tuple(draft.changed),
        told=known.told if known is not None else "",
    )
    return [PutRevision(record)]


def _take_tester(
    draft: _Draft, row: TesterRecord | None, tester: LoadedTester, chance: random.Random, *, held: bool
) -> None:
    """`held`: its last day is over, and it stays all the same for now."""
    name = tester.desired.name
    if row is None:
        record = TesterRecord(
            name=name,
            uid=new_uid(chance),
            generation=1,
            desired=tester.desired,
            digest=tester.digest,
            source_file=tester.file,
            source_line=tester.line,
            revision=draft.revision,
            added_at=draft.now,
            changed_at=draft.now,
        )
        draft.put(record, "Added", f"{name} was added by {tester.file}")
        draft.wake(name)
        return
    place = replace(row, source_file=tester.file, source_line=tester.line, source_error="")
    leaves = has_expired(tester.desired, draft.now) and not held
    settled = row.leaving if leaves else row.digest == tester.digest and not row.leaving
    if settled:
        if place != row:
            draft.changes.append(PutTester(place))
        return
    record = replace(
        place,
        generation=row.generation + 1,
        desired=tester.desired,
        digest=tester.digest,
        revision=draft.revision,
        changed_at=draft.now,
        removed_at=draft.now if leaves else None,
    )
    if leaves:
        draft.put(record, "Expired", f"{name} has expired: its last day was {tester.desired.expires}")
    else:
        reason, text = ("PutBack", "was put back by") if row.leaving else ("SpecChanged", "was changed by")
        draft.put(record, reason, f"{name} {text} {tester.file}")
    draft.wake(name)


def has_expired(desired: DesiredTester, now: datetime) -> bool:
    """Its last day, in UTC, is over. It leaves as if its file were gone; its row stays until the file really goes."""
    return desired.expires is not None and now.date() > desired.expires


def _mark_broken(draft: _Draft, rows: dict[str, TesterRecord], loaded: Loaded, errors: Iterable[str]) -> None:
    """A tester whose file is broken stays at its last good spec, and says so."""
    for name, row in rows.items():
        if name in loaded.testers or row.leaving:
            continue
        files = tuple(file for file, names in loaded.broken.items() if name in names) or (row.source_file,)
        if files[0] not in loaded.broken:
            continue
        text = "; ".join(error for error in errors if error.startswith(files)) or f"{files[0]} is broken"
        if text != row.source_error:
            told = f"{name} stays at its last good spec: {text}"
            draft.put(replace(row, source_error=text), "SpecBroken", told, Severity.WARNING)


async def _take_fleet(draft: _Draft, loaded: Loaded, store: Store) -> Fleet | None:
    if loaded.fleet is None:
        return None
    text = loaded.fleet.model_dump_json(by_alias=True)
    known = await store.fleet()
    if known is None or known[0] != text:
        draft.changes.append(PutFleet(text, draft.revision))
    fleet: Fleet = loaded.fleet
    return fleet


def _take_absent(draft: _Draft, rows: dict[str, TesterRecord], loaded: Loaded, leaving: Leaving) -> None:
    """Remove who may be removed."""
    if loaded.whole:
        for row in rows.values():
            if row.leaving and row.named and row.name not in loaded.testers:  # expired, and now its file is gone too
                draft.changes.append(PutTester(replace(row, source_file="")))
                draft.wake(row.name)
    for row in leaving.absent:
        gone = replace(
            row,
            removed_at=draft.now,
            generation=row.generation + 1,
            revision=draft.revision,
            source_file="",
            source_error="",
        )
        draft.put(gone, "Leaving", f"{row.name} is in no file any more and is being removed")
        draft.wake(row.name)


@dataclass(frozen=True)
class Leaving:
    """Who is removed by a revision, or by the day. `held`: nobody is, because these would be too many at once."""

    absent: tuple[TesterRecord, ...] = ()
    expired: frozenset[str] = frozenset()
    held: tuple[str, ...] = ()


def who_leaves(rows: Iterable[TesterRecord], loaded: Loaded, now: datetime, unchanged: int = 0) -> Leaving:
    """Law 1, pure. Absence counts only in a wholly readable revision with a Fleet; a last day that is over in any sound file.

    Never more at once than the Fleet's `safety` allows, by whichever way they would go: a date that many specs share, or a
    clock that jumps, must not do what a deleted folder may not. `unchanged`: testers beside those rows who stay as they are.
    """
    wanted = [row for row in rows if not row.leaving]
    believed = loaded.whole and loaded.fleet is not None
    absent = tuple(row for row in wanted if row.name not in loaded.testers) if believed else ()
    expired = frozenset(
        row.name for row in wanted if row.name in loaded.testers and has_expired(loaded.testers[row.name].desired, now)
    )
    going, safety = len(absent) + len(expired), loaded.safety
    if safety is not None and going > safety.removals_of(len(wanted) + unchanged) and safety.allow_removals != going:
        return Leaving(held=tuple(sorted({*expired, *(row.name for row in absent)})))
    return Leaving(absent, expired)


def _source_change(before: SourceState | None, state: SourceState, now: datetime) -> list[Change]:
    """A reading that says the same as the last one changes nothing (law 8)."""
    if before is not None and replace(before, read_at=state.read_at) == state:
        return []
    changes: list[Change] = [PutSource(state), *_brake(before, state, now)]
    told = before.errors if before is not None else ()
    news = [error for error in state.errors if error not in told]
    return [*changes, *(AddEvent(Event("", "source", "SpecBroken", error, now, Severity.WARNING)) for error in news)]


def _brake(before: SourceState | None, state: SourceState, now: datetime) -> list[Change]:
    """The fleet's own condition `Stalled`, and an event, whenever the brake is put on or taken off."""
    held = before.held if before is not None else ()
    if state.held == held:
        return []
    if not state.held:
        return [PutCondition(Condition("", STALLED, Status.FALSE, "Moving", "nobody's removal is held back", 0, now))]
    text = brake_in_words(state.held)
    stalled = Condition("", STALLED, Status.TRUE, TOO_MANY, text, 0, now, blames=AN_ADMIN)
    return [PutCondition(stalled), AddEvent(Event("", "source", TOO_MANY, text, now, Severity.WARNING))]


def brake_in_words(held: tuple[str, ...]) -> str:
    """Who would be removed, and the way out."""
    count = len(held)
    more = f" and {count - NAMED} more" if count > NAMED else ""
    return (
        f"{count} testers would be removed at once ({', '.join(held[:NAMED])}{more}), because they are in no file any more or "
        f"their last day is over. That is more than safety.maxRemovals: nobody is removed. If it is meant, set "
        f"spec.safety.allowRemovals: {count} in the Fleet; else put the files back, or name a later day in them"
    )
