"""How pages reach what they show, and what they show when it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.pages.render import page
from api.window import Window
from controller.boards.ground import Ground, GroundKeeper
from controller.queries import Queries
from controller.store import Store, StoreError
from controller.world import World

log = logging.getLogger("api")

PartName = Annotated[str, Query(max_length=32, description="Only this part of the page.")]


@dataclass
class Boards:
    """One per app: what pages share."""

    window: Window
    _keeper: GroundKeeper = field(init=False)

    def __post_init__(self) -> None:
        self._keeper = GroundKeeper(lambda: self.window.news.position, lambda: self.ask.ground())

    @property
    def store(self) -> Store:
        return self.window.controller.store

    @property
    def ask(self) -> Queries:
        return self.window.queries

    @property
    def world(self) -> World | None:
        return self.window.controller.engine.world

    @property
    def world_error(self) -> str:
        return self.window.controller.engine.world_error

    @property
    def good_at(self) -> datetime | None:
        """When the source was read last without an error."""
        return self.window.controller.source.good_at

    def now(self) -> datetime:
        return self.window.clock.now()

    async def ground(self) -> Ground:
        """Raises StoreError."""
        return await self._keeper.now()


def _boards(request: Request) -> Boards:
    return cast(Boards, request.app.state.boards)


Sight = Annotated[Boards, Depends(_boards)]


class PageRoute(APIRoute):
    """Errors as pages too: a person asked."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            request.state.position = request.app.state.window.news.position  # before anything is read, as for an answer
            try:
                return await answer(request)
            except StoreError as error:
                return _trouble(request, 503, "The books cannot be read now", str(error))
            except HTTPException as error:
                return _trouble(request, error.status_code, "There is no such page", str(error.detail))
            except RequestValidationError:
                return _trouble(request, 422, "This address says something that no page understands", "")
            except Exception as error:
                log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__, exc_info=error)
                return _trouble(request, 500, "A mistake in the controller", "Its log has it.")

        return answered


def _trouble(request: Request, status: int, title: str, detail: str) -> Response:
    tester = request.path_params.get("name", "") if status == 404 else ""  # whose events are kept
    now = _boards(request).now()
    answer = page(request, "trouble.html", now, title=title, detail=detail, tester=tester, active="")
    answer.status_code = status
    return answer


def page_router() -> APIRouter:
    """For pages: they are no part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=Response)
