"""What a controller counts as it works: for Prometheus. Durations go by the controller's own clock.

Labels are words of ours and names of the Fleet's systems; never a tester's name, an address or anything secret (law 10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram

from controller.passes.outcomes import Kind
from reconcilers.backends.limits import Call

Metric = TypeVar("Metric", Counter, Histogram)

PREFIX: Final = "tester_controller"
SPANS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
"""Seconds: from a look that a cache answers to a wait that somebody should see."""


@dataclass
class Meters:
    """Of one engine. `last_pass_at`: when a pass ended last; None: none has."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    last_pass_at: datetime | None = None
    _known: dict[tuple[object, tuple[str, ...]], object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._turns = Histogram(
            f"{PREFIX}_turn_seconds",
            "How long one step's turn in a pass took, by step and outcome",
            ("step", "outcome"),
            buckets=SPANS,
            registry=self.registry,
        )
        self._passes = Histogram(
            f"{PREFIX}_pass_seconds",
            "How long a pass over a tester took, by how it ended",
            ("end",),
            buckets=SPANS,
            registry=self.registry,
        )
        self._calls = Counter(
            f"{PREFIX}_backend_calls",
            "Calls of the outside, by system, kind, and status: an HTTP status, ok, or the failure",
            ("system", "kind", "status"),
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            f"{PREFIX}_backend_call_seconds",
            "How long calls of the outside took once they were let through, by system and kind",
            ("system", "kind"),
            buckets=SPANS,
            registry=self.registry,
        )

    def turned(self, step: str, outcome: Kind, took: timedelta) -> None:
        """A step's turn has ended."""
        self._labelled(self._turns, step, outcome.value).observe(_seconds(took))

    def passed(self, ended: datetime, took: timedelta, *, whole: bool) -> None:
        """A pass has ended. `whole`: it did not break off."""
        self.last_pass_at = ended
        self._labelled(self._passes, "whole" if whole else "broken off").observe(_seconds(took))

    def called(self, call: Call, status: str, took: timedelta) -> None:
        """A call of the outside has ended."""
        kind, system = "write" if call.writing else "read", _group(call.system)
        self._labelled(self._calls, system, kind, status).inc()
        self._labelled(self._call_seconds, system, kind).observe(_seconds(took))

    def _labelled(self, meter: Metric, *labels: str) -> Metric:
        """Each is looked for once: finding it takes longer than counting."""
        known = self._known.get((meter, labels))
        if known is None:
            known = self._known[meter, labels] = meter.labels(*labels)
        return cast("Metric", known)


def _group(system: str) -> str:
    """All testers' machines are one: a thousand of them would be fifty thousand series."""
    return "machine" if system.startswith("machine ") and not system.startswith("machine of ") else system


def _seconds(span: timedelta) -> float:
    """A clock that was set back makes none negative."""
    return max(0.0, span.total_seconds())
