"""The simulator in a process of its own, which also writes down every latency that it draws.

`draws.jsonl` in its folder: what each draw was for, and how many simulated seconds came out. `epoch.json`: which simulated
moment is which real one, so that another process can tell the time of this world.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from examples.simulator.server import serving
from examples.simulator.world import World

DRAWS, EPOCH = "draws.jsonl", "epoch.json"


class Told(random.Random):
    """Chance that tells what came out of it."""

    def __init__(self, source: random.Random, tell: Callable[[float], None]) -> None:
        super().__init__()
        self.setstate(source.getstate())
        self._tell = tell

    def uniform(self, a: float, b: float) -> float:
        value = super().uniform(a, b)
        self._tell(value)
        return value


def record_draws(world: World, file: TextIO) -> None:
    """From now on every span that this world draws is written to the file."""
    draw = world.realm.chance

    def chance(*what: object) -> random.Random:
        def tell(value: float) -> None:
            file.write(json.dumps({"what": [str(each) for each in what], "seconds": value}) + "\n")

        return Told(draw(*what), tell)

    world.realm.chance = chance  # type: ignore[method-assign]


async def _serve(state: Path, speed: float, seed: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    world = World(seed, speed, state)
    (state / EPOCH).write_text(json.dumps({"real": time.time(), "simulated": world.clock.now(), "speed": speed}))
    with (state / DRAWS).open("a", buffering=1) as file:
        record_draws(world, file)
        async with serving(world, state):
            await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outside", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(options.state, options.speed, options.seed))


if __name__ == "__main__":
    main()
