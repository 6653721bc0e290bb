"""Cycles go once an hour, and the process is left as it was."""

from __future__ import annotations

import asyncio
import gc
import weakref

from controller.collector import EVERY, NEVER, collecting_seldom
from tests.worlds.loop import VirtualClock, in_virtual_time


class Knot:
    def __init__(self) -> None:
        self.own = self


@in_virtual_time
async def test_what_refers_to_itself_goes_within_the_hour() -> None:
    before = gc.get_threshold()
    async with collecting_seldom(VirtualClock()):
        assert gc.get_threshold()[2] == NEVER
        assert gc.isenabled(), "the young ones are walked through as ever"
        knot = weakref.ref(Knot())
        assert knot() is not None
        await asyncio.sleep(EVERY.total_seconds() + 1)
        assert knot() is None
    assert gc.get_threshold() == before
