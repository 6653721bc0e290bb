"""The measurement over real HTTP and real SSH, in two processes of the simulator.

The clock of the world runs faster than ours, so whatever our own machine needs (CPU, sockets, the shells that stand for the
tester's machine) counts that much longer than it would in earnest, in (a) and in (c).
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from specs.fleet import Limits
from tests.bench.by_hand import by_hand
from tests.bench.chain import PROXY, jobs_of, quickest_restart, waits_of
from tests.bench.cold import cold_run, components, settings_by_hand
from tests.bench.figures import Figures, seen_ends
from tests.bench.worlds import outside

SPEED = 4.0


async def measure(root: Path, speed: float, seed: int) -> Figures:
    """(a) and (c) run side by side, each in a world of its own."""
    async with outside(root / "one", speed, seed) as one, outside(root / "other", speed, seed) as other:
        began = time.process_time()
        cold, hand = await asyncio.gather(
            cold_run(one, root / "ours"), by_hand(other, components(), settings_by_hand())
        )
        cpu = time.process_time() - began
        one_log, draws = one.log(), one.draws()
    vm, gateway = of_books(root / "one" / "world.json")
    places = Limits().installs
    jobs = jobs_of(draws, vm["name"], components())
    waits = waits_of(vm, gateway, jobs, quickest_restart(draws, vm["name"], PROXY), places)
    settings = {"seed": seed, "installs at once": places, "speed": speed, "cpu seconds": round(cpu, 2), **_machine()}
    return Figures(cold.took, tuple(waits), hand.took, hand.paused, seen_ends(one_log, cold), settings, cold.told())


def of_books(state: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one VM and the one gateway of a world. Raises ValueError when there are more."""
    (daemon,) = json.loads(state.read_text())["daemons"].values()
    (vm,), (gateway,) = daemon["vms"].values(), daemon["gateways"].values()
    return vm, gateway


def _machine() -> dict[str, Any]:
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "at": when,
    }
