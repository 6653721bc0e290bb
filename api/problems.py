"""Errors of the read API as application/problem+json (RFC 9457), without anything that only a log should hold."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from api.job_logs import NoLog
from api.models import Problem
from api.window import NotOpen
from controller.store import StoreError
from reconcilers.errors import OutsideError

log = logging.getLogger("api")

PROBLEM = "application/problem+json"


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(body.model_dump_json(), status, headers, PROBLEM)


def register(app: FastAPI) -> None:
    """Every error of the app becomes a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return problem(422, wrong)

    @app.exception_handler(StoreError)
    @app.exception_handler(NotOpen)
    async def unavailable(request: Request, error: StoreError | NotOpen) -> Response:
        return problem(503, str(error), {"Retry-After": "5"})

    @app.exception_handler(NoLog)
    async def nothing(request: Request, error: NoLog) -> Response:
        return problem(404, str(error))

    @app.exception_handler(OutsideError)
    async def outside(request: Request, error: OutsideError) -> Response:
        return problem(502, str(error))


def mistake(method: str, path: str, error: Exception) -> Response:
    """What is said of what should never happen: nothing. The log has it."""
    log.error("%s %s failed: %s", method, path, type(error).__name__, exc_info=error)
    return problem(500, "a mistake in the controller; its log has it")
