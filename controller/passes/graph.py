"""Runs the steps of a pass along what they need of each other.

A step starts as soon as the facts it needs are recorded, at once with all others that can. When a step has learnt something
new, those that need it take another turn, unless theirs began when it was recorded already. The pass ends when nobody runs and
nobody who could run has anything new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.passes.turns import Turns


async def run_graph(
    turns: Turns, *, can_run: Callable[[str], bool], turn: Callable[[str], Awaitable[None]], news: asyncio.Event
) -> frozenset[str]:
    """Run every step (in the order of `turns.needs`, where order is free). Returns those that could not run.

    `news` is set whenever any step's facts change, so that nobody waits for the end of a turn whose facts are known already.
    `turn` must not raise OutsideErrors; what it raises ends the pass.
    """
    running: dict[asyncio.Task[None], str] = {}
    listening = asyncio.ensure_future(news.wait())
    try:
        while True:
            if listening.done():
                news.clear()
                listening = asyncio.ensure_future(news.wait())
            for name in turns.needs:
                if turns.is_due(name) and name not in running.values() and can_run(name):
                    turns.begin(name)
                    running[asyncio.ensure_future(_called(turn, name))] = name
            if not running:
                return turns.never_taken
            await asyncio.wait({*running, listening}, return_when=asyncio.FIRST_COMPLETED)
            for ended in [task for task in running if task.done()]:
                turns.end(running.pop(ended))
                ended.result()
    finally:
        for task in (*running, listening):
            task.cancel()
        await asyncio.gather(*running, listening, return_exceptions=True)


async def _called(turn: Callable[[str], Awaitable[None]], name: str) -> None:
    await turn(name)
