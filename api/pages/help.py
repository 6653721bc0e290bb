"""Pages that help: a broken spec, a Forge that does not answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request, Response

from api.pages.boards import PartName, Sight, page_router
from api.pages.render import page, part
from controller.boards.needs import Topic, needs, waits_for_forge

SHOWN = 50

router = page_router()

_PLACE = re.compile(r"^(?P<file>[^:\n]+?):(?P<line>\d+)(?::(?P<column>\d+))?:?\s+(?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One error of the specs. `file` "" where it has no place."""

    file: str
    line: str
    column: str
    text: str


@router.get("/help/specs")
async def specs(request: Request, sight: Sight, part_: Annotated[PartName, Query(alias="part")] = "") -> Response:
    """What is wrong with the specs, and what happens meanwhile."""
    ground = await sight.ground()
    source = ground.source
    values = {
        "source": source,
        "good_at": sight.good_at,
        "wrong": [_placed(each) for each in source.errors] if source is not None else [],
        "kept": [each for each in ground.records if each.source_error],
        "world_error": sight.world_error,
        "active": "",
    }
    if part_:
        return part(request, {"specs": "parts/help_specs.html"}, part_, sight.now(), **values)
    return page(request, "help_specs.html", sight.now(), **values)


@router.get("/help/forge")
async def forge(request: Request, sight: Sight, part_: Annotated[PartName, Query(alias="part")] = "") -> Response:
    """What waits for Forge, and what goes on without it."""
    now, ground = sight.now(), await sight.ground()
    need = next((each for each in needs(ground, "", now) if each.topic is Topic.FORGE), None)
    world = sight.world
    values = {
        "need": need,
        "url": world.fleet.spec.forge.url if world is not None else "",
        "waiting": waits_for_forge(ground)[:SHOWN],
        "count": len(waits_for_forge(ground)),
        "total": len(ground.records),
        "active": "",
    }
    if part_:
        return part(request, {"forge": "parts/help_forge.html"}, part_, now, **values)
    return page(request, "help_forge.html", now, **values)


def _placed(error: str) -> Wrong:
    found = _PLACE.match(error)
    if found is None:
        return Wrong("", "", "", error)
    return Wrong(found["file"], found["line"], found["column"] or "", found["text"])
