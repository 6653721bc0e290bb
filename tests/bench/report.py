"""Figures of a benchmark, as text and as JSON: one record for each, ratios first, the machine and all versions noted.

    report = Report("noop")
    report.add(Figure("ours, warm", 0.9, "ms CPU per machine", 200, goal=1.0))
    report.add(Figure("Ansible", 83.0, "ms CPU per machine", 200))
    report.ratio("Ansible's best / ours", ansible, ours, goal=75, least=True)
    report.told(json_file)

The peers run under an interpreter of their own: nothing here needs more than the standard library.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parents[2] / ".venv-bench"
FOLDER = Path(__file__).parents[2] / ".bench"
"""Where `make bench` lays its figures, one JSON file for each part."""


@dataclass(frozen=True)
class Figure:
    """One figure. `n`: of how many things; `rounds`: all values of which `value` is the median; `peer`: what `ratio` is to.

    goal    what is hoped for; `least`: at least that much, else at most
    """

    name: str
    value: float
    unit: str
    n: int = 1
    rounds: tuple[float, ...] = ()
    ratio: float | None = None
    peer: str = ""
    goal: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.least else self.value <= self.goal


def median(name: str, rounds: Sequence[float], unit: str, n: int, goal: float | None = None) -> Figure:
    """The figure of several rounds."""
    return Figure(name, statistics.median(rounds), unit, n, tuple(rounds), goal=goal)


@dataclass
class Report:
    """What one part of the benchmarks found."""

    part: str
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Figure] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    load: str = field(default_factory=lambda: "/".join(f"{each:.1f}" for each in os.getloadavg()))

    def add(self, figure: Figure) -> Figure:
        self.figures.append(figure)
        return figure

    def ratio(self, name: str, over: Figure, under: Figure, goal: float | None = None, *, least: bool = False) -> None:
        """One figure beside its peer."""
        value = over.value / under.value
        self.ratios.append(Figure(name, value, "x", min(over.n, under.n), (), value, under.name, goal, least))

    def as_json(self) -> dict[str, Any]:
        told = [{**asdict(each), "met": each.met} for each in (*self.ratios, *self.figures)]
        return {"part": self.part, "figures": told, "notes": self.notes, "measured": self.measured()}

    def measured(self) -> dict[str, Any]:
        return {**machine(), "load at start": self.load, "load at end": _load(), **self.versions}

    def as_text(self) -> str:
        lines = [f"{self.part}", ""]
        lines += [_line(each) for each in self.ratios]
        lines += ["", *(_line(each) for each in self.figures), ""] if self.ratios else [_line(e) for e in self.figures]
        lines += [*self.notes, ", ".join(f"{name} {value}" for name, value in self.measured().items())]
        return "\n".join(lines)

    def told(self, file: Path | None = None) -> None:
        """Print it, and lay the JSON down: in `.bench` unless it says where."""
        print(self.as_text(), flush=True)
        where = file if file is not None else FOLDER / f"{self.part}.json"
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(json.dumps(self.as_json(), indent=1) + "\n")


def cpu() -> float:
    """Seconds of the processor that this process has taken so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of packages in this interpreter's environment."""
    return {each: metadata.version(each) for each in packages}


def peer_versions(*packages: str) -> dict[str, str]:
    """Of packages in the peers' environment."""
    code = "import sys; from importlib.metadata import version as v; print(*(v(each) for each in sys.argv[1:]))"
    told = subprocess.run([PEERS / "bin/python", "-c", code, *packages], capture_output=True, text=True, check=True)
    return dict(zip(packages, told.stdout.split(), strict=True))


def openssh_version() -> str:
    return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.partition(",")[0].strip()


def _line(each: Figure) -> str:
    words = f"{each.name:<58}{each.value:>12.4g} {each.unit}"
    if len(each.rounds) > 1:
        words += f"  ({min(each.rounds):.4g} to {max(each.rounds):.4g})"
    if each.n > 1:
        words += f"  n={each.n}"
    if each.goal is not None:
        words += f"  goal {'>=' if each.least else '<='} {each.goal:g}: {'met' if each.met else 'MISSED'}"
    return words


def _load() -> str:
    return "/".join(f"{each:.1f}" for each in os.getloadavg())


def _processor() -> str:
    told: Mapping[str, str] = {}
    try:
        rows = (row.partition(":") for row in Path("/proc/cpuinfo").read_text().splitlines())
        told = {name.strip(): value.strip() for name, _, value in rows}
    except OSError:
        pass
    return told.get("model name") or platform.machine()
