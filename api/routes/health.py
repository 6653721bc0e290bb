"""Whether the controller lives, and whether it can do its work: for whoever supervises it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.models import Alive, Ready
from api.routes.access import Through

router = APIRouter()


@router.get("/healthz")
async def healthz(window: Through) -> Alive:
    """The loop turns. When this does not answer, start the controller again."""
    return window.alive()


@router.get("/readyz", responses={503: {"model": Ready, "description": "Something is missing; `checks` says what."}})
async def readyz(window: Through, response: Response) -> Ready:
    """Store readable, source readable, world open. Starting again does not help; the checks say what does."""
    found = await window.ready()
    response.status_code = 200 if found.ready else 503
    return found
