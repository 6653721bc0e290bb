"""What people and programs are shown of a world: the API and the pages over ASGI, plans and descriptions as text and as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI
from rich.console import Console

from api.access.access import Access
from api.commands import describe, events
from api.models import TesterWhole
from api.plan_view import show_plan
from api.planning import Planned
from api.server import make_app
from api.window import NotOpen, Window
from controller.admission import Admission
from controller.queries import Queries
from controller.running import Controller
from tests.worlds.loop import VirtualClock
from tests.worlds.rig import Rig

API = "/api/v1"
OF_EACH = f"{API}/testers/{{}}"
OF_ONE = tuple(
    f"{where}/{{}}{what}"
    for where, what in (
        *((f"{API}/testers", what) for what in ("/plan", "/logs", "/events", "/logs/hero_books")),
        ("/testers", ""),
    )
)
OF_THE_FLEET = (
    *(f"{API}/testers", f"{API}/events", f"{API}/fleet", f"{API}/nodes", f"{API}/components", f"{API}/revisions"),
    *("/metrics", "/readyz", "/", "/events", "/components", "/revisions", "/nodes", f"{API}/testers/nobody/logs"),
)
WORDS = 0.1
"""How often the commands are tried as well: to lay out tables costs more than all that stands in them."""
PATIENCE = 600.0
"""Virtual seconds for one answer: whoever asks may wait for what a life that was ended had begun."""


def paths(names: Sequence[str], chance: random.Random, *, more: bool = True) -> list[str]:
    """What is asked for by whoever looks at these testers: all that is known of each; and `more`: one thing beside of one, and
    one of the fleet's. Which ones is chance: every world asks others."""
    found = [OF_EACH.format(name) for name in names]
    if more:
        found.append(chance.choice(OF_THE_FLEET))
    if more and names:
        found.append(chance.choice(OF_ONE).format(chance.choice(names)))
    return found


async def shown(rig: Rig, chance: random.Random, names: Sequence[str], *, more: bool = True) -> dict[str, str]:
    """Where → what it says; now and then also in the commands' words."""
    told_in_words = more and names and chance.random() < WORDS
    said = await commands(rig, chance.choice(names)) if told_in_words else {}
    app, present = _app()
    present.rig = rig
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        said |= await _answers(client, paths(names, chance, more=more))
    return said


async def _answers(client: httpx.AsyncClient, asked: Sequence[str]) -> dict[str, str]:
    return {f"GET {path}": await _answer(client, path) for path in asked}


class _Present(Window):
    """The window of whatever life is lived now."""

    def __init__(self) -> None:
        object.__setattr__(self, "rig", None)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def controller(self) -> Controller:  # type: ignore[override]
        return self.rig.controller  # type: ignore[attr-defined, no-any-return]


@cache
def _app() -> tuple[FastAPI, Any]:
    """One for all worlds of a process: an app puts its routes together when it is first asked, which takes longer than the rest.
    On this machine everybody may look, so that nobody's token is looked up."""
    present = _Present()
    access = Access(Admission(None, VirtualClock()), "http://127.0.0.1:8484")  # type: ignore[arg-type]
    return make_app(present, access=access), present


async def _answer(client: httpx.AsyncClient, path: str) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            return (await client.get(path)).text
    except TimeoutError:
        return ""


async def commands(rig: Rig, name: str) -> dict[str, str]:
    """`testerctl describe`, `events` and `plan` of a tester, as text and as JSON."""
    detail = await Queries(rig.store).tester(name)
    if detail is None:
        return {}
    without_events = replace(detail, events=())  # they would go to standard output
    said = {
        f"describe {name}": printed(lambda console: describe._show(console, without_events, rig.clock.now())),
        f"describe {name} as JSON": TesterWhole.of(detail).model_dump_json(),
        f"events {name}": "\n".join(events.line(one).plain for one in detail.events),
    }
    with contextlib.suppress(NotOpen):
        said[f"plan {name}"] = await planned(rig, name)
    return said


async def planned(rig: Rig, name: str) -> str:
    """`testerctl plan`, as text. Raises what the world answers."""
    found = await Window(rig.controller).plan(name)
    assert found is not None
    return printed(lambda console: show_plan(console, Planned(found)))


def printed(show: Callable[[Console], None]) -> str:
    text = io.StringIO()
    show(Console(file=text, width=400))
    return text.getvalue()
