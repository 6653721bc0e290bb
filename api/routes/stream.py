"""What changes, as it changes: server-sent events, each naming whose it was. Who wants to know what asks for it then.

Every event has an id; a browser that comes back tells the last one that it heard, and goes on from there. When that is too
long ago, or of another process, it is told to look at everything anew (`reset`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from api.access.who import Viewer, viewer_of
from api.models import Problem
from api.operation_names import short_name
from api.routes.access import Through
from api.window import Window
from controller.news import News, Piece

BEAT: Final = timedelta(seconds=15)
"""So often something is sent at least, so that nobody between us takes the line for dead, and who left is noticed."""

RETRY_MS: Final = 2000
MOST: Final = 200
"""Streams at once; each is a task and a position, no more."""

MOST_OF_ONE: Final = 50
"""Of them for one person, or one token: nobody keeps the others out."""

router = APIRouter(prefix="/api/v1", tags=["stream"], generate_unique_id_function=short_name)

After = Annotated[str, Query(max_length=64, description="A position, as a fleet's answer or an event's id tells it.")]
LastEventId = Annotated[str, Header(max_length=64, description="What a browser sends when it comes back.")]
STREAM: Final = {
    "content": {
        "text/event-stream": {"example": 'event: change\nid: 1f3a-7\ndata: {"kind": "tester", "name": "alice"}\n\n'}
    }
}


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: STREAM, 503: {"model": Problem, "description": "Too many follow already."}},
)
async def stream(
    request: Request, window: Through, after: After = "", last_event_id: LastEventId = ""
) -> StreamingResponse:
    """`change` events, each with `kind` (tester, fleet, event, revision) and `name`; `ready` at once, with the position; `reset`
    when what came before is not known any more."""
    open_now: set[Place] = request.app.state.streams
    me = Place(viewer_of(request))
    if not has_room(open_now, me):
        raise HTTPException(503, "too many follow the changes already", {"Retry-After": "30"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _followed(window, last_event_id or after, open_now, me), media_type="text/event-stream", headers=headers
    )


@dataclass(frozen=True, eq=False)
class Place:
    """One stream, and whose it is."""

    viewer: Viewer | None


def has_room(open_now: Set[Place], one: Place) -> bool:
    """Whether one more may follow. On a machine where nobody has to prove who they are, all are one."""
    mine = sum(each.viewer == one.viewer for each in open_now)
    return len(open_now) < MOST and (mine < MOST_OF_ONE or one.viewer is None or one.viewer.how == "here")


async def _followed(window: Window, position: str, open_now: set[Place], me: Place) -> AsyncIterator[bytes]:
    if not has_room(open_now, me):  # others came at the same moment
        yield f"retry: {15 * RETRY_MS}\n\n".encode()
        return
    open_now.add(me)
    try:
        async for piece in follow(window.news, position, window.controller.stop):
            yield piece
    finally:
        open_now.discard(me)


async def follow(news: News, position: str, stop: asyncio.Event, beat: timedelta = BEAT) -> AsyncIterator[bytes]:
    """From a position on, "" for now, until `stop`."""
    known = news.since(position) if position else ()
    yield f"retry: {RETRY_MS}\n\n".encode()
    if known is None:
        position, known = news.position, ()
        yield _event("reset", position, {})
    elif not known:
        position = position or news.position
        yield _event("ready", position, {})
    while not stop.is_set():
        for piece in known:
            yield _told(piece)
            position = piece.position
        if not await _more(news, position, stop, beat) and not stop.is_set():
            yield b": still here\n\n"
        found = news.since(position)
        if found is None:
            position = news.position
            yield _event("reset", position, {})
        known = found or ()


async def _more(news: News, position: str, stop: asyncio.Event, beat: timedelta) -> bool:
    """Whether there is more, at the latest after a beat."""
    waits = [asyncio.ensure_future(news.beyond(position)), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, timeout=beat.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        return waits[0].done()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _told(piece: Piece) -> bytes:
    return _event("change", piece.position, {"kind": piece.topic.kind, "name": piece.topic.name})


def _event(name: str, position: str, data: dict[str, str]) -> bytes:
    """JSON keeps every line break inside, so that no name can end the event."""
    return f"event: {name}\nid: {position}\ndata: {json.dumps(data)}\n\n".encode()
