"""What a measurement of one cold tester found, as text and as JSON: ratios first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.by_hand import PAUSE
from tests.bench.chain import PROXY, READY, Wait, ends, longest
from tests.bench.cold import Cold
from tests.bench.worlds import Entry

TARGET_CHAIN, TARGET_HAND = 1.1, 0.5
ROUNDED = 0.001  # seconds: our books keep moments less exactly than the world does
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
    """One measurement; all seconds are simulated. `seen`: when each wait was seen to be over."""

    ours: float
    waits: tuple[Wait, ...]
    hand: float
    paused: float
    seen: Mapping[str, float]
    settings: Mapping[str, Any]
    told: tuple[str, ...]  # by the controller, each with its moment

    @property
    def least(self) -> float:
        return ends(self.waits)[READY]

    @property
    def chain(self) -> tuple[Wait, ...]:
        return longest(self.waits, READY)

    @property
    def to_chain(self) -> float:
        """(a) / (b)"""
        return self.ours / self.least

    @property
    def to_hand(self) -> float:
        """(a) / (c)"""
        return self.ours / self.hand

    def as_json(self) -> dict[str, Any]:
        over = ends(self.waits)
        return {
            "ratios": {
                "oursToChain": round(self.to_chain, 3),
                "oursToByHand": round(self.to_hand, 3),
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
        lines += ["", ", ".join(f"{name} {value}" for name, value in self.settings.items())]
        return "\n".join(lines)


def _met(holds: bool) -> str:
    return "met" if holds else "MISSED"


def seen_ends(log: Sequence[Entry], cold: Cold) -> dict[str, float]:
    """When each wait of the chain was over, as the world's log has it; the network when the controller says so."""
    ours = [each for each in log if cold.began <= each.time <= cold.ready + ROUNDED and each.system != "machine:admin"]
    over = {"network": cold.reached - cold.began}
    for name, (method, what) in LAST_CALL.items():
        over[name] = max(e.time for e in ours if e.method == method and e.what.startswith(what)) - cold.began
    return dict(sorted(over.items(), key=lambda each: each[1]))


def in_short(runs: Sequence[Figures]) -> str:
    """The ratios of several seeds, the worst first of all."""
    chain, hand = max(run.to_chain for run in runs), max(run.to_hand for run in runs)
    lines = [
        f"one cold tester to Ready, the worst of {len(runs)} seeds:",
        f"  {chain:.3f} x the longest chain of unavoidable waits "
        f"(target at most {TARGET_CHAIN}: {_met(chain <= TARGET_CHAIN)})",
        f"  {hand:.3f} x the same steps by hand (target below {TARGET_HAND}: {_met(hand < TARGET_HAND)})",
        "",
        f"{'seed':>4}{'(a)/(b)':>10}{'(a)/(c)':>10}{'no pauses':>11}{'(a) ours':>11}{'(b) chain':>11}{'(c) by hand':>13}",
    ]
    lines += [
        f"{run.settings['seed']:>4}{run.to_chain:>10.3f}{run.to_hand:>10.3f}{run.ours / (run.hand - run.paused):>11.3f}"
        f"{run.ours:>11.1f}{run.least:>11.1f}{run.hand:>13.1f}"
        for run in runs
    ]
    return "\n".join(lines)


def in_short_json(runs: Sequence[Figures]) -> dict[str, Any]:
    """The same for programs, with every seed's own figures."""
    worst = {
        "oursToChain": round(max(run.to_chain for run in runs), 3),
        "oursToByHand": round(max(run.to_hand for run in runs), 3),
    }
    return {"worst": worst, "seeds": [run.as_json() for run in runs]}
