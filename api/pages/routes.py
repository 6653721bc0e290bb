"""All pages."""

from __future__ import annotations

from fastapi import FastAPI

from api.pages import fleet, help, lists, static, tester
from api.pages.boards import Boards
from api.window import Window


def add_pages(app: FastAPI, window: Window) -> None:
    """Pages and what they carry."""
    app.state.boards = Boards(window)
    for router in (fleet.router, tester.router, lists.router, help.router, static.router):
        app.router.routes.extend(router.routes)
