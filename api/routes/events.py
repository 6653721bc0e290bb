"""What happened: to anybody, or to one; newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from api.board_models import Events
from api.conditional import router as conditional_router
from api.examples import shown
from api.models import Event
from api.routes.access import Through
from api.routes.asked import NO_WORLD, UNCHANGED, Before, Limit
from api.window import Window
from controller.records import Severity

router = conditional_router(tag="events")

OfTester = Annotated[str | None, Query(max_length=64, description="Only this tester's; empty: only the fleet's own.")]
OfSeverity = Annotated[Severity | None, Query(description="Only of this severity.")]
OfReason = Annotated[str, Query(max_length=64, description="Only with this reason.")]
OfStep = Annotated[str, Query(max_length=64, description="Only of this step, or condition.")]


@router.get("/events", responses={**UNCHANGED, **NO_WORLD, **shown(Events)})
async def events(
    window: Through,
    tester: OfTester = None,
    severity: OfSeverity = None,
    reason: OfReason = "",
    step: OfStep = "",
    limit: Limit = 100,
    before: Before = None,
) -> Events:
    """What happened to anybody."""
    return await events_of(window, tester, limit, before, severity, reason, step)


async def events_of(
    window: Window,
    tester: str | None,
    limit: int,
    before: int | None,
    severity: Severity | None = None,
    reason: str = "",
    step: str = "",
) -> Events:
    """One more is asked for than is shown, to know whether there is a page behind this one."""
    found = await window.queries.events(tester, limit + 1, before, severity=severity, reason=reason, step=step)
    page = tuple(map(Event.of, found[:limit]))
    return Events(items=page, next=page[-1].id if len(found) > limit else None)
