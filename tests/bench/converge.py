"""`python -m tests.bench.converge`: new machines brought to what they should be, by us, by our peers and by a bare loop.

The same commands, with the same dependencies, on machines of their own behind one real OpenSSH server: 32 commands in five
rows, each of which takes a fixed time and leaves a file. Ours is the whole controller (store, journal, passes, looks, gates)
with a step for each command: it looks before it acts and looks again before it believes, and keeps both in its books.

Ansible and pyinfra run a task for each command, one after the other on each machine and all machines at once; and, told by
hand what does not depend on what, one task for each row, whose commands run side by side. The bare loop starts a command as
soon as those that it needs have ended, and believes what it is told. Everybody opens its connections anew. The programs'
own starts count for those that are started for a run; ours runs already, and its time is from the accepted spec to Ready.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.converge_ours import Lived, ours
from tests.bench.converge_peers import (
    along_the_graph,
    by_ansible,
    by_pyinfra,
    one_after_the_other,
    one_by_one,
    row_by_row,
)
from tests.bench.converge_work import Work, cleared, work_of, working
from tests.bench.loopback import Loopback, loopback
from tests.bench.report import Figure, Report, median, openssh_version, peer_versions, versions
from tests.bench.settled import Sample, sampled
from tests.worlds.loop import run

WAYS = ((1, 0.05), (10, 0.05), (10, 0.5))
"""Machines, and seconds of a command. Ten machines with short commands ask more of two cores than they have."""
SLACK = 0.15
"""Seconds beyond 1.05 times the critical path that the goal allows."""


@dataclass
class Bench:
    report: Report
    work: Work
    machines: int
    root: Path

    @property
    def words(self) -> str:
        return f"{self.machines} x {len(self.work.commands)} commands of {self.work.seconds:g} s"

    def add(self, who: str, walls: list[float], goal: float | None = None) -> Figure:
        return self.report.add(median(f"{self.words}: {who}", walls, "s", self.machines, goal))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.converge", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--only", type=int, help="one of the ways, from 0 on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("converge", versions=versions("asyncssh"))
    report.versions["OpenSSH"] = openssh_version()
    if not options.without_peers:
        report.versions |= peer_versions("ansible-core", "pyinfra")
    with tempfile.TemporaryDirectory(prefix="bench-converge-") as folder:
        sample = run(sampled(Path(folder) / "sample"))
        for number, (machines, seconds) in enumerate(WAYS):
            if options.only in (None, number):
                bench = Bench(report, work_of(seconds), machines, Path(folder) / str(number))
                measured(bench, sample, options.rounds, with_peers=not options.without_peers)
    report.told(options.json)


def measured(bench: Bench, sample: Sample, rounds: int, *, with_peers: bool) -> None:
    bench.root.mkdir()
    work, number = bench.work, bench.machines
    with loopback(bench.root / "ssh") as server:
        working(server, number)
        floors, lives = [], list[Lived]()
        for each in range(rounds):
            cleared(server, number)
            floors.append(asyncio.run(along_the_graph(server, work, number)))
            cleared(server, number)
            lives.append(asyncio.run(ours(server, work, number, sample, bench.root / f"ours{each}")))
        least = bench.report.add(Figure(f"{bench.words}: critical path", work.critical, "s", number))
        floor = bench.add("bare asyncssh along the graph", floors)
        mine = bench.add("ours, from the accepted spec to Ready", [each.wall for each in lives], _goal(work))
        bench.add("ours, CPU seconds of the controller", [each.cpu for each in lives])
        last = lives[-1]
        bench.report.notes.append(f"{bench.words}: {last.looks} looks, {last.commits} commits, {last.passes} passes")
        bench.report.ratio(f"{bench.words}: ours / critical path", mine, least)
        bench.report.ratio(f"{bench.words}: ours / bare asyncssh along the graph", mine, floor)
        if with_peers:
            cleared(server, number)
            bench.add("bare asyncssh, one after the other", [asyncio.run(one_after_the_other(server, work, number))])
            _beside(bench, mine, server)


def _goal(work: Work) -> float:
    return 1.05 * work.critical + SLACK


def _beside(bench: Bench, mine: Figure, server: Loopback) -> None:
    ways = {"a task for each command": one_by_one(bench.work), "a task for each row": row_by_row(bench.work)}
    for number, (way, commands) in enumerate(ways.items()):
        for who, by in (("Ansible", by_ansible), ("pyinfra", by_pyinfra)):
            root = bench.root / f"{who}{number}"
            found = bench.add(f"{who}, {way}", [by(server, bench.work, bench.machines, commands, root)])
            bench.report.ratio(f"{bench.words}: {who}, {way} / ours", found, mine)


if __name__ == "__main__":
    main()
