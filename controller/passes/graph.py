"""Runs the steps of a pass along what they need of each other.

A step starts as soon as the facts it needs are recorded, at once with all others that can. When a step has learnt something
new, those that need it take another turn, unless theirs began when it was recorded already. The pass ends when nobody runs and
nobody who could run has anything new.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping

MOST_TURNS = (
    4  # of one step in one pass; more means that two steps undo each other, and the next pass comes soon enough
)


async def run_graph(
    needs: Mapping[str, tuple[str, ...]],
    *,
    can_run: Callable[[str], bool],
    turn: Callable[[str], Awaitable[None]],
    version: Callable[[str], int],
    news: asyncio.Event,
) -> frozenset[str]:
    """Run every step of `needs` (in its order, where order is free). Returns those that could not run.

    `version` tells how often a step's facts have changed; `news` is set whenever any step's do, so that nobody waits for the
    end of a turn whose facts are known already. `turn` must not raise OutsideErrors; what it raises ends the pass.
    """
    dependents = {name: {other for other, of in needs.items() if name in of} for name in needs}
    fresh = set(needs)
    knew: dict[str, tuple[int, ...]] = {}  # the versions of what it needs, when its last turn began
    turns: Counter[str] = Counter()
    running: dict[asyncio.Task[None], tuple[str, int]] = {}
    listening = asyncio.ensure_future(news.wait())
    try:
        while True:
            if listening.done():
                news.clear()
                listening = asyncio.ensure_future(news.wait())
            busy = {name for name, _ in running.values()}
            for name in needs:
                if name in fresh and name not in busy and turns[name] < MOST_TURNS and can_run(name):
                    fresh.discard(name)
                    turns[name] += 1
                    knew[name] = versions_of(needs[name], version)
                    running[asyncio.ensure_future(_called(turn, name))] = (name, version(name))
            if not running:
                return frozenset(name for name in fresh if turns[name] == 0)
            await asyncio.wait({*running, listening}, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in running if task.done()]
            for ended in sorted(done, key=lambda task: running[task][0]):
                name, before = running.pop(ended)
                ended.result()
                if version(name) != before:
                    fresh |= {each for each in dependents[name] if knew.get(each) != versions_of(needs[each], version)}
    finally:
        for task in (*running, listening):
            task.cancel()
        await asyncio.gather(*running, listening, return_exceptions=True)


def versions_of(steps: Iterable[str], version: Callable[[str], int]) -> tuple[int, ...]:
    """What a turn that begins now knows of the steps that it needs."""
    return tuple([version(step) for step in steps])


async def _called(turn: Callable[[str], Awaitable[None]], name: str) -> None:
    await turn(name)
