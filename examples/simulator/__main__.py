"""`python -m examples.simulator --state DIR`: serves a make-believe world until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
from pathlib import Path

from examples.simulator.server import serving
from examples.simulator.tools import USUAL_SHELL
from examples.simulator.world import World


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    world = World(options.seed, options.speed, options.state, options.daemons)
    async with serving(world, options.state, options.shell) as addresses:
        print(
            f"the world runs; see {options.state / 'addresses.json'}, books at {addresses.control_url}/_sim/books",
            flush=True,
        )
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.simulator", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the world; made when missing")
    parser.add_argument("--speed", type=float, default=60.0, help="simulated seconds in a real one (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="chance of a new world (default: 1)")
    parser.add_argument("--daemons", type=int, default=1, help="hero_compute daemons of a new world (default: 1)")
    parser.add_argument(
        "--shell", default=USUAL_SHELL, help="the machines' shell: a path, or busybox (default: /bin/sh)"
    )
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
