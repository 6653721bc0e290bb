"""`events --follow` and `get --watch`: they go on, and tell what is new once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from api.commands import events, get
from controller.queries import Queries
from controller.records import AddEvent, Event, Phase, PutTester, SetStatus
from controller.running import Controller
from reconcilers.clock import SystemClock
from tests.controller.fakes import START, a_tester, record_of

LIMIT = 60  # real seconds: generous, since only a failure waits so long
NEWS = Event("alice", "machine", "DriftRepaired", "hero_books was stopped", START)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(get, "LOOK_EVERY", 0.01)


async def until(capsys: pytest.CaptureFixture[str], words: str, said: list[str]) -> None:
    async with asyncio.timeout(LIMIT):
        while words not in "".join(said):
            await asyncio.sleep(0.01)
            said.append(capsys.readouterr().out)


async def while_running(work: Awaitable[None], do: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await do()
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_new_events_are_told_once_and_repeated_ones_with_their_count(
    controller: Controller, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Queries(controller.store)
    seen = {one.id: one.count for one in await ask.events()}
    said: list[str] = []

    async def news() -> None:
        await controller.store.write(AddEvent(NEWS))
        await until(capsys, "hero_books was stopped\n", said)
        await controller.store.write(AddEvent(replace(NEWS, at=START + timedelta(minutes=1))))
        await until(capsys, "hero_books was stopped (2 times)\n", said)

    await while_running(events._follow(ask, None, seen), news)
    assert "".join(said).count("hero_books") == 2
    assert "MachineCreated" not in "".join(said)


async def test_elsewhere_than_on_a_terminal_the_table_is_printed_again_when_something_changes(
    controller: Controller, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    async def changes() -> None:
        await until(capsys, "bob", said)
        await controller.store.write(SetStatus("bob", Phase.WAITING, 40, "machine: starting", 1, None))
        await until(capsys, "Waiting 40%", said)
        await controller.store.write(PutTester(record_of(a_tester("dave"), uid="z7k2p9")))
        await until(capsys, "dave", said)

    await while_running(get._watch(Queries(controller.store), (), SystemClock()), changes)
    assert "".join(said).count("TESTER") == 3
