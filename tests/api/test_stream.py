"""The stream of changes: over a real connection, with resume, and ending with the controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.access.who import Viewer
from api.routes import stream as stream_route
from api.routes.stream import MOST, MOST_OF_ONE, Place, follow, has_room
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.news import News
from controller.records import AddEvent, Condition, Event, Phase, PutCondition, SetStatus, Status
from controller.running import Controller
from tests.controller.fakes import START

PATIENCE = 30.0


@dataclass
class Told:
    """One event as a browser gets it."""

    event: str
    id: str
    data: dict[str, Any]


@asynccontextmanager
async def served(controller: Controller) -> AsyncIterator[httpx.AsyncClient]:
    sock, where = bound(place("127.0.0.1:0"))
    serving = asyncio.ensure_future(serve(make_app(Window(controller)), sock, controller.stop))
    try:
        async with httpx.AsyncClient(base_url=where.url, trust_env=False, timeout=PATIENCE) as client:
            yield client
    finally:
        controller.stop.set()
        await serving


async def events_in(answer: httpx.Response) -> AsyncIterator[Told]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def change(name: str, progress: int = 1) -> SetStatus:
    return SetStatus(name, Phase.PROGRESSING, progress, "", 1, None)


async def test_a_change_is_told_as_soon_as_it_is_written(controller: Controller) -> None:
    async with served(controller) as client, client.stream("GET", "/api/v1/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = events_in(answer)
        ready = await anext(told)
        assert (ready.event, ready.data) == ("ready", {})
        await controller.store.write(change("alice"))
        first = await anext(told)
        assert (first.event, first.data) == ("change", {"kind": "tester", "name": "alice"})
        await controller.store.write(AddEvent(Event("bob", "machine", "Created", "x", START)))
        assert (await anext(told)).data == {"kind": "event", "name": "bob"}


@pytest.mark.parametrize("how", ["header", "after"])
async def test_who_comes_back_goes_on_where_it_was(controller: Controller, how: str) -> None:
    async with served(controller) as client:
        async with client.stream("GET", "/api/v1/stream") as answer:
            position = (await anext(events_in(answer))).id
        await controller.store.write(change("alice"))
        await controller.store.write(change("bob"))
        given = {"headers": {"Last-Event-ID": position}} if how == "header" else {"params": {"after": position}}
        async with client.stream("GET", "/api/v1/stream", **given) as answer:
            told = events_in(answer)
            found = [await anext(told), await anext(told)]
    assert [one.data["name"] for one in found] == ["alice", "bob"]


async def test_an_answer_tells_from_where_the_stream_goes_on(controller: Controller) -> None:
    async with served(controller) as client:
        position = (await client.get("/api/v1/testers")).headers["stream-position"]
        await controller.store.write(change("alice"))
        async with client.stream("GET", "/api/v1/stream", params={"after": position}) as answer:
            assert (await anext(events_in(answer))).data["name"] == "alice"


async def test_what_is_too_long_ago_or_anothers_begins_anew(controller: Controller) -> None:
    async with served(controller) as client:
        async with client.stream("GET", "/api/v1/stream", headers={"Last-Event-ID": "0123abcd-7"}) as answer:
            told = events_in(answer)
            reset = await anext(told)
            assert reset.event == "reset"
            await controller.store.write(change("alice"))
            assert (await anext(told)).data["name"] == "alice"
        async with client.stream("GET", "/api/v1/stream", headers={"Last-Event-ID": reset.id}) as answer:
            assert (await anext(events_in(answer))).event == "change"


async def test_no_name_can_end_an_event(controller: Controller) -> None:
    hostile = 'x"\n\nevent: reset\ndata: {}\n\n'
    async with served(controller) as client, client.stream("GET", "/api/v1/stream") as answer:
        told = events_in(answer)
        await anext(told)
        await controller.store.write(PutCondition(Condition(hostile, "Ready", Status.TRUE, "x", "", 1, START)))
        await controller.store.write(AddEvent(Event(hostile, "x", "x", "x", START)))
        assert (await anext(told)).data == {"kind": "tester", "name": hostile}
        assert (await anext(told)).data == {"kind": "event", "name": hostile}


async def test_streams_end_with_the_controller_and_not_after_its_grace(controller: Controller) -> None:
    async with served(controller) as client, client.stream("GET", "/api/v1/stream") as answer:
        told = events_in(answer)
        await anext(told)
        controller.stop.set()
        assert [one async for one in told] == []


async def test_no_more_follow_than_may_and_who_left_makes_room(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_route, "MOST", 1)
    async with served(controller) as client:
        async with client.stream("GET", "/api/v1/stream") as answer:
            events = events_in(answer)  # held: one that nobody holds is closed, and its stream with it
            await anext(events)
            refused = await client.get("/api/v1/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        async with asyncio.timeout(PATIENCE):
            while True:
                async with client.stream("GET", "/api/v1/stream") as answer:
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.05)


def test_nobody_takes_all_the_places() -> None:
    mik, token, here = Viewer("mik", "forge"), Viewer("mik", "token"), Viewer("somebody", "here")
    taken = {Place(mik) for _ in range(MOST_OF_ONE)}
    assert not has_room(taken, Place(mik))
    assert has_room(taken, Place(token))
    assert has_room({Place(here) for _ in range(MOST - 1)}, Place(here))
    assert not has_room({Place(here) for _ in range(MOST)}, Place(here))
    assert has_room({*list(taken)[1:]}, Place(mik))


async def test_who_comes_at_the_same_moment_finds_the_places_taken_too(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them may have asked before the first had its place."""
    monkeypatch.setattr(stream_route, "MOST", 1)
    me, other, taken = Place(None), Place(None), set[Place]()
    first = stream_route._followed(Window(controller), "", taken, me)
    await anext(first)
    assert [piece async for piece in stream_route._followed(Window(controller), "", taken, other)] == [
        b"retry: 30000\n\n"
    ]
    await first.aclose()  # type: ignore[attr-defined]
    assert taken == set()


async def test_a_change_of_a_thousand_testers_is_a_thousand_names_once() -> None:
    news, stop = News(), asyncio.Event()
    start = news.position
    for _ in range(3):
        for number in range(1000):
            news.hear((change(f"t{number}"),))
    told = follow(news, start, stop)
    await anext(told)  # how soon to come back
    names = [json.loads((await anext(told)).split(b"data: ")[1])["name"] for _ in range(1000)]
    assert len(set(names)) == 1000
    stop.set()
    assert [one async for one in told] == []


async def test_silence_is_broken_by_a_beat_and_forgotten_news_by_a_reset() -> None:
    news, stop = News(remembered=1), asyncio.Event()
    told = follow(news, "", stop, beat=timedelta(milliseconds=1))
    found = [await anext(told) for _ in range(3)]
    assert found[1].startswith(b"event: ready")
    assert found[2].startswith(b": ")
    news.hear((change("alice"),))
    news.hear((change("bob"), change("carol")))
    while (piece := await anext(told)).startswith(b": "):
        pass
    assert piece.startswith(b"event: reset")
    stop.set()
