"""Errors as application/problem+json (RFC 9457), or as a page where a person asked for one; without anything that only a log
should hold."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from api.access import pages
from api.job_logs import NoLog
from api.models import Problem
from api.window import NotOpen
from controller.store import StoreError
from reconcilers.errors import OutsideError

log = logging.getLogger("api")

PROBLEM = "application/problem+json"
PROGRAMS = "/api/"
"""Addresses below are asked by programs, whatever they say that they understand."""

TITLES = {
    400: "This address is not answered",
    401: "Who are you?",
    403: "Not from there",
    404: "There is nothing here",
    405: "Nothing can be changed here",
    413: "Too much",
    414: "Too long an address",
    421: "Not under this name",
    422: "Not understood",
    429: "Too often",
    500: "A mistake in the controller",
    503: "Not just now",
}
"""What people read in the place of HTTP's own words."""


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(body.model_dump_json(), status, headers, PROBLEM)


def refusal(
    request: Request, status: int, detail: str, headers: dict[str, str] | None = None, way: str = "/"
) -> Response:
    """The same for whoever asks: a page for people, with a link to the fleet (`way`), a problem for programs."""
    if request.scope["path"].startswith(PROGRAMS) or "text/html" not in request.headers.get("accept", ""):
        return problem(status, detail, headers)
    title = TITLES.get(status, HTTPStatus(status).phrase)
    answer = pages.page(title, f"{detail[:1].upper()}{detail[1:]}.", status=status, link=(way, "To the fleet"))
    answer.headers.update(headers or {})
    return answer


def register(app: FastAPI) -> None:
    """Every error of the app becomes a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        nowhere = error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase
        detail = "there is nothing at this address; /openapi.json tells what there is" if nowhere else error.detail
        return refusal(request, error.status_code, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return refusal(request, 422, wrong)

    @app.exception_handler(StoreError)
    @app.exception_handler(NotOpen)
    async def unavailable(request: Request, error: StoreError | NotOpen) -> Response:
        return refusal(request, 503, str(error), {"Retry-After": "5"})

    @app.exception_handler(NoLog)
    async def nothing(request: Request, error: NoLog) -> Response:
        return problem(404, str(error))

    @app.exception_handler(OutsideError)
    async def outside(request: Request, error: OutsideError) -> Response:
        return problem(502, str(error))


def mistake(request: Request, error: Exception) -> Response:
    """What is said of what should never happen: nothing. The log has it."""
    log.error("%s %s failed: %s", request.method, request.scope["path"], type(error).__name__, exc_info=error)
    return refusal(request, 500, "a mistake in the controller; its log has it")
