"""`make bench-ready`: how long one cold tester takes, beside what nobody can avoid and beside the way by hand.

Three figures, all in simulated seconds of the same seed:
(a) the example fleet's alice, from her saved file to Ready, by the whole controller;
(b) the longest chain of unavoidable waits, computed from what the simulator drew for (a) (`tests/bench/chain.py`);
(c) the same steps one after the other in another fresh world, really run (`tests/bench/by_hand.py`).

In virtual time, and for eight seeds, unless told otherwise: `--sockets` is one seed over real HTTP and real SSH. Figures are
printed, never asserted, but for one seed's in `tests/bench/test_virtual.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from tests.bench import sockets, virtual
from tests.bench.figures import Figures, in_short, in_short_json

SEEDS = tuple(range(1, 9))


def measured(options: argparse.Namespace, root: Path) -> list[Figures]:
    """One seed's, or those of all."""
    if options.sockets:
        return [asyncio.run(sockets.measure(root, options.speed, options.seed or SEEDS[0]))]
    return virtual.all_of(root, (options.seed,) if options.seed else SEEDS)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ready", description="One cold tester, measured.")
    parser.add_argument("--seed", type=int, help=f"chance of both worlds (default: {SEEDS[0]} to {SEEDS[-1]}, each)")
    parser.add_argument("--sockets", action="store_true", help="over real HTTP and SSH, one seed: takes minutes")
    speed = f"with --sockets: simulated seconds in a real one (default {sockets.SPEED:g})"
    parser.add_argument("--speed", type=float, default=sockets.SPEED, help=speed)
    parser.add_argument("--events", action="store_true", help="first all that the controller told, and when")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="bench-ready-") as root:
        runs = measured(options, Path(root))
    if options.events:
        print("".join("\n".join((f"seed {run.settings['seed']}", *run.told, "\n")) for run in runs))
    one = len(runs) == 1
    told = json.dumps(runs[0].as_json() if one else in_short_json(runs), indent=2)
    worst = max(runs, key=lambda run: run.to_chain)
    print(worst.as_text() if one else f"{in_short(runs)}\n\nThe worst of them:\n\n{worst.as_text()}")
    print(f"\n{told}")
    if options.json is not None:
        options.json.write_text(told + "\n")


if __name__ == "__main__":
    main()
