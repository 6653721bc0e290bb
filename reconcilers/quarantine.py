"""Quarantine: what stands beside the one in use, told with its age and how it came about, and taken away only if it is ours.

Two things of one tester come about when a create was interrupted. Either its call was given up, the next attempt is in use,
and the lost one appears after all: its row tells of it (`LOST`, and since when it has been seen). Or a thing of the very same
name is there twice, which only some systems allow: the step's facts tell of it (`Double`).

A thing is proven ours when its place tells that it was made after our create began, of a name that we gave and with our
credentials; a lost one also when its place does not tell, as its name was given to that one call, and nothing of the name
was there before. Our clock may have been ahead of its place's when the create began: what is not older than the one in use,
by the place's own clock, was made after it as well. Whatever cannot be proven is told and never touched. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconcilers.actions import Finding
from reconcilers.facts import Double, Facts, ObjectState, OutsideObject

PLACED = "placed"  # in a row's identity: when its create was begun
APPEARED = "appeared"  # in a lost row's identity: since when what it was about has been seen after all
NEVER_SEEN = "refused"  # in the identity of a row whose create was never seen to have an effect
WHOLE_SECONDS = timedelta(seconds=1)  # moments are told in them


@dataclass(frozen=True, slots=True)
class Found:
    """Another thing of the row's name."""

    id: str
    where: str
    name: str
    made_at: datetime | None


def begun_at(row: OutsideObject | None) -> datetime | None:
    """When the create of the row's object was begun; None for a row that does not tell."""
    told = row.identity.get(PLACED) if row is not None else None
    return datetime.fromisoformat(told) if told else None


def is_proven(made_at: datetime | None, row: OutsideObject | None, in_use: datetime | None = None) -> bool:
    """Whether a thing of the row's name was made after our create began. `in_use`: when its place made the one that the
    row is known to be about, which was after it as well."""
    began = begun_at(row)
    if made_at is None or began is None:
        return False
    return made_at >= min(began, in_use or began) - WHOLE_SECONDS


def is_older(made_at: datetime | None, row: OutsideObject | None) -> bool:
    """Whether it is known to have been there before our create began: then somebody else made it."""
    return made_at is not None and begun_at(row) is not None and not is_proven(made_at, row)


def doubles_of(
    found: Iterable[Found], known: Iterable[Double], now: datetime, facts: Facts, in_use: datetime | None = None
) -> tuple[Double, ...]:
    """As they are to be told now; one that is known keeps its age, as far as the clock was not set back since. `in_use`: see
    `is_proven`."""
    before, row = {each.id: each for each in known}, facts.object
    return tuple(
        _double(each, before.get(each.id), now, row, ours=is_proven(each.made_at, row, in_use)) for each in found
    )


def _double(found: Found, known: Double | None, now: datetime, row: OutsideObject | None, *, ours: bool) -> Double:
    return Double(
        id=found.id,
        where=found.where,
        name=found.name,
        how=_how(found.made_at, row, ours=ours),
        seen_at=min(known.seen_at, now) if known is not None else now,
        made_at=found.made_at,
        ours=ours,
    )


def _how(made_at: datetime | None, row: OutsideObject | None, *, ours: bool) -> str:
    if ours and made_at is not None:
        return f"made at {made_at:%H:%M:%S}, after our create was begun: one call made two, or a lost one came late"
    if made_at is None:
        return "when it was made is not told, so that it cannot be proven ours: an admin decides"
    if begun_at(row) is None:
        return "when our own create began is not known, so that it cannot be proven ours: an admin decides"
    return (
        f"made at {made_at:%Y-%m-%d %H:%M:%S} UTC, before our create began: it is somebody else's, and is not touched"
    )


def is_due(double: Double, now: datetime, grace: timedelta) -> bool:
    """Whether it may be taken away: it is ours, and has been told for as long as the grace."""
    return double.ours and now - double.seen_at >= grace


def finding(kind: str, doubles: Iterable[Double], facts: Facts) -> tuple[Finding, ...]:
    """`kind` (OneMachine, …) is not so while something stands in quarantine; else nothing is said."""
    told = [*(_in_words(row) for row in facts.earlier if is_in_quarantine(row)), *map(str, doubles)]
    return (Finding(kind, False, "InQuarantine", "; ".join(told)),) if told else ()


def is_in_quarantine(row: OutsideObject) -> bool:
    """Whether it is a lost one that has appeared after all."""
    return row.state is ObjectState.LOST and APPEARED in row.identity


def _in_words(row: OutsideObject) -> str:
    since = datetime.fromisoformat(row.identity[APPEARED])
    return f"{row.name} beside it since {since:%Y-%m-%d %H:%M} UTC: {how_lost(row)}"


def how_lost(row: OutsideObject) -> str:
    """How a lost one came about."""
    if NEVER_SEEN not in row.identity:
        return "it had disappeared from its listing, another one was made, and it is listed again"
    began = begun_at(row)
    when = f" of {began:%Y-%m-%d %H:%M:%S} UTC" if began is not None else ""
    return f"our create{when} was given up as lost, another one was made, and it appeared after all"
