"""How routes reach the window that they look through."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from api.window import Window


def _window(request: Request) -> Window:
    return cast(Window, request.app.state.window)


Through = Annotated[Window, Depends(_window)]
