"""The world's own clock: simulated seconds over the event loop's time, so that it runs faster than the real one,
or on a virtual loop.
"""

import asyncio
import datetime as dt

WORLD_BEGINS = 1_767_225_600.0
"""2026-01-01T00:00:00Z, in epoch seconds: the same for every new world, so that a seed tells everything."""


class WorldClock:
    """Simulated epoch seconds. `speed`: how many of them pass in one second of the event loop."""

    def __init__(self, speed: float = 60.0, start: float = WORLD_BEGINS) -> None:
        self.speed = speed
        self._start = start
        self._origin: float | None = None

    def now(self) -> float:
        """Simulated epoch seconds. Outside of an event loop time stands still."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._start
        if self._origin is None:
            self._origin = loop.time()
        return self._start + (loop.time() - self._origin) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Lets so many simulated seconds pass."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)

    async def sleep_until(self, moment: float) -> None:
        """Waits for a simulated moment (epoch seconds); returns at once when it has passed."""
        while (left := moment - self.now()) > 0:
            await self.sleep(left)


def real_time() -> dt.datetime:
    """The real time, for what real clients check against it: certificates."""
    return dt.datetime.now(dt.UTC)
