"""Components × versions: who runs which version of what."""

from __future__ import annotations

from api.board_models import ComponentOfFleet, Components
from api.conditional import router as conditional_router
from api.examples import shown
from api.routes.access import Through
from api.routes.asked import NO_WORLD, UNCHANGED
from controller.boards.components import component_boards

router = conditional_router(tag="components")


@router.get("/components", responses={**UNCHANGED, **NO_WORLD, **shown(Components)})
async def components(window: Through) -> Components:
    """Every component that somebody should have, the versions of it that run, and the newest that is published."""
    found = component_boards((await window.queries.briefs()).values(), window.controller.engine.world)
    return Components(items=tuple(map(ComponentOfFleet.of, found)))
