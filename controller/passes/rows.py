"""The books on outside objects: one row per object, and what its presence or absence in a look means (law 2).

(fresh) ──create begun──▶ INTENDED ──seen, or answered──▶ EXISTING ──must go──▶ RETIRING ──seen gone──▶ GONE
                             │ never seen until its deadline          │ missing for longer than the grace
                             ▼                                        ▼
                            LOST ◀────────────────────────────────────┘   watched, deleted should it appear
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controller.passes.operations import Operation
from controller.passes.outcomes import OPERATION_RUNNING
from controller.passes.snapshot import Snapshot
from controller.records import AddEvent, Change, DropFacts, Event, Outcome, PutJournal, PutObject, Severity
from controller.store import Store
from controller.world import Step
from reconcilers.actions import Step as Planned
from reconcilers.actions import Wait
from reconcilers.clock import Clock
from reconcilers.errors import Blocked
from reconcilers.facts import Facts, MachineFacts, ObjectState, OutsideObject
from reconcilers.forge_owner import OWNER
from reconcilers.looks import TesterLooks
from reconcilers.quarantine import APPEARED, how_lost
from specs.fleet import Fleet

MOST_DOUBLINGS = 10
WATCH_LOST = timedelta(hours=24)  # longer than any teardown or late effect that the field has seen (an hour)
NEVER_MADE: Mapping[str, str] = {"refused": "never seen"}
TAKEN: Mapping[str, str] = {"refused": "name taken"}
DELETED = "deleted"  # in an identity: when a delete was answered last
DELETES = "deletes"  # how many were
KEPT = "keptFrom"  # in the identity of what a removed tester left on purpose: the uid of that tester
UNSENT = "unsent"  # in the identity of an intended one: the journal's entry of a create that has not had its turn yet


MARKS = frozenset({DELETED, DELETES, KEPT, UNSENT, *NEVER_MADE})


def without_marks(row: OutsideObject) -> dict[str, str]:
    """What is known of the object itself, without what our books noted about the row."""
    return {key: value for key, value in row.identity.items() if key not in MARKS}


def sent_now(row: OutsideObject, now: datetime, deadline: datetime) -> OutsideObject:
    """The row of a create that has its turn: it may have waited for that for longer than the call's own limit."""
    told = {key: value for key, value in row.identity.items() if key != UNSENT}
    return replace(row, identity=told, since=now, deadline=deadline)


def never_sent(row: OutsideObject, now: datetime) -> PutObject:
    """The row of a create of which nothing was sent: as if it had not been begun."""
    return PutObject(replace(row, state=ObjectState.GONE, since=now, deadline=None, identity={}))


def deleted(row: OutsideObject, at: datetime) -> OutsideObject:
    """The row after one more delete was answered."""
    count = int(row.identity.get(DELETES, "0")) + 1
    return replace(row, identity={**row.identity, DELETED: at.isoformat(), DELETES: str(count)})


def fresh(step: Step, snapshot: Snapshot) -> OutsideObject:
    """The row that the next create is about, named, and not in the store yet.

    A row whose create was refused for another reason than its name is used again; a taken or lost name leads to the next
    attempt; an object that existed is followed by the next incarnation.
    """
    last = snapshot.last_row(step.name)
    if last is None:
        row = OutsideObject(snapshot.name, step.name, 1, 1, "", ObjectState.GONE)
    elif last.state is ObjectState.GONE and not last.identity:
        row = replace(last, deadline=None, missing_since=None)
    elif not last.identity or "refused" in last.identity:
        row = OutsideObject(snapshot.name, step.name, last.incarnation, last.attempt + 1, "", ObjectState.GONE)
    else:
        row = OutsideObject(snapshot.name, step.name, last.incarnation + 1, 1, "", ObjectState.GONE)
    name = step.name_for(snapshot.record.desired, snapshot.facts(), row.incarnation, row.attempt)
    return replace(row, name=name)


def as_now(snapshot: Snapshot, row: OutsideObject) -> OutsideObject:
    """The row as the books have it now; itself while it is not in them."""
    found = snapshot.row(row.step, row.incarnation, row.attempt)
    return row if found is None else found


def current(snapshot: Snapshot, step: str) -> OutsideObject | None:
    """The row that the tester's spec is about: the newest one that exists or is being made."""
    wanted = [row for row in snapshot.rows(step) if row.state in (ObjectState.INTENDED, ObjectState.EXISTING)]
    return wanted[-1] if wanted else None


def leftovers(
    snapshot: Snapshot, step: str, kept: OutsideObject | None, *, only_told_to_go: bool = False
) -> list[OutsideObject]:
    """Rows that are not closed and not the current one: dying incarnations, lost attempts, all but one of a double."""
    left = [row for row in ours(snapshot, step) if row != kept]
    return [row for row in left if DELETED in row.identity] if only_told_to_go else left


def ours(snapshot: Snapshot, step: str) -> list[OutsideObject]:
    """The unclosed rows, without what a removed namesake left on purpose: its own spec has decided about that."""
    return [row for row in snapshot.rows(step) if KEPT not in row.identity]


def given_up(snapshot: Snapshot, row: OutsideObject) -> bool:
    """Whether it belongs to a Forge account in whose place a person has put another: ours shows it no more, and cannot
    take it away."""
    owner = row.identity.get(OWNER, "")
    return bool(owner and snapshot.forge_owner) and not same_name(owner, snapshot.forge_owner)


def holder_of(snapshot: Snapshot, row: OutsideObject) -> OutsideObject | None:
    """An unclosed row of ours that holds the name of a fresh one."""
    return next((other for other in snapshot.rows(row.step) if same_name(other.name, row.name)), None)


def same_name(one: str, other: str) -> bool:
    """Forge's look-up ignores case (V); the names of the others are lower case."""
    return one.casefold() == other.casefold()


def taking_away(step: Step, observed: Any, facts: Facts) -> tuple[Planned, ...]:
    """What is done so that something goes. One that no look shows is told to all the same, until a delete is answered: a
    listing may omit what is there."""
    row = facts.object
    if observed is None and row is not None and DELETED not in row.identity:
        unseen = step.delete_unseen(facts)
        if unseen is not None:
            return (unseen,)
    return step.plan(None, observed, facts)


def wait_for(operation: Operation) -> Wait:
    """The wait that a running operation is."""
    return Wait(OPERATION_RUNNING, f"{operation.what} is under way", operation.limit, operation.step)


def name_still_held(row: OutsideObject, fleet: Fleet) -> Wait:
    limit = fleet.spec.timing.gateway_limit + fleet.spec.timing.listing_grace
    return Wait("NameStillHeld", f"{row.name} is still held by its predecessor, which is going", limit, row.step)


def named_as_wanted(step: Step, snapshot: Snapshot, row: OutsideObject) -> bool:
    """Whether the spec still gives the row's object its name."""
    wanted = step.name_for(snapshot.record.desired, snapshot.facts(row), row.incarnation, row.attempt)
    return same_name(wanted, row.name)


async def retire_renamed(step: Step, snapshot: Snapshot, clock: Clock) -> OutsideObject | None:
    """The current row; one whose name the spec does not give any more retires first, and there is none then."""
    row = current(snapshot, step.name)
    if row is None:
        return None
    if named_as_wanted(step, snapshot, row):
        return row
    if KEPT in row.identity:
        return None
    wanted = step.name_for(snapshot.record.desired, snapshot.facts(row), row.incarnation, row.attempt)
    retired = replace(row, state=ObjectState.RETIRING, since=clock.now())
    text = f"{row.name} must go: the spec now says {wanted}"
    event = Event(snapshot.name, step.name, "Renamed", text, clock.now())
    await snapshot.commit(step.name, PutObject(retired), DropFacts(snapshot.name, step.name), AddEvent(event))
    return None


async def forget_gone(step: Step, snapshot: Snapshot) -> None:
    """A machine that is seen to be gone, and in whose place nothing has come yet, as somebody was put back while leaving:
    nobody goes on looking for it at its old address."""
    if step.name != MachineFacts.step or snapshot.rows(step.name):
        return
    if any(facts.step == step.name for facts in snapshot.known()):
        await snapshot.commit(step.name, DropFacts(snapshot.name, step.name))


@dataclass(frozen=True)
class Judge:
    """Decides what a look says about a row."""

    store: Store
    clock: Clock
    fleet: Fleet

    @property
    def grace(self) -> timedelta:
        return self.fleet.spec.timing.listing_grace

    async def judge(
        self, row: OutsideObject, observed: Any, step: Step, snapshot: Snapshot, looks: TesterLooks
    ) -> OutsideObject | Wait | None:
        """The row to go on with, a wait, or None when this object is lost and the next one is due.

        Raises Blocked when more objects than `safety.maxLost` are missing in the same look.
        """
        if observed is not None:
            return await self._present(row, observed, step, snapshot)
        if row.state is ObjectState.INTENDED:
            return await self._never_seen(row, step, snapshot)
        if row.state is ObjectState.EXISTING:
            return await self._missing(row, step, snapshot, looks)
        return row

    async def _present(self, row: OutsideObject, observed: Any, step: Step, snapshot: Snapshot) -> OutsideObject:
        if row.state not in (ObjectState.INTENDED, ObjectState.EXISTING):
            return row  # not in the books as ours: the plan decides whether it may be adopted
        identity = {**without_marks(row), **step.identity(observed)}
        ahead = row.since is not None and row.since > self.clock.now()  # the clock was set back: its age counts anew
        known = row.state is ObjectState.EXISTING and row.identity == identity and row.missing_since is None
        if known and not ahead:
            return row
        seen = replace(row, state=ObjectState.EXISTING, identity=identity, missing_since=None, deadline=None)
        changes: list[Change] = [PutObject(replace(seen, since=self.clock.now()))]
        if row.state is ObjectState.INTENDED:
            text = f"{row.name} is there after all: the create whose answer was lost had its effect"
            changes.append(AddEvent(Event(snapshot.name, step.name, "FoundAfterAll", text, self.clock.now())))
        await snapshot.commit(step.name, *changes)
        return as_now(snapshot, row)

    async def _never_seen(self, row: OutsideObject, step: Step, snapshot: Snapshot) -> Wait | None:
        if await self._never_sent(row, snapshot):
            return None
        now = self.clock.now()
        row = await self._not_begun_later(row, snapshot)
        if row.deadline is not None and now < row.deadline:
            text = f"whether {row.name} was made is not known; until the call's limit has passed its absence proves nothing"
            began = row.since or now
            return Wait("OutcomeUnknown", text, row.deadline - began, step.name)
        await self._close_lost(
            row, step, snapshot, f"{row.name} was never seen to be made; the next attempt has another name"
        )
        return None

    async def _never_sent(self, row: OutsideObject, snapshot: Snapshot) -> bool:
        """Whether its create has not had its turn: no operation is about it any more, and the store did not take how that
        ended. It is written down now."""
        waited = row.identity.get(UNSENT)
        if waited is None:
            return False
        now, why = self.clock.now(), "its end could not be written down; nothing was sent"
        mine = [entry for entry in await self.store.unfinished() if entry.id == waited]
        ended = [PutJournal(replace(entry, outcome=Outcome.FAILED, ended_at=now, detail=why)) for entry in mine]
        text = f"create {row.name}: {why}"
        event = Event(snapshot.name, row.step, "ActionFailed", text, now, Severity.WARNING, snapshot.record.generation)
        await snapshot.commit(row.step, *ended, AddEvent(event), never_sent(row, now))
        return True

    async def _not_begun_later(self, row: OutsideObject, snapshot: Snapshot) -> OutsideObject:
        """One that was begun in the future: the clock was set back, and its time begins anew."""
        now = self.clock.now()
        if row.deadline is None or row.since is None or row.since <= now:
            return row
        anew = replace(row, since=now, deadline=now + (row.deadline - row.since))
        await snapshot.commit(row.step, PutObject(anew))
        return anew

    async def _missing(
        self, row: OutsideObject, step: Step, snapshot: Snapshot, looks: TesterLooks
    ) -> OutsideObject | Wait | None:
        await self._refuse_mass_loss(step, snapshot, row, looks)
        now = self.clock.now()
        if row.missing_since is None or row.missing_since > now:
            await snapshot.commit(step.name, PutObject(replace(row, missing_since=now)))
        elif now - row.missing_since >= self.grace:
            await self._close_lost(row, step, snapshot, _why_gone(snapshot, row))
            return None
        return Wait("Missing", f"{row.name} is missing in the listing; it may lag", self.grace, step.name)

    async def _close_lost(self, row: OutsideObject, step: Step, snapshot: Snapshot, text: str) -> None:
        """Close a row that nobody sees. Its name stays watched, unless the next row has to take the same one; what can be told
        to go unseen is, and holds its name until then."""
        now, facts = self.clock.now(), snapshot.facts(row)
        wanted = step.name_for(snapshot.record.desired, facts, row.incarnation + 1, 1)
        is_over = same_name(wanted, row.name) and step.delete_unseen(facts) is None
        state = ObjectState.GONE if is_over else ObjectState.LOST
        never = row.state is ObjectState.INTENDED
        identity = {**row.identity, **NEVER_MADE} if never else row.identity
        closed = replace(row, state=state, since=now, missing_since=None, identity=identity)
        event = Event(snapshot.name, step.name, "Disappeared", text, now, Severity.WARNING, snapshot.record.generation)
        await snapshot.commit(step.name, PutObject(closed), DropFacts(snapshot.name, step.name), AddEvent(event))

    async def _refuse_mass_loss(self, step: Step, snapshot: Snapshot, row: OutsideObject, looks: TesterLooks) -> None:
        """Law 1: when more of ours than `safety.maxLost` are missing in one look, a person decides."""
        if given_up(snapshot, row):
            return  # a person has decided
        where = row.identity.get("daemon")  # a listing is one daemon's
        existing = await self.store.objects(step.name, frozenset({ObjectState.EXISTING}))
        # What removed testers left on purpose is nobody's to watch: people may well have taken it away since.
        books = [
            known
            for known in existing
            if known.identity.get("daemon") == where and KEPT not in known.identity and not given_up(snapshot, known)
        ]
        there = {name.casefold() for name in await step.listed(snapshot.view(row), looks)}
        missing = sorted(known.name for known in books if known.name.casefold() not in there)
        most = self.fleet.spec.safety.max_lost
        if len(missing) > most:
            raise Blocked(
                f"{len(missing)} of {len(books)} are missing in one look ({', '.join(missing[:5])}"
                f"{', …' if len(missing) > 5 else ''}), more than safety.maxLost ({most}): nothing is repaired until a "
                "person has looked; if they are really gone, raise safety.maxLost",
                system=step.name,
                reason="TooManyLost",
            )

    async def absent_leftover(self, row: OutsideObject, step: Step, snapshot: Snapshot, looks: TesterLooks) -> bool:
        """A row that must go is not seen. True: it needs no more looking at for now. Raises Blocked as `judge` does."""
        if await self._never_sent(row, snapshot):
            return True
        now = self.clock.now()
        row = await self._not_begun_later(row, snapshot)
        if row.deadline is not None and now < row.deadline and DELETED not in row.identity:
            return False
        if row.state is ObjectState.LOST and not snapshot.record.leaving and now - (row.since or now) < WATCH_LOST:
            return True
        if (
            row.state is not ObjectState.LOST
            and DELETED not in row.identity
            and not await self._long_missing(row, step, snapshot, looks)
        ):
            return False
        gone = replace(row, state=ObjectState.GONE, since=now, identity=row.identity or NEVER_MADE)
        event = Event(snapshot.name, row.step, "Gone", f"{row.name} is seen to be gone", now)
        await snapshot.commit(row.step, PutObject(gone), AddEvent(event))
        return True

    async def in_quarantine(self, row: OutsideObject, snapshot: Snapshot) -> bool:
        """Whether a lost one that has appeared after all is left alone for now: it is told for as long as the grace, before it
        is taken away. Who leaves takes all along."""
        if row.state is not ObjectState.LOST or snapshot.record.leaving:
            return False
        now, since = self.clock.now(), row.identity.get(APPEARED)
        if since is not None and datetime.fromisoformat(since) <= now:
            return now - datetime.fromisoformat(since) < self.grace
        seen = replace(row, identity={**row.identity, APPEARED: now.isoformat()})
        event = Event(snapshot.name, row.step, "InQuarantine", f"{row.name}: {how_lost(row)}", now, Severity.WARNING)
        await snapshot.commit(row.step, PutObject(seen), AddEvent(event))
        return True

    def may_lag(self, row: OutsideObject) -> bool:
        """Whether a delete of ours was answered so lately that what still shows the object proves nothing.

        A node may take an hour for what it has promised: each further delete waits twice as long as the last.
        """
        told = row.identity.get(DELETED)
        if told is None:
            return False
        longest = max(self.grace, self.fleet.spec.timing.backoff_ceiling)
        lag: timedelta = min(self.grace * 2 ** min(int(row.identity.get(DELETES, "1")) - 1, MOST_DOUBLINGS), longest)
        return timedelta(0) <= self.clock.now() - datetime.fromisoformat(told) < lag

    async def _long_missing(self, row: OutsideObject, step: Step, snapshot: Snapshot, looks: TesterLooks) -> bool:
        """No delete of ours was confirmed: a listing that omits it must do so for as long as the grace."""
        if row.identity:
            await self._refuse_mass_loss(step, snapshot, row, looks)
        now = self.clock.now()
        if row.missing_since is None or row.missing_since > now:
            await snapshot.commit(row.step, PutObject(replace(row, missing_since=now)))
            return False
        return now - row.missing_since >= self.grace


def _why_gone(snapshot: Snapshot, row: OutsideObject) -> str:
    if given_up(snapshot, row):
        owner = row.identity[OWNER]
        return f"{row.name} is {owner}'s at Forge and stays there until {owner} deletes it; a new one is made"
    return f"{row.name} has disappeared; it is made anew"
