"""What the read API answers about the time left."""

from __future__ import annotations

from datetime import datetime

from api.answer import Answer
from controller import estimates
from controller.estimates import Outlook


class UsualWait(Answer):
    """What is waited for now, and the seconds that it usually takes from `since`, as far as the past tells."""

    type: str
    reason: str
    since: datetime
    until: datetime | None
    least_seconds: float | None
    most_seconds: float | None

    @classmethod
    def of(cls, one: estimates.UsualWait) -> UsualWait:
        return cls(
            type=one.type,
            reason=one.reason,
            since=one.since,
            until=one.until,
            least_seconds=one.usual.least.total_seconds() if one.usual else None,
            most_seconds=one.usual.most.total_seconds() if one.usual else None,
        )


class Estimate(Answer):
    """Seconds left until Ready, learnt from past runs. Without numbers when it is unknown, or slower than usual."""

    outlook: Outlook
    least_seconds: float | None
    most_seconds: float | None
    over_seconds: float | None
    after: str | None
    since: datetime
    runs: int
    needed_runs: int
    wait: UsualWait | None

    @classmethod
    def of(cls, one: estimates.Estimate) -> Estimate:
        return cls(
            outlook=one.outlook,
            least_seconds=one.left.least.total_seconds() if one.left else None,
            most_seconds=one.left.most.total_seconds() if one.left else None,
            over_seconds=one.over.total_seconds() if one.over is not None else None,
            after=one.after or None,
            since=one.since,
            runs=one.runs,
            needed_runs=estimates.FEWEST_RUNS,
            wait=UsualWait.of(one.wait) if one.wait else None,
        )
