"""Who looks: what the guard has found out, and routes and pages read. They decide nothing by it: everybody may see the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastapi import Request

How = Literal["forge", "token", "here"]


@dataclass(frozen=True, slots=True)
class Viewer:
    """`how`: "forge", an admin of that account's name who signed in; "token", a program with the token of that name; "here",
    somebody on this machine while nobody has to prove who they are."""

    name: str
    how: How


def viewer_of(request: Request) -> Viewer | None:
    """None only where nobody needs to be known: the sign-in itself, health, the webhook."""
    found = getattr(request.state, "viewer", None)
    return found if isinstance(found, Viewer) else None
