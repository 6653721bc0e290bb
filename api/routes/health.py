"""Whether the controller lives, and whether it can do its work: for whoever supervises it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.models import Alive, Ready
from api.operation_names import short_name
from api.routes.access import Through

router = APIRouter(tags=["health"], generate_unique_id_function=short_name)


@router.get("/healthz", responses={503: {"model": Alive, "description": "Testers are due, and nobody is taken up."}})
async def healthz(window: Through, response: Response) -> Alive:
    """The loop turns. When this says no, or does not answer, start the controller again."""
    found = window.alive()
    response.status_code = 200 if found.alive else 503
    return found


@router.get("/readyz", responses={503: {"model": Ready, "description": "Something is missing; `checks` says what."}})
async def readyz(window: Through, response: Response) -> Ready:
    """Store readable, source readable, world open. Starting again does not help; the checks say what does."""
    found = await window.ready()
    response.status_code = 200 if found.ready else 503
    return found
