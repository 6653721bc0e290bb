"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from api.operation_names import short_name
from api.routes.access import Through

router = APIRouter(tags=["health"], generate_unique_id_function=short_name)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(window: Through) -> Response:
    """What the controller counts, in the text format of Prometheus."""
    return Response(await window.metrics(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
