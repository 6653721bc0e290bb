"""What generated clients call the operations of the API. Each router is told so: the app takes its routes as they are."""

from __future__ import annotations

from fastapi.routing import APIRoute


def short_name(route: APIRoute) -> str:
    """As the function is called."""
    return route.name
