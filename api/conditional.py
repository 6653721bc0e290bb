"""Reads of the API: each answer says what it is (ETag), so that who has it already is told so in a few bytes (304, RFC 9110), and
what nobody understands is refused rather than passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.operation_names import short_name

POSITION = "Stream-Position"
"""The header that tells from where the stream has what changes after this answer."""

KEPT = "private, no-cache"
"""May be kept by who asked, and must be asked for again before it is used."""


class ConditionalRoute(APIRoute):
    """The mark is the digest of what is answered: equal marks, equal bytes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer, known = super().get_route_handler(), self._parameters()

        async def answered(request: Request) -> Response:
            refuse_strange(request, known)
            position = request.app.state.window.news.position  # before anything is read, so that nothing is missed
            found = conditional(request, await answer(request))
            found.headers[POSITION] = position
            return found

        return answered

    def _parameters(self) -> frozenset[str] | None:
        """Those that there are; None where a model knows them, which refuses others by itself."""
        asked = self.dependant.query_params
        if any(isinstance(kind := each.field_info.annotation, type) and issubclass(kind, BaseModel) for each in asked):
            return None
        return frozenset(each.alias for each in asked)


def refuse_strange(request: Request, known: frozenset[str] | None) -> None:
    """A misspelt filter that is passed over would answer with what was not asked for. Raises HTTPException 422."""
    strange = sorted(set(request.query_params) - known) if known is not None else []
    if strange:
        there = f"there are {', '.join(sorted(known or ()))}" if known else "there are none"
        raise HTTPException(422, f"there is no parameter {', '.join(strange)[:200]}; {there}")


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
    options: dict[str, Any] = {"tags": [tag]} if tag else {}
    return APIRouter(prefix=prefix, route_class=ConditionalRoute, generate_unique_id_function=short_name, **options)
