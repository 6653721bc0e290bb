"""Steps run at once where nothing stands between them, in order where something does."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from controller.passes.graph import run_graph
from controller.passes.turns import MOST_TURNS, Turns


async def test_independent_steps_run_at_once() -> None:
    together = asyncio.Barrier(2)

    async def turn(name: str) -> None:
        async with asyncio.timeout(5):
            await together.wait()

    await run_graph(Turns({"a": (), "b": ()}, lambda _: 0), can_run=lambda _: True, turn=turn, news=asyncio.Event())


async def test_a_step_runs_after_the_facts_that_it_needs() -> None:
    known: set[str] = set()
    order: list[str] = []

    async def turn(name: str) -> None:
        order.append(name)
        known.add(name)

    needs = {"c": ("b",), "b": ("a",), "a": ()}
    left = await run_graph(
        Turns(needs, lambda n: int(n in known)),
        can_run=lambda n: set(needs[n]) <= known,
        turn=turn,
        news=asyncio.Event(),
    )
    assert order == ["a", "b", "c"]
    assert left == frozenset()


async def test_those_that_could_not_run_are_told() -> None:
    async def turn(name: str) -> None: ...

    left = await run_graph(
        Turns({"a": (), "b": ("a",)}, lambda _: 0), can_run=lambda n: n == "a", turn=turn, news=asyncio.Event()
    )
    assert left == {"b"}


async def test_who_depends_on_a_change_takes_another_turn() -> None:
    versions: Counter[str] = Counter()
    turns: Counter[str] = Counter()

    async def turn(name: str) -> None:
        turns[name] += 1
        if name == "a" and turns["a"] == 1:
            await asyncio.sleep(0)
            versions["a"] += 1

    await run_graph(
        Turns({"a": (), "b": ("a",)}, lambda n: versions[n]), can_run=lambda _: True, turn=turn, news=asyncio.Event()
    )
    assert turns == {"a": 1, "b": 2}


async def test_who_began_when_a_change_was_known_takes_no_other_turn() -> None:
    news, known, turns = asyncio.Event(), set[str](), Counter[str]()
    b_has_ended = asyncio.Event()

    async def turn(name: str) -> None:
        turns[name] += 1
        if name == "b":
            b_has_ended.set()
            return
        known.add("a")
        news.set()
        async with asyncio.timeout(5):
            await b_has_ended.wait()

    await run_graph(
        Turns({"a": (), "b": ("a",)}, lambda n: int(n in known)),
        can_run=lambda n: n == "a" or "a" in known,
        turn=turn,
        news=news,
    )
    assert turns == {"a": 1, "b": 1}


async def test_nobody_waits_for_the_end_of_a_turn_whose_facts_are_known() -> None:
    news, known, b_is_there = asyncio.Event(), set[str](), asyncio.Event()

    async def turn(name: str) -> None:
        if name == "b":
            b_is_there.set()
            return
        known.add("a")
        news.set()
        async with asyncio.timeout(5):
            await b_is_there.wait()

    left = await run_graph(
        Turns({"a": (), "b": ("a",)}, lambda _: 0), can_run=lambda n: n == "a" or "a" in known, turn=turn, news=news
    )
    assert left == frozenset()


async def test_news_are_heard_once() -> None:
    news, asked = asyncio.Event(), Counter[str]()

    async def turn(name: str) -> None:
        news.set()
        for _ in range(50):
            await asyncio.sleep(0)

    def can_run(name: str) -> bool:
        asked[name] += 1
        return name == "a"

    await run_graph(Turns({"a": (), "b": ("a",)}, lambda _: 0), can_run=can_run, turn=turn, news=news)
    assert asked["b"] == 3  # at the start, with the news, at the end


async def test_steps_that_undo_each_other_do_not_run_for_ever() -> None:
    turns: Counter[str] = Counter()

    async def turn(name: str) -> None:
        turns[name] += 1

    await run_graph(
        Turns({"a": ("b",), "b": ("a",)}, lambda n: turns[n]), can_run=lambda _: True, turn=turn, news=asyncio.Event()
    )
    assert turns == {"a": MOST_TURNS, "b": MOST_TURNS}


async def test_a_step_that_breaks_ends_the_others() -> None:
    ended = asyncio.Event()

    async def turn(name: str) -> None:
        if name == "a":
            raise RuntimeError(name)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(RuntimeError):
        await run_graph(Turns({"b": (), "a": ()}, lambda _: 0), can_run=lambda _: True, turn=turn, news=asyncio.Event())
    assert ended.is_set()
