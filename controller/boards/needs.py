"""What needs a person now: an open door first, then what nobody but a person can mend, then what should be known. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.boards.advice import advice, plainly, sentence
from controller.boards.ground import Ground
from controller.passes.status import STALLED
from controller.records import Condition, Phase, Status, TesterRecord
from controller.revisions import FAILING_FOR

AT_FORGE = " Forge: "
"""Stands in the message of whoever waits for Forge, after the condition's type."""


class Gravity(StrEnum):
    """How much it matters."""

    DANGER = "danger"  # a stranger may get in
    STUCK = "stuck"  # nothing goes on until a person acts
    NOTICE = "notice"  # goes on, or may mend itself, but should be known


class Topic(StrEnum):
    """Which page helps."""

    NONE = ""
    SPECS = "specs"
    FORGE = "forge"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing; `testers`: whom it is about, by name, none for the fleet itself."""

    gravity: Gravity
    title: str
    text: str
    testers: tuple[str, ...] = ()
    since: datetime | None = None
    topic: Topic = Topic.NONE
    todo: str = ""  # what a person does about it


def needs(ground: Ground, world_error: str, now: datetime) -> tuple[Need, ...]:
    """Gravest first."""
    found = [
        *_doors(ground),
        *_source(ground, world_error),
        *_of_the_fleet(ground.fleet),
        *_stuck(ground),
        *_failing(ground, now),
        *_quarantine(ground),
        *_expiring(ground),
    ]
    order = list(Gravity)
    return tuple(sorted(found, key=lambda need: order.index(need.gravity)))


def waits_for_forge(ground: Ground) -> tuple[TesterRecord, ...]:
    """Who cannot go on because Forge does not do what it is asked."""
    return tuple(
        record
        for record in ground.records
        if record.phase is Phase.FAILING and AT_FORGE in _message(ground.ready.get(record.name))
    )


def _doors(ground: Ground) -> list[Need]:
    return [_need(Gravity.DANGER, one.reason, one.message, (one.tester,), one.since) for one in ground.open_doors]


def _source(ground: Ground, world_error: str) -> list[Need]:
    source = ground.source
    found = []
    if world_error:
        found.append(_need(Gravity.STUCK, "FleetUnusable", world_error))
    if source is not None and not source.readable:
        text = "The last good revision stays in force; nobody is removed or changed until it can be read again."
        found.append(_need(Gravity.STUCK, "SpecsUnreadable", text, since=source.read_at, topic=Topic.SPECS))
    elif source is not None and source.errors:
        more = f" (and {len(source.errors) - 1} more)" if len(source.errors) > 1 else ""
        found.append(_need(Gravity.STUCK, "SpecBroken", f"{source.errors[0]}{more}", topic=Topic.SPECS))
    return found


def _of_the_fleet(conditions: Iterable[Condition]) -> list[Need]:
    """All conditions say what should be, but for `Stalled`."""
    return [
        _need(Gravity.STUCK, one.reason, one.message, since=one.since)
        for one in conditions
        if one.status is (Status.TRUE if one.type == STALLED else Status.FALSE)
    ]


def _stuck(ground: Ground) -> list[Need]:
    return _grouped(ground, [one for one in ground.records if one.phase is Phase.STALLED], Gravity.STUCK)


def _failing(ground: Ground, now: datetime) -> list[Need]:
    """For longer than what mends itself does. Who waits for Forge is one thing, however many they are, and told at once."""
    at_forge = waits_for_forge(ground)
    found = []
    if at_forge:
        names = tuple(one.name for one in at_forge)
        ready = [ground.ready[name] for name in names]
        text = ready[0].message.partition(": ")[2]
        since = min(one.since for one in ready)
        found.append(_need(Gravity.NOTICE, "ForgeSilent", text, names, since, Topic.FORGE))
    told = {one.name for one in at_forge} | {one.tester for one in ground.open_doors}
    late = [
        one
        for one in ground.records
        if one.phase is Phase.FAILING
        and one.name not in told
        and one.name in ground.ready
        and now - ground.ready[one.name].since >= FAILING_FOR
    ]
    return [*found, *_grouped(ground, late, Gravity.NOTICE)]


def _quarantine(ground: Ground) -> list[Need]:
    return [_need(Gravity.NOTICE, one.reason, one.message, (one.tester,), one.since) for one in ground.quarantined]


def _expiring(ground: Ground) -> list[Need]:
    """Whose last day is near; who leaves already is told by the list."""
    staying = {one.name for one in ground.records if not one.leaving}
    return [
        _need(Gravity.NOTICE, one.reason, one.message, (one.tester,))
        for one in ground.expiring
        if one.tester in staying
    ]


def _grouped(ground: Ground, records: Sequence[TesterRecord], gravity: Gravity) -> list[Need]:
    """What is the same for several is told once."""
    alike: dict[tuple[str, str], list[Condition | None]] = defaultdict(list)
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        why = ground.ready.get(record.name)
        if record.phase is Phase.STALLED:
            why = ground.stopped.get(record.name, why)
        key = (why.reason, why.message) if why else ("Pending", record.current)
        alike[key].append(why)
        names[key].append(record.name)
    return [
        _need(
            gravity,
            reason,
            plainly(text),
            tuple(names[reason, text]),
            min((one.since for one in found if one is not None), default=None),
        )
        for (reason, text), found in alike.items()
    ]


def _message(one: Condition | None) -> str:
    return one.message if one is not None and one.status is not Status.TRUE else ""


def _need(
    gravity: Gravity,
    reason: str,
    text: str,
    testers: tuple[str, ...] = (),
    since: datetime | None = None,
    topic: Topic = Topic.NONE,
) -> Need:
    known = advice(reason, tried_again=gravity is Gravity.NOTICE)
    words = text if topic is Topic.SPECS else sentence(text)  # an error of a file begins with its place
    return Need(gravity, known.title, words, testers, since, topic, known.todo)
