"""`make bench-ready`: how long one cold tester takes, beside what nobody can avoid and beside the way by hand.

Three figures, all in simulated seconds of the same seed:
(a) the example fleet's alice, from her saved file to Ready, by the whole controller over real HTTP and SSH;
(b) the longest chain of unavoidable waits, computed from what the simulator drew for (a) (`tests/bench/chain.py`);
(c) the same steps one after the other in another fresh world, really run (`tests/bench/by_hand.py`).

The clock of the world runs faster than ours, so whatever our own machine needs (CPU, sockets, the shells that stand for the
tester's machine) counts that much longer than it would in earnest, in (a) and in (c). Figures are printed, never asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from api.demo.folder import EXAMPLES
from specs.fleet import Limits
from specs.loading import load_folder
from tests.bench.by_hand import PAUSE, ByHand, by_hand
from tests.bench.chain import (
    PROXY,
    READY,
    SUPERVISOR,
    Wait,
    ends,
    jobs_of,
    longest,
    of_books,
    quickest_restart,
    waits_of,
)
from tests.bench.cold import TESTER, Cold, cold_run
from tests.bench.worlds import Entry, Outside, outside

SPEED, SEED = 4.0, 1
TARGET_CHAIN, TARGET_HAND = 1.1, 0.5
SETTINGS = ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN", "HERO_VOICE_URL", "SHARED_VOICE_TOKEN", "OPENROUTER_API_KEY")
LAST_CALL: Mapping[str, tuple[str, str]] = {
    "account": ("POST", "/api/v1/admin/users"),
    "machine": ("POST", "/rpc deploy_vm"),
    "gateway": ("POST", "/rpc deploy_webgateway"),
    "sign-in app": ("POST", "/api/v1/user/applications/oauth2"),
    "packages": ("apt-get", "install"),
    "hero_proc": ("lab", "service hero_proc start"),
    "front door": ("lab", "service hero_proxy start"),
    "listener": ("hero_proc", f"service restart {PROXY}"),
    "components": ("lab", "service"),
    READY: ("POST", "/emails"),
}
"""By which call a wait of the chain is seen to be over: method and the beginning of what was asked, the last such one."""


@dataclass(frozen=True)
class Figures:
    """One measurement; seconds are simulated, `cpu` is real. `lost`: by wait, how late it was over beyond the chain's."""

    ours: float
    waits: tuple[Wait, ...]
    hand: float
    paused: float
    cpu: float
    seen: Mapping[str, float]
    settings: Mapping[str, Any]
    told: tuple[str, ...]  # by the controller, each with its moment

    @property
    def least(self) -> float:
        return ends(self.waits)[READY]

    @property
    def chain(self) -> tuple[Wait, ...]:
        return longest(self.waits, READY)

    def as_json(self) -> dict[str, Any]:
        over = ends(self.waits)
        return {
            "ratios": {
                "oursToChain": round(self.ours / self.least, 3),
                "oursToByHand": round(self.ours / self.hand, 3),
                "oursToByHandWithoutPauses": round(self.ours / (self.hand - self.paused), 3),
            },
            "simulatedSeconds": {
                "ours": round(self.ours, 1),
                "chain": round(self.least, 1),
                "byHand": round(self.hand, 1),
                "byHandPauses": round(self.paused, 1),
            },
            "longestChain": [{"wait": each.name, "seconds": round(each.seconds, 1)} for each in self.chain],
            "timeline": [
                {"wait": name, "least": round(over[name], 1), "seen": round(at, 1), "late": round(at - over[name], 1)}
                for name, at in self.seen.items()
            ],
            "controllerCpuSeconds": round(self.cpu, 2),
            "measured": dict(self.settings),
        }

    def as_text(self) -> str:
        told = self.as_json()
        ratios, over = told["ratios"], ends(self.waits)
        lines = [
            f"one cold tester to Ready: {ratios['oursToChain']:.3f} x the longest chain of unavoidable waits "
            f"(target at most {TARGET_CHAIN}: {_met(ratios['oursToChain'] <= TARGET_CHAIN)})",
            f"                          {ratios['oursToByHand']:.3f} x the same steps by hand "
            f"(target below {TARGET_HAND}: {_met(ratios['oursToByHand'] < TARGET_HAND)}); "
            f"{ratios['oursToByHandWithoutPauses']:.3f} x when nobody pauses",
            "",
            f"(a) the controller    {self.ours:7.1f} simulated seconds",
            f"(b) the chain         {self.least:7.1f}  " + ", ".join(f"{w.name} {w.seconds:.1f}" for w in self.chain),
            f"(c) by hand           {self.hand:7.1f}  really run; {self.paused:.1f} of it pauses of {PAUSE:.0f} s after a start",
            "",
            f"{'wait':<14}{'at the least':>13}{'over at':>10}{'late':>8}",
        ]
        lines += [f"{name:<14}{over[name]:>13.1f}{at:>10.1f}{at - over[name]:>8.1f}" for name, at in self.seen.items()]
        speed = self.settings["speed"]
        lines += [
            "",
            f"the world's clock ran {speed:g} times ours: a real second of our machine counts {speed:g} simulated ones; "
            f"the controller used {self.cpu:.1f} real seconds of CPU",
            ", ".join(f"{name} {value}" for name, value in self.settings.items()),
        ]
        return "\n".join(lines)


def _met(holds: bool) -> str:
    return "met" if holds else "MISSED"


def seen_ends(log: Sequence[Entry], cold: Cold) -> dict[str, float]:
    """When each wait of the chain was over, as the world's log has it; the network when the controller says so."""
    ours = [each for each in log if cold.began <= each.time <= cold.ready and each.system != "machine:admin"]
    over = {"network": cold.reached - cold.began}
    for name, (method, what) in LAST_CALL.items():
        over[name] = max(e.time for e in ours if e.method == method and e.what.startswith(what)) - cold.began
    return dict(sorted(over.items(), key=lambda each: each[1]))


async def measure(root: Path, speed: float, seed: int) -> Figures:
    """(a) and (c) run side by side, each in a world of its own."""
    async with outside(root / "one", speed, seed) as one, outside(root / "other", speed, seed) as other:
        began = time.process_time()
        cold, hand = await asyncio.gather(cold_run(one, root / "ours"), _hand(other))
        cpu = time.process_time() - began
        one_log, draws = one.log(), one.draws()
    vm, gateway = of_books(root / "one" / "world.json")
    places = Limits().installs
    jobs = jobs_of(draws, vm["name"], components())
    waits = waits_of(vm, gateway, jobs, quickest_restart(draws, vm["name"], PROXY), places)
    settings = {"speed": speed, "seed": seed, "installs at once": places, **_machine()}
    told = tuple(f"{at - cold.began:8.1f} {e.step:<20} {e.reason:<20} {e.message[:100]}" for at, e in cold.events)
    return Figures(cold.took, tuple(waits), hand.took, hand.paused, cpu, seen_ends(one_log, cold), settings, told)


async def _hand(world: Outside) -> ByHand:
    return await by_hand(world, components(), dict.fromkeys(SETTINGS, "made-by-hand"))


def components() -> tuple[str, ...]:
    """Alice's, the supervisor first."""
    loaded = load_folder(EXAMPLES, datetime.now(UTC).date(), frozenset(), None)
    names = [component.name for component in loaded.testers[TESTER].desired.components]
    return tuple(sorted(names, key=lambda name: name != SUPERVISOR))


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ready", description="One cold tester, measured.")
    parser.add_argument(
        "--speed", type=float, default=SPEED, help=f"simulated seconds in a real one (default {SPEED:g})"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"chance of both worlds (default {SEED})")
    parser.add_argument("--events", action="store_true", help="first all that the controller told, and when")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ready-") as root:
        figures = asyncio.run(measure(Path(root), options.speed, options.seed))
    told = json.dumps(figures.as_json(), indent=2)
    if options.events:
        print("\n".join(figures.told) + "\n")
    print(f"{figures.as_text()}\n\n{told}")
    if options.json is not None:
        options.json.write_text(told + "\n")


if __name__ == "__main__":
    main()
