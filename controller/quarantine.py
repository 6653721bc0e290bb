"""What stands in quarantine, as the books tell it: lost things that appeared after all, and doubles of what is in use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from reconcilers.facts import FactsOfOne, OutsideObject, StepFacts
from reconcilers.quarantine import APPEARED, how_lost, is_in_quarantine

IN_QUARANTINE = "InQuarantine"
"""The reason of the conditions that tell of it: OneMachine, OneGateway, OneSignInApp."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing beside the one in use. `ours`: a call of ours made it, so that it is taken away after the grace."""

    step: str
    name: str
    where: str
    id: str  # "" while it is not known
    since: datetime  # when it was first seen
    made_at: datetime | None  # as it is told where it is
    how: str
    ours: bool


def quarantined(rows: Iterable[OutsideObject], facts: Iterable[StepFacts]) -> tuple[Quarantined, ...]:
    """Of one tester, what was seen first coming first."""
    lost = [_lost(row) for row in rows if is_in_quarantine(row)]
    twins = [
        Quarantined(one.step, each.name, each.where, each.id, each.seen_at, each.made_at, each.how, each.ours)
        for one in facts
        if isinstance(one, FactsOfOne)
        for each in one.doubles
    ]
    return tuple(sorted([*lost, *twins], key=lambda each: (each.since, each.name, each.id)))


def _lost(row: OutsideObject) -> Quarantined:
    ids = (row.identity[key] for key in ("vm_id", "gateway_id", "app_id") if key in row.identity)
    since = datetime.fromisoformat(row.identity[APPEARED])
    where = row.identity.get("daemon", "Forge" if row.step == "sign_in_app" else "")
    return Quarantined(row.step, row.name, where, next(ids, ""), since, None, how_lost(row), ours=True)
