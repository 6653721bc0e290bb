"""What stands in quarantine, as the API answers it."""

from __future__ import annotations

from datetime import datetime

from api.answer import Answer
from controller import quarantine


class Quarantined(Answer):
    """One thing beside the one in use. `ours`: a call of ours made it, and it is taken away after the grace; else an admin
    decides."""

    step: str
    name: str
    where: str
    id: str | None
    since: datetime
    made_at: datetime | None
    how: str
    ours: bool

    @classmethod
    def of(cls, one: quarantine.Quarantined) -> Quarantined:
        return cls(
            step=one.step,
            name=one.name,
            where=one.where,
            id=one.id or None,
            since=one.since,
            made_at=one.made_at,
            how=one.how,
            ours=one.ours,
        )
