"""The nodes of the Fleet, and what is free on them."""

from __future__ import annotations

from api.board_models import NodeOfFleet, Nodes
from api.conditional import router as conditional_router
from api.examples import shown
from api.routes.access import Through
from api.routes.asked import NO_WORLD, UNCHANGED
from api.window import NotOpen
from controller.boards.nodes import node_boards

router = conditional_router(tag="nodes")


@router.get("/nodes", responses={**UNCHANGED, **NO_WORLD, **shown(Nodes)})
async def nodes(window: Through) -> Nodes:
    """Capacity and promises of every node. A daemon that does not answer at once is not waited for: `why` says so."""
    engine = window.controller.engine
    if engine.world is None:
        raise NotOpen(engine.world_error or "no Fleet has been read yet")
    found = await node_boards(window.controller.store, engine.world, window.clock.now())
    return Nodes(items=tuple(map(NodeOfFleet.of, found)))
