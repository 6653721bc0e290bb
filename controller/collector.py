"""Python's collector of cycles, told what it works for: many values that stay, and few cycles.

By itself it walks through everything whenever a quarter more has gathered: with ten thousand testers half a second at a time, in
which nobody's change is seen to, and a fifth of all work while they are looked at for the first time. Nearly everything here goes
when nobody refers to it any more; what does not is looked for once an hour.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from reconcilers.clock import Clock

EVERY: Final = timedelta(hours=1)
YOUNG: Final = (50_000, 20)
"""How many new values until the youngest are walked through, and how often until those are that have stayed."""
NEVER: Final = 1_000_000


@asynccontextmanager
async def collecting_seldom(clock: Clock) -> AsyncIterator[None]:
    """For a whole process."""
    before = gc.get_threshold()
    gc.set_threshold(*YOUNG, NEVER)
    hourly = asyncio.ensure_future(_hourly(clock))
    try:
        yield
    finally:
        hourly.cancel()
        gc.set_threshold(*before)


async def _hourly(clock: Clock) -> None:
    while True:
        await clock.sleep(EVERY)
        gc.collect()
