"""The one thing that the windows take in: word from Forge that somebody has pushed. It only has the source read at once.

A delivery may come three times (V), and anybody may send one: it must be signed, is bounded in size, time and number, and is
believed in nothing but which branch it speaks of. What is read then comes from the repository itself. Its id is not signed: who
sends what they overheard under ids of their own has the source read no more often than it is read anyway.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from api.operation_names import short_name
from api.signatures import HEADERS, is_signed
from reconcilers.clock import Clock, SystemClock
from reconcilers.secret import Secret

LARGEST: Final = 1024 * 1024
"""Bytes of a delivery."""

PATIENCE: Final = timedelta(seconds=10)
"""So long a delivery may take to arrive."""

REMEMBERED: Final = 1000
"""So many deliveries are known again."""

SAME_AGAIN: Final = timedelta(minutes=1)
"""Before that the same body under another id tells nothing new; so often the source is read without any word, too."""

AT_ONCE: Final = 32
"""Deliveries that may be arriving; each holds up to LARGEST until its signature can be checked."""

DELIVERY: Final = ("x-forgejo-delivery", "x-gitea-delivery")
EVENT: Final = ("x-forgejo-event", "x-gitea-event")

REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "It has no id, or broke off."},
    401: {"description": "It is not signed with the secret of this controller."},
    404: {"description": "None is expected here."},
    408: {"description": "It took more than ten seconds to arrive."},
    413: {"description": "It has more than 1 MiB."},
    503: {"description": "Too many arrive at once."},
}

router = APIRouter(generate_unique_id_function=short_name)


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
    clock: Clock = field(default_factory=SystemClock)
    arriving: int = 0
    _heard: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _bodies: OrderedDict[bytes, datetime] = field(default_factory=OrderedDict)

    def is_new(self, delivery: str, body: bytes) -> bool:
        """Whether a delivery is heard for the first time, and its body for the first time in a while."""
        now, digest = self.clock.now(), hashlib.sha256(body).digest()
        last = self._bodies.get(digest)
        if delivery in self._heard or (last is not None and timedelta(0) <= now - last < SAME_AGAIN):
            return False
        self._heard[delivery] = None
        self._bodies[digest] = now
        self._bodies.move_to_end(digest)
        for memory in (self._heard, self._bodies):
            if len(memory) > REMEMBERED:
                memory.popitem(last=False)
        return True


@router.post("/hooks/forge", status_code=202, responses=REFUSALS, tags=["webhook"])
async def pushed(request: Request) -> Heard:
    """A signed webhook of Forge. `push`: the source is read at once if it speaks of our branch; `pull_request`: it is planned."""
    bell: Doorbell | None = getattr(request.app.state, "doorbell", None)
    if bell is None:
        raise HTTPException(404, "no webhook is expected here: start the controller with --webhook-secret")
    if not any(request.headers.get(name) for name in HEADERS):
        raise HTTPException(401, "the delivery is not signed")
    body = await _body(request, bell)
    if not is_signed(body, dict(request.headers), bell.secret):
        raise HTTPException(401, "the delivery is not signed with the secret of this controller")
    delivery = _first(request, DELIVERY)
    if not delivery:
        raise HTTPException(400, "the delivery has no id")
    if not bell.is_new(delivery, body):
        return Heard(done="nothing: this delivery was heard before")
    if _first(request, EVENT).startswith("pull_request"):
        bell.ring_pulls()
        return Heard(done="pull requests are looked at now")
    if _first(request, EVENT) != "push" or _ref_of(body) != f"refs/heads/{bell.branch}":
        return Heard(done=f"nothing: it is no push to {bell.branch}")
    bell.ring()
    return Heard(done="the source is read now")


async def _body(request: Request, bell: Doorbell) -> bytes:
    """All of it. Raises HTTPException 413 when it is too large, 408 when it is too slow, 503 when too many come at once."""
    if bell.arriving >= AT_ONCE:
        raise HTTPException(503, "too many deliveries arrive at once", {"Retry-After": "10"})
    body = bytearray()
    bell.arriving += 1
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST:
                    raise HTTPException(413, f"a delivery has at most {LARGEST // 1024**2} MiB")
    except TimeoutError:
        raise HTTPException(408, "the delivery takes too long to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the delivery broke off") from None
    finally:
        bell.arriving -= 1
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
