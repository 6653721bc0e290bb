"""The two cookies: one of a session, one of a sign-in under way. Sealed, out of every script's reach, and ours alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

SESSION: Final = "testers-session"
SIGN_IN: Final = "testers-sign-in"


@dataclass(frozen=True, slots=True)
class Jar:
    """`secure`: cookies travel over https only, and their names say so: browsers take a `__Host-` name from nobody but us."""

    secure: bool

    def name(self, kind: str) -> str:
        return f"__Host-{kind}" if self.secure else kind

    def get(self, request: Request, kind: str) -> str:
        """ "" when there is none."""
        return request.cookies.get(self.name(kind), "")

    def put(self, answer: Response, kind: str, value: str, lives: timedelta) -> None:
        seconds = int(lives.total_seconds())
        answer.set_cookie(
            self.name(kind), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def drop(self, answer: Response, kind: str) -> None:
        answer.delete_cookie(self.name(kind), path="/", secure=self.secure, httponly=True, samesite="lax")
