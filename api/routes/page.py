"""The list for people at `/`: plain HTML that renews itself, without any script."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.page import page
from api.routes.access import Through

router = APIRouter()


@router.get("/", include_in_schema=False)
async def home(window: Through) -> HTMLResponse:
    """Every tester, how it stands, and the link to its cockpit."""
    ask = window.queries
    return HTMLResponse(page(await ask.fleet(), await ask.testers(), await ask.events(limit=15), window.clock.now()))
