"""Answers that say what they are (ETag), so that who has one already is told so in a few bytes (304, RFC 9110)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

POSITION = "Stream-Position"
"""The header that tells from where the stream has what changes after this answer."""

KEPT = "private, no-cache"
"""May be kept by who asked, and must be asked for again before it is used."""


class ConditionalRoute(APIRoute):
    """The mark is the digest of what is answered: equal marks, equal bytes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            position = request.app.state.window.news.position  # before anything is read, so that nothing is missed
            found = conditional(request, await answer(request))
            found.headers[POSITION] = position
            return found

        return answered


def conditional(request: Request, answer: Response) -> Response:
    """The answer with its mark, or 304 when who asks has it already."""
    if answer.status_code != 200 or isinstance(answer, StreamingResponse):
        return answer
    mark = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    headers = {"ETag": mark, "Cache-Control": KEPT}
    if knows(request.headers.get("if-none-match", ""), mark):
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


def knows(known: str, mark: str) -> bool:
    """Whether `If-None-Match` names a mark; weak ones will do."""
    named = [each.strip().removeprefix("W/") for each in known.split(",")]
    return known.strip() == "*" or mark in named


def router(prefix: str = "/api/v1", tag: str = "") -> APIRouter:
    """For reads that may be asked for again and again."""
    return APIRouter(prefix=prefix, route_class=ConditionalRoute, tags=[tag] if tag else None)
