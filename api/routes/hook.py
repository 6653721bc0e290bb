"""The one thing that the windows take in: word from Forge that somebody has pushed. It only has the source read at once.

A delivery may come three times (V), and anybody may send one: it must be signed, is bounded in size and time, and is believed
in nothing but which branch it speaks of. What is read then comes from the repository itself.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from api.signatures import is_signed
from reconcilers.secret import Secret

LARGEST: Final = 1024 * 1024
"""Bytes of a delivery."""

PATIENCE: Final = timedelta(seconds=10)
"""So long a delivery may take to arrive."""

REMEMBERED: Final = 1000
"""So many deliveries are known again."""

DELIVERY: Final = ("x-forgejo-delivery", "x-gitea-delivery")
EVENT: Final = ("x-forgejo-event", "x-gitea-event")

router = APIRouter()


class Heard(BaseModel):
    """What was done about a delivery."""

    done: str


@dataclass
class Doorbell:
    """`ring` has the source read now, `ring_pulls` has pull requests looked at. `branch` is the one that the source follows."""

    secret: Secret
    branch: str
    ring: Callable[[], None]
    ring_pulls: Callable[[], None] = lambda: None
    _heard: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def is_new(self, delivery: str) -> bool:
        """Whether a delivery is heard for the first time."""
        if delivery in self._heard:
            return False
        self._heard[delivery] = None
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
        return True


@router.post("/hooks/forge", status_code=202, responses={401: {}, 404: {}, 408: {}, 413: {}})
async def pushed(request: Request) -> Heard:
    """A signed webhook of Forge. `push`: the source is read at once if it speaks of our branch; `pull_request`: it is planned."""
    bell: Doorbell | None = getattr(request.app.state, "doorbell", None)
    if bell is None:
        raise HTTPException(404, "no webhook is expected here: start the controller with --webhook-secret")
    body = await _body(request)
    if not is_signed(body, dict(request.headers), bell.secret):
        raise HTTPException(401, "the delivery is not signed with the secret of this controller")
    delivery = _first(request, DELIVERY)
    if not delivery:
        raise HTTPException(400, "the delivery has no id")
    if not bell.is_new(delivery):
        return Heard(done="nothing: this delivery was heard before")
    if _first(request, EVENT).startswith("pull_request"):
        bell.ring_pulls()
        return Heard(done="pull requests are looked at now")
    if _first(request, EVENT) != "push" or _ref_of(body) != f"refs/heads/{bell.branch}":
        return Heard(done=f"nothing: it is no push to {bell.branch}")
    bell.ring()
    return Heard(done="the source is read now")


async def _body(request: Request) -> bytes:
    """All of it. Raises HTTPException 413 when it is too large, 408 when it is too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST:
                    raise HTTPException(413, f"a delivery has at most {LARGEST // 1024**2} MiB")
    except TimeoutError:
        raise HTTPException(408, "the delivery takes too long to arrive") from None
    return bytes(body)


def _first(request: Request, names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := request.headers.get(name, "").strip())), "")


def _ref_of(body: bytes) -> str:
    """The ref that a push speaks of, "" when it speaks of none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(told.get("ref", "")) if isinstance(told, dict) else ""
