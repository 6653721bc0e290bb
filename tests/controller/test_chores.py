"""The usual timetable: chores are done again and again, in the loop's own thread."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from controller.chores import Chore, scheduled

SOON = timedelta(milliseconds=10)
LIMIT = 30.0  # real seconds; only a failure waits so long


async def test_chores_are_done_again_and_again_in_the_loop() -> None:
    threads: list[int] = []
    thrice = asyncio.Event()

    async def work() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 3:
            thrice.set()

    chores = (Chore(lambda: work(), SOON), Chore(work, timedelta(days=1), jitter=timedelta(minutes=10)))
    async with asyncio.timeout(LIMIT):
        with scheduled(chores):
            await thrice.wait()
    assert set(threads) == {threading.get_ident()}
