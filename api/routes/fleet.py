"""The fleet as a whole."""

from __future__ import annotations

from api.board_models import Fleet
from api.conditional import router as conditional_router
from api.examples import shown
from api.routes.access import Through
from api.routes.asked import NO_WORLD, UNCHANGED

router = conditional_router(tag="fleet")


@router.get("/fleet", responses={**UNCHANGED, **NO_WORLD, **shown(Fleet)})
async def fleet(window: Through) -> Fleet:
    """All testers in numbers, what needs a person, where the specs come from, and the revision in force."""
    return Fleet.of(await window.queries.fleet(), await window.needs())
