"""The revisions of the source, and what became of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path, Query

from api.board_models import Revision, Revisions
from api.conditional import router as conditional_router
from api.examples import shown
from api.models import Problem
from api.routes.access import Through
from api.routes.asked import NO_WORLD, UNCHANGED, Answers

MOST = 200
"""So many are kept."""

UNKNOWN: Answers = {404: {"model": Problem, "description": "No such revision, or it is not remembered any more."}}
Which = Annotated[str, Path(description="A revision's whole id.", max_length=200)]
Most = Annotated[int, Query(ge=1, le=MOST, description="How many at most; no more are kept.")]

router = conditional_router(tag="revisions")


@router.get("/revisions", responses={**UNCHANGED, **NO_WORLD, **shown(Revisions)})
async def revisions(window: Through, limit: Most = 50) -> Revisions:
    """What was read of the source, newest first, with its outcome as of now."""
    return Revisions(items=tuple(map(Revision.of, await window.queries.revisions(limit))))


@router.get("/revisions/{revision}", responses={**UNCHANGED, **UNKNOWN, **shown(Revision)})
async def revision(revision: Which, window: Through) -> Revision:
    """One of them."""
    found = await window.queries.revision(revision)
    if found is None:
        raise HTTPException(404, f"there is no revision {revision!r}, or it is not remembered any more")
    return Revision.of(found)
