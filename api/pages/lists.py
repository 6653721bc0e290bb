"""Events, components × versions, revisions, nodes: what spans the fleet."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path, Query, Request, Response

from api.pages.boards import PartName, Sight, page_router
from api.pages.render import page, part
from controller.boards.components import component_boards
from controller.boards.nodes import node_boards
from controller.records import Severity

EVENTS = 100
LOOKED_THROUGH = 1000  # events, for those of one severity
REVISIONS = 50

router = page_router()


@router.get("/events")
async def events(
    request: Request,
    sight: Sight,
    tester: Annotated[str, Query(max_length=64)] = "",
    only: Annotated[str, Query(max_length=16)] = "",
    before: Annotated[int, Query(ge=0, le=2**62)] = 0,
    part_: Annotated[PartName, Query(alias="part")] = "",
) -> Response:
    """What happened, newest first. `only=warnings` leaves out what is as it should be."""
    warnings = only == "warnings"
    most = LOOKED_THROUGH if warnings else EVENTS
    found = await sight.ask.events(tester.strip() or None, most, before or None)
    shown = [one for one in found if not warnings or one.severity is Severity.WARNING][:EVENTS]
    more = len(found) == most or len(shown) == EVENTS
    values = {
        "events": shown,
        "tester": tester.strip(),
        "warnings": warnings,
        "before": before,
        "next": shown[-1].id if shown and more else found[-1].id if found and more else 0,
        "active": "events",
    }
    if part_:
        return part(request, {"events": "parts/events.html"}, part_, sight.now(), **values)
    return page(request, "events.html", sight.now(), **values)


@router.get("/components")
async def components(request: Request, sight: Sight, part_: Annotated[PartName, Query(alias="part")] = "") -> Response:
    """Who runs which version of what."""
    values = {"boards": component_boards((await sight.ask.briefs()).values(), sight.world), "active": "components"}
    if part_:
        return part(request, {"components": "parts/components.html"}, part_, sight.now(), **values)
    return page(request, "components.html", sight.now(), **values)


@router.get("/revisions")
async def revisions(request: Request, sight: Sight, part_: Annotated[PartName, Query(alias="part")] = "") -> Response:
    """What was read of the source, and what became of it."""
    now = sight.now()
    ground = await sight.ground()
    values = {
        "revisions": await sight.ask.revisions(REVISIONS),
        "source": ground.source,
        "good_at": sight.good_at,
        "one": None,
        "active": "revisions",
    }
    if part_:
        return part(request, {"revisions": "parts/revisions.html"}, part_, now, **values)
    return page(request, "revisions.html", now, **values)


@router.get("/revisions/{revision}")
async def one_revision(
    request: Request,
    sight: Sight,
    revision: Annotated[str, Path(max_length=200)],
    part_: Annotated[PartName, Query(alias="part")] = "",
) -> Response:
    """What became of one: here leads the link at its commit. All whom it changed, and all that is wrong with it."""
    found = await sight.ask.revision(revision)
    if found is None:
        raise HTTPException(404, "There is no such revision, or it is not remembered any more.")
    ground = await sight.ground()
    values = {
        "revisions": (found,),
        "source": ground.source,
        "good_at": sight.good_at,
        "one": found,
        "active": "revisions",
    }
    if part_:
        return part(request, {"revisions": "parts/revisions.html"}, part_, sight.now(), **values)
    return page(request, "revisions.html", sight.now(), **values)


@router.get("/nodes")
async def nodes(request: Request, sight: Sight, part_: Annotated[PartName, Query(alias="part")] = "") -> Response:
    """Where machines stand, and how much room is left."""
    values = {"nodes": await node_boards(sight.store, sight.world, sight.now()), "active": "nodes"}
    if part_:
        return part(request, {"nodes": "parts/nodes.html"}, part_, sight.now(), **values)
    return page(request, "nodes.html", sight.now(), **values)
