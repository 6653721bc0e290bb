"""`/`: what needs a person, counts, capacity, and the testers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from api.pages.boards import Boards, Sight, page_router
from api.pages.render import page, part, query
from controller.boards.fleet import Sort, Wishes, fleet_board
from controller.boards.nodes import node_boards
from controller.records import Phase

PARTS = {
    "revision": "parts/fleet_revision.html",
    "needs": "parts/fleet_needs.html",
    "counts": "parts/fleet_counts.html",
    "capacity": "parts/fleet_capacity.html",
    "testers": "parts/fleet_testers.html",
}
SHOWN_NEEDS = 8
SHOWN_NODES = 6

router = page_router()


class Asked(BaseModel):
    """What the address says. What nobody understands is as if it were not said."""

    q: str = Field("", max_length=100)
    state: str = Field("", max_length=20)
    node: str = Field("", max_length=100)
    sort: str = Field("", max_length=20)
    p: int = Field(1, ge=1, le=100_000)
    part: str = Field("", max_length=32)


@router.get("/")
async def fleet(request: Request, sight: Sight, asked: Annotated[Asked, Query()]) -> Response:
    """The fleet."""
    wishes = _wishes(asked)
    now, ground = sight.now(), await sight.ground()
    board = await fleet_board(ground, sight.store, sight.ask, wishes, world_error=sight.world_error, now=now)
    values = {
        "board": board,
        "wishes": wishes,
        "source": ground.source,
        "good_at": sight.good_at,
        "nodes": await _nodes(sight, asked.part),
        "shown_needs": SHOWN_NEEDS,
        "shown_nodes": SHOWN_NODES,
        "asked": lambda **changes: _query(wishes, **changes),
        "active": "fleet",
    }
    if asked.part:
        return part(request, PARTS, asked.part, now, **values)
    return page(request, "fleet.html", now, **values)


def _wishes(asked: Asked) -> Wishes:
    by = asked.sort.removeprefix("-")
    return Wishes(
        text=asked.q.strip(),
        phase=next((each for each in Phase if each.lower() == asked.state.lower()), None),
        node=asked.node,
        sort=Sort(by) if by in list(Sort) else Sort.NAME,
        descending=asked.sort.startswith("-"),
        page=asked.p,
    )


def _query(wishes: Wishes, **changes: object) -> str:
    """The address of the same list with something changed; another list begins at its first page."""
    sort = f"{'-' if wishes.descending else ''}{wishes.sort}"
    said = {
        "q": wishes.text,
        "state": wishes.phase or "",
        "node": wishes.node,
        "sort": "" if sort == Sort.NAME else sort,
        **changes,
    }
    if said.get("sort") == Sort.NAME:
        said["sort"] = ""
    return query(**said)


async def _nodes(sight: Boards, asked_part: str) -> tuple[object, ...]:
    """Daemons are asked only for what shows them."""
    if asked_part not in ("", "capacity"):
        return ()
    return await node_boards(sight.store, sight.world, sight.now())
