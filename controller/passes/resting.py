"""Testers at rest: a settled one is compared by digest before it is thought about.

A pass that found every step in sync, and did and wrote nothing, would come to the same as long as the shared looks answer its
questions as they did, its machine answers the same, its books, its spec, its secrets and the Fleet are what they were, and
nothing has fallen due. So that much is remembered of it, in a kilobyte or two; and when it is looked at again only because it
is time, the questions are put again and the answers compared. Whatever differs, fails or cannot be told leads to a whole
pass. What is remembered is forgotten with every change that this process writes of the tester, and a change that others tell of
asks for a whole pass anyway: it is never queued as a resync.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from controller.fresh import FreshenFacts
from controller.passes.converging import Pass
from controller.passes.outcomes import Kind, StepOutcome
from controller.passes.proofs import Proofs
from controller.passes.status import Verdict, says_what_is_told
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
)
from controller.store import SpecChanged, Store
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

LATEST = datetime.max.replace(tzinfo=UTC)
LONGEST = timedelta(days=1)
"""Without a whole pass; up to a quarter less, so that those who came to rest together do not all have theirs at once."""

_NO_MATTER = (AddEvent, AddRun, PutRevision, PutSource, FreshenFacts)
"""Changes from which nothing follows for a tester's plan."""
_OF_ALL = (ClaimForge, NameForgeOwner)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a machine was asked, and the digest of its answer."""

    address: MachineAddress
    question: Question
    digest: bytes


@dataclass(frozen=True, slots=True)
class Rest:
    """`until`: then some step's turn is due, or a whole pass (`whole_by`). `renewals`: what falls due and needs neither. `needs`:
    the secrets that the spec refers to, `secrets`: a mark of their values. `dated`: the spec names a day."""

    world: World
    since: datetime
    until: datetime
    whole_by: datetime
    renewals: tuple[Renewal, ...]
    reads: tuple[Read, ...]
    machine: _Asked
    needs: tuple[str, ...]
    secrets: bytes
    dated: bool


class Resting:
    """By tester. Nothing of it outlives the process."""

    def __init__(self, store: Store, proofs: Proofs) -> None:
        self._proofs = proofs
        self._rests: dict[str, Rest] = {}
        store.listeners.append(self._heard)

    def __len__(self) -> int:
        return len(self._rests)

    def of(self, name: str, world: World, now: datetime) -> Rest | None:
        """What is remembered of a tester, while it may be relied on: a last day comes with midnight."""
        rest = self._rests.get(name)
        if rest is None or rest.world is not world or not rest.since <= now:
            return None
        return None if rest.dated and rest.since.date() != now.date() else rest

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._rests)

    def discard(self, name: str) -> None:
        self._rests.pop(name, None)

    def discard_those(self, names: Iterable[str]) -> None:
        for name in names:
            self.discard(name)

    def note(self, one: Pass, outcomes: Sequence[StepOutcome], verdict: Verdict, secrets: Mapping[str, Secret]) -> None:
        """A pass has ended."""
        self.discard(one.name)
        if not _is_settled(one, outcomes, verdict):
            return
        looks = list(one.looks.values())
        machine = _one_machine(looks)
        if machine is None or not all(each.is_repeatable for each in looks):
            return
        reads = {key: read for each in looks for key, read in each.reads.items()}
        if any(not read.by and isinstance(read.answer, tuple) for read in reads.values()):
            return  # a listing was read from end to end: it changes with everybody's
        address, question, digest = machine
        one.world.looks.let_go(address, question)
        asked = _Asked(replace(address, hidden=()), question, digest)
        desired, renewals = one.snapshot.record.desired, _renewals(one)
        needs = tuple(sorted(needs_of_secret(desired)))
        whole_by = one.now + LONGEST * (3 / 4 + spread_of(one.snapshot.record.uid) / 4)
        self._rests[one.name] = Rest(
            world=one.world,
            since=one.now,
            until=min(whole_by, _next_due(one, renewals)),
            whole_by=whole_by,
            renewals=tuple(renewals.values()),
            reads=tuple(reads.values()),
            machine=asked,
            needs=needs,
            secrets=mark_of(needs, secrets),
            dated=desired.expires is not None or desired.paused is not None,
        )

    async def over_again(self, rest: Rest, name: str, secrets: Mapping[str, Secret], now: datetime) -> Rest | None:
        """Have done over what has fallen due by itself. None: secrets are others, or something came out otherwise, and a whole
        pass must follow."""
        if mark_of(rest.needs, secrets) != rest.secrets:
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

    async def renewed(self, rest: Rest, one: Pass) -> bool:
        """Have only those steps take a turn that have something due, where nothing else differs. False: a whole pass must
        follow. Raises Draining, StoreError."""
        self.discard(one.name)
        if one.now >= rest.whole_by:
            return False
        known = one.snapshot.facts()
        for step in one.world.steps:
            due = step.due(one.snapshot.record.desired, known)
            if due is not None and due <= one.now and not await _says_the_same(one, step):
                return False
        if one.snapshot.has_changed or one.has_told:
            return False
        asked, renewals = rest.machine, _renewals(one)
        one.world.looks.let_go(asked.address, asked.question)
        until = min(rest.whole_by, _next_due(one, renewals))
        self._rests[one.name] = replace(rest, since=one.now, until=until, renewals=tuple(renewals.values()))
        return True

    async def is_as_it_was(self, rest: Rest, now: datetime) -> datetime | None:
        """When the oldest of the looks was begun that say so; None: something differs, or cannot be told."""
        looks, asked = rest.world.looks, rest.machine
        oldest: datetime | None = None
        try:
            for read in rest.reads:
                at = await looks.again(read, rest.world.fleet)
                if at is None:
                    return None
                oldest = at if oldest is None else min(oldest, at)
            answer = await looks.machine(asked.address, asked.question, None)
        except OutsideError:
            return None
        if answer.value.digest != asked.digest:
            return None
        if now < rest.until:
            looks.let_go(asked.address, asked.question)
        return answer.taken_at if oldest is None else min(oldest, answer.taken_at)

    def _heard(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change, _OF_ALL):
                self._rests.clear()
            elif not isinstance(change, _NO_MATTER):
                self.discard_those(subjects((change,)))


def mark_of(needs: Iterable[str], secrets: Mapping[str, Secret]) -> bytes:
    """Of the values, for comparing within this process."""
    mark = blake2b(digest_size=16)
    for need in needs:
        value = secrets.get(need)
        mark.update(f"{need}\0".encode() + (b"-" if value is None else b"+%d\0" % len(value.reveal()) + value.reveal()))
    return mark.digest()


def _is_settled(one: Pass, outcomes: Sequence[StepOutcome], verdict: Verdict) -> bool:
    record = one.snapshot.record
    return (
        verdict.phase is record.phase is Phase.READY
        and not (verdict.changes or record.leaving or one.has_told or one.snapshot.has_changed)
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
