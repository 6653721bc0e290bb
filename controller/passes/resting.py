"""Testers at rest: a settled one is compared by digest before it is thought about.

A pass that found every step in sync, and did and wrote nothing, would come to the same as long as the shared looks answer its
questions as they did, its machine answers the same, its books, its spec, its secrets and the Fleet are what they were, and
nothing has fallen due. So that much is remembered of it, in a kilobyte or two; and when it is looked at again only because it
is time, the questions are put again and the answers compared. Whatever differs, fails or cannot be told leads to a whole
pass. What is remembered is forgotten with every change that this process writes of the tester, and a change that others tell of
asks for a whole pass anyway: it is never queued as a resync.

The same is kept in the store, written down with the hours of proofs, and read again after a start; a kill -9 costs whole passes
of those who have come to rest last. It is believed only under the mark that this program would make of it now: over itself, the
program, the Fleet with its credentials, and the tester's books as they lie there, whoever wrote them.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.fresh import FreshenFacts
from controller.passes.converging import Pass
from controller.passes.marks import Marker
from controller.passes.outcomes import Kind, StepOutcome
from controller.passes.proofs import Proofs
from controller.passes.rest import Asked, Rest, answered_again, body_of, kinds_of, rest_of, told_again
from controller.passes.status import Verdict, says_what_is_told
from controller.program import program_digest
from controller.records import (
    AddEvent,
    AddRun,
    Change,
    ClaimForge,
    NameForgeOwner,
    Phase,
    PutFacts,
    PutRevision,
    PutSource,
    TesterRecord,
)
from controller.rests import KeptRest, PutRest
from controller.store import SpecChanged, Store, StoreError
from controller.store.fencing import subjects
from controller.world import Step, World
from reconcilers.backends.machine import MachineAddress, Question
from reconcilers.contract import Renewal
from reconcilers.errors import OutsideError
from reconcilers.facts import FactsOfOne, ObjectState, WatchedFacts
from reconcilers.intervals import spread_of
from reconcilers.listed import Read
from reconcilers.looks import Looks, TesterLooks
from reconcilers.secret import Secret
from specs.desired import needs_of_secret

log = logging.getLogger("controller")

LATEST = datetime.max.replace(tzinfo=UTC)
LONGEST = timedelta(days=1)
"""Without a whole pass; up to a quarter less, so that those who came to rest together do not all have theirs at once."""

AT_ONCE = 200  # rows in one write or reading: making one takes a quarter of a millisecond

_NO_MATTER = (AddEvent, AddRun, PutRevision, PutSource, FreshenFacts, PutRest)
"""Changes from which nothing follows for a tester's plan."""
_OF_ALL = (ClaimForge, NameForgeOwner)


class Resting:
    """By tester."""

    def __init__(self, store: Store, proofs: Proofs) -> None:
        self._store = store
        self._proofs = proofs
        self._marker = Marker(store.keyring.primary.derived("testers at rest"))
        self._of_no_secrets = self._marker.of()
        self._program = program_digest()
        self._rests: dict[str, Rest] = {}
        self._kept: dict[str, KeptRest] = {}  # of before the start, until they are looked at
        self._recalled: dict[str, object] = {}  # those whose rows are being read, and by which reading
        self._thought_about: set[str] = set()  # those that have a pass, as long as nothing was written meanwhile
        self._unkept: set[str] = set()  # those that are not written down yet
        self._many = AT_ONCE  # of those
        store.listeners.append(self._heard)

    def __len__(self) -> int:
        return len(self._rests)

    def of(self, name: str, world: World, now: datetime) -> Rest | None:
        """What is remembered of a tester, while it may be relied on."""
        rest = self._rests.get(name) or self._believed(name, world, now)
        return rest if rest is not None and rest.world is world and _counts(rest, now) else None

    @property
    def names(self) -> frozenset[str]:
        return frozenset({*self._rests, *self._kept, *self._recalled, *self._thought_about})

    def discard(self, name: str) -> None:
        self._rests.pop(name, None)
        self._kept.pop(name, None)
        self._recalled.pop(name, None)
        self._thought_about.discard(name)

    def begin(self, name: str) -> None:
        """Its books are about to be read: what was remembered is nothing to go by any more, should that fail, and what is
        written from now on is not in them."""
        self.discard(name)
        self._thought_about.add(name)

    def mark_of_world(self, fleet: str, secrets: Mapping[str, Secret]) -> bytes:
        """Of a Fleet, and what it was opened with; b"" when it is not known what program this is."""
        if not self._program:
            return b""
        return self._marker.of(self._program, fleet.encode(), mark_of(sorted(secrets), secrets, self._marker))

    def is_recalled(self, name: str) -> bool:
        """Whether something was kept of it that has not been compared yet."""
        return name in self._kept

    async def recall(self, names: Collection[str]) -> None:
        """Read what is kept of these, in place of what is remembered. Whether it is believed is seen when they are looked at."""
        every, reading = sorted(names), object()
        self.discard_those(every)
        self._recalled.update(dict.fromkeys(every, reading))
        try:
            for some in (every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)):
                found = await self._store.rests(some)
                for name in self._read_by(reading, some):
                    if name in found:
                        self._kept[name] = found[name]
        except StoreError as error:
            log.warning("whoever was at rest has a whole pass: %s", error)
        finally:
            self._read_by(reading, every)

    def _read_by(self, reading: object, names: Iterable[str]) -> list[str]:
        """Those of whom nothing was written meanwhile, and that nobody reads anew; they are not being read any more."""
        found = [name for name in names if self._recalled.get(name) is reading]
        for name in found:
            del self._recalled[name]
        return found

    @property
    def are_many(self) -> bool:
        """Whether it is worth a write of its own who has come to rest since the last one."""
        return len(self._unkept) >= self._many

    @property
    def are_left(self) -> bool:
        return bool(self._unkept)

    def rows(self) -> list[PutRest]:
        """Those to be written down next; with `unwritten` they are so once more."""
        self._many = AT_ONCE
        names = sorted(self._unkept)[:AT_ONCE]
        self._unkept.difference_update(names)
        rows = (self._row(name, rest) for name in names if (rest := self._rests.get(name)) is not None)
        return [row for row in rows if row is not None]

    def unwritten(self, rows: Iterable[PutRest]) -> None:
        self._unkept.update(row.tester for row in rows)
        self._many = len(self._unkept) + AT_ONCE  # a store that takes nothing is not asked again with every look

    def _row(self, name: str, rest: Rest) -> PutRest | None:
        try:
            body = body_of(rest, self._marker)
        except TypeError:
            return None
        return PutRest(name, self._mark(name, body, rest.books, rest.world), body)

    def _believed(self, name: str, world: World, now: datetime) -> Rest | None:
        """What was kept of a tester, if all that it rests on beside the outside is as it was."""
        kept = self._kept.pop(name, None)
        if kept is None or not world.mark:
            return None
        if not hmac.compare_digest(kept.mark, self._mark(name, kept.body, kept.books.digest, world)):
            return None
        try:
            rest = rest_of(kept.body, kept.books.digest, kept.books.hours, world, now)
        except (ValueError, KeyError, TypeError):
            return None
        if rest is not None:
            self._rests[name] = rest
        return rest

    def _mark(self, name: str, body: str, books: bytes, world: World) -> bytes:
        return self._marker.of(world.mark, name.encode("utf-8", "surrogatepass"), books, body.encode())

    def discard_those(self, names: Iterable[str]) -> None:
        for name in names:
            self.discard(name)

    def note(
        self, one: Pass, outcomes: Sequence[StepOutcome], verdict: Verdict, secrets: Mapping[str, Secret], books: bytes
    ) -> None:
        """A pass has ended. `books`: the mark over those that it began with, b"" for none."""
        untouched = one.name in self._thought_about
        self.discard(one.name)
        if not untouched or not _is_settled(one, outcomes, verdict):
            return
        looks = list(one.looks.values())
        machine, reads = _one_machine(looks), _all_reads(looks)
        if machine is None or reads is None:
            return
        address, question, digest = machine
        one.world.looks.let_go(address, question)
        asked = Asked(replace(address, hidden=()), question, digest)
        desired, renewals = one.snapshot.record.desired, _renewals(one)
        needs = tuple(sorted(needs_of_secret(desired)))
        whole_by = one.now + LONGEST * (3 / 4 + spread_of(one.snapshot.record.uid) / 4)
        self._rests[one.name] = Rest(
            world=one.world,
            since=one.now,
            until=min(whole_by, _next_due(one, renewals)),
            whole_by=whole_by,
            renewals=tuple(renewals.values()),
            reads=reads,
            machine=asked,
            needs=needs,
            secrets=mark_of(needs, secrets, self._marker),
            dated=desired.expires is not None or desired.paused is not None,
            seen=kinds_of(*one.bench.sightings.kinds(one.name)),
            books=books,
        )
        if books and one.world.mark:
            self._unkept.add(one.name)

    async def renewed(self, rest: Rest, name: str, secrets: Mapping[str, Secret], now: datetime) -> Rest | None:
        """Have done over what has fallen due by itself. None: secrets are others, or something came out otherwise, and a whole
        pass must follow."""
        mark = mark_of(rest.needs, secrets, self._marker) if rest.needs else self._of_no_secrets
        if not _counts(rest, now) or mark != rest.secrets:
            return None
        for each in rest.renewals:
            if now < each.due:
                continue
            again = await _renewed(each, rest.world.looks)
            if again is None or self._rests.get(name) is not rest:
                return None
            machine = rest.machine.address.key if again.facts.on_machine else ""
            self._proofs.keep(PutFacts(name, again.facts, machine, now), each.facts)
            renewals = tuple(again if one is each else one for one in rest.renewals)
            self._rests[name] = rest = replace(rest, since=now, renewals=renewals)
        return rest

    async def with_due_turns(self, rest: Rest, one: Pass) -> bool:
        """Have only those steps take a turn that have something due, where nothing else differs. False: a whole pass must
        follow. Raises Draining, StoreError."""
        if one.now >= rest.whole_by or not _counts(rest, one.now):
            return False
        known = one.snapshot.facts()
        for step in one.world.steps:
            due = step.due(one.snapshot.record.desired, known)
            if due is not None and due <= one.now and not await _says_the_same(one, step):
                return False
        if one.snapshot.has_changed or one.has_told or one.name not in self._thought_about:
            return False
        self.discard(one.name)
        asked, renewals = rest.machine, _renewals(one)
        one.world.looks.let_go(asked.address, asked.question)
        until = min(rest.whole_by, _next_due(one, renewals))
        self._rests[one.name] = replace(rest, since=one.now, until=until, renewals=tuple(renewals.values()))
        return True

    async def is_as_it_was(self, rest: Rest, name: str, now: datetime) -> tuple[Rest, datetime] | None:
        """The rest, and when the oldest of the looks was begun that say so; None: something differs, or cannot be told. Then
        nobody else is waited for. What is known by its marks only is from now on remembered as ever."""
        looks, asked = rest.world.looks, rest.machine
        reads, oldest = [], LATEST
        try:
            for read in rest.reads:
                told = await looks.again(read, rest.world.fleet, now)
                again = told_again(read, told.value, self._marker)
                if again is None:
                    return None
                reads.append(again)
                oldest = min(oldest, told.taken_at)
            answer = await looks.machine_again(asked.address, asked.question)
        except OutsideError:
            return None
        machine = answered_again(asked, answer.value.digest, self._marker)
        if machine is None or self._rests.get(name) is not rest:
            return None
        if machine is not asked:
            self._rests[name] = rest = replace(rest, reads=tuple(reads), machine=machine)
        if now < rest.until:
            looks.let_go(asked.address, asked.question)
        return rest, min(oldest, answer.taken_at)

    def _heard(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change, _OF_ALL):
                self.discard_those(self.names)
            elif not isinstance(change, _NO_MATTER):
                self.discard_those(subjects((change,)))


def mark_of(needs: Iterable[str], secrets: Mapping[str, Secret], marker: Marker) -> bytes:
    """Of the values."""
    told = [(need.encode(), secrets.get(need)) for need in needs]
    return marker.of(
        *(part for need, value in told for part in (need, b"-" if value is None else b"+" + value.reveal()))
    )


def _counts(rest: Rest, now: datetime) -> bool:
    """Not before it was noted, as after a clock was set back; and a last day comes with midnight."""
    return rest.since <= now and not (rest.dated and rest.since.date() != now.date())


def may_rest(record: TesterRecord) -> bool:
    """Whether a pass over it that finds nothing to do could be the last for a while: only then its books are marked."""
    return record.phase is Phase.READY and not record.leaving


def _is_settled(one: Pass, outcomes: Sequence[StepOutcome], verdict: Verdict) -> bool:
    record = one.snapshot.record
    return (
        may_rest(record)
        and verdict.phase is Phase.READY
        and not (verdict.changes or one.has_told or one.snapshot.has_changed)
        and all(each.kind is Kind.IN_SYNC and not each.did and not each.left_alone for each in outcomes)
        and not one.under_way.any()
        and all(_is_plain(row.state, row.missing_since) for row in one.snapshot.open_rows())
        and not any(isinstance(each, FactsOfOne) and each.doubles for each in one.snapshot.known())
        and not any(isinstance(each, WatchedFacts) and each.unwell for each in one.snapshot.known())
    )


def _is_plain(state: ObjectState, missing_since: datetime | None) -> bool:
    return state is ObjectState.EXISTING and missing_since is None


def _one_machine(looks: Iterable[TesterLooks]) -> tuple[MachineAddress, Question, bytes] | None:
    """The one question that all steps put to the machine, and its one answer."""
    asked = [each.asked_machine for each in looks if each.asked_machine is not None]
    if not asked or not asked[0][2] or any(each[1:] != asked[0][1:] for each in asked):
        return None
    return asked[0]


def _all_reads(looks: Sequence[TesterLooks]) -> tuple[Read, ...] | None:
    """What all steps asked and were told. None: there is more than can be asked again; or one was told something else than
    another one, and nobody has thought about the later answer for both."""
    reads: dict[tuple[str, str, str], Read] = {}
    for each in looks:
        for key, read in each.reads.items():
            if reads.setdefault(key, read).answer != read.answer:
                return None
    if not all(each.is_repeatable for each in looks):
        return None
    # A listing that was read from end to end changes with everybody's.
    whole = any(not read.by and isinstance(read.answer, tuple) for read in reads.values())
    return None if whole else tuple(reads.values())


def _renewals(one: Pass) -> dict[str, Renewal]:
    """By step."""
    known, desired = one.snapshot.facts(), one.snapshot.record.desired
    found = {step.name: step.renewal(desired, known) for step in one.world.steps}
    return {name: renewal for name, renewal in found.items() if renewal is not None}


def _next_due(one: Pass, renewals: Mapping[str, Renewal]) -> datetime:
    """Of the steps whose turn needs the books."""
    known, desired = one.snapshot.facts(), one.snapshot.record.desired
    dues = [step.due(desired, known) for step in one.world.steps if step.name not in renewals]
    return min((due for due in dues if due is not None), default=LATEST)


async def _renewed(renewal: Renewal, looks: Looks) -> Renewal | None:
    try:
        return await renewal.renewed(looks)
    except OutsideError:
        return None


async def _says_the_same(one: Pass, step: Step) -> bool:
    """A turn of a step, outside of a whole pass: in sync, with the very findings that the books have."""
    turn = one.turn(step)
    try:
        outcome = await turn.take()
    except SpecChanged:
        return False
    if outcome.kind is Kind.IN_SYNC and not outcome.did and says_what_is_told(one.snapshot.record, one.told, outcome):
        return True
    await one.came_to(step, outcome)
    return False
