"""What every part of the world shares: its clock, its seeded chance and the base of its public addresses."""

import datetime as dt
import hashlib
import random
from functools import lru_cache

from examples.simulator.clock import WorldClock
from examples.simulator.records import WorldState


class Realm:
    """Clock and chance. The same seed and the same calls draw the same values, also across a restart."""

    def __init__(self, state: WorldState, clock: WorldClock) -> None:
        self.state = state
        self.clock = clock

    @property
    def forge_url(self) -> str:
        return self.state.forge_url

    def now(self) -> float:
        return self.clock.now()

    def chance(self, *what: object) -> random.Random:
        """A generator that depends only on the seed and on what it is for."""
        return random.Random(":".join(map(str, (self.state.seed, *what))))

    def draw(self, length: int = 40) -> str:
        """A fresh string of hexadecimal digits."""
        self.state.drawn += 1
        digest = hashlib.sha512(f"{self.state.seed}:{self.state.drawn}".encode()).hexdigest()
        return digest[:length]

    def secret(self, purpose: str) -> str:
        """The same for every world of a seed, however much was drawn before: 40 hexadecimal digits."""
        return hashlib.sha512(f"{self.state.seed}:secret:{purpose}".encode()).hexdigest()[:40]

    def stamp(self, moment: float) -> str:
        """A simulated moment the way Forge writes it."""
        return _stamp(moment)


@lru_cache(maxsize=1024)  # most of what is told was made long ago
def _stamp(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
