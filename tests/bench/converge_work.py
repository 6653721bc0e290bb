"""What is to be done in `tests/bench/converge.py`: the commands, what each needs, and the machines on which they are run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.bench.loopback import Loopback, address

ROWS = (1, 8, 8, 8, 7)

MACHINE = """\
set -- $SSH_CONNECTION
cd {root}/done/$3 || exit 9
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
"""Here commands are run, each machine's in a folder of its own."""


@dataclass(frozen=True)
class Work:
    """Commands by name, each with those that must have ended before it. `seconds`: of each."""

    commands: Mapping[str, tuple[str, ...]]
    rows: Sequence[Sequence[str]]
    seconds: float

    @property
    def critical(self) -> float:
        """Seconds of the longest chain."""
        return len(self.rows) * self.seconds

    def text(self, name: str) -> str:
        return f"sleep {self.seconds}; : > {name}"


def work_of(seconds: float) -> Work:
    """Each command needs two of the row before: every row ends as one, as installs, settings and services do."""
    rows, count = [], 0
    for size in ROWS:
        rows.append([f"c{count + each:02d}" for each in range(size)])
        count += size
    needs: dict[str, tuple[str, ...]] = dict.fromkeys(rows[0], ())
    for above, row in pairwise(rows):
        for each, name in enumerate(row):
            needs[name] = tuple(sorted({above[each % len(above)], above[(each + 1) % len(above)]}))
    return Work(needs, rows, seconds)


def working(server: Loopback, number: int) -> None:
    """The machines behind the server run what they are told."""
    (server.root / "machine").write_text(MACHINE.format(root=server.root))
    cleared(server, number)


def cleared(server: Loopback, number: int) -> None:
    """New machines, and one beside them on which a controller warms up."""
    shutil.rmtree(server.root / "done", ignore_errors=True)
    for each in range(number + 1):
        place_of(server, each).mkdir(parents=True)


def check_done(server: Loopback, work: Work, number: int) -> None:
    """Raises RuntimeError when a machine is not as it should be."""
    for each in range(number):
        found = {path.name for path in place_of(server, each).iterdir()}
        if found != work.commands.keys():
            raise RuntimeError(f"{address(each)} lacks {sorted(work.commands.keys() - found)}")


def place_of(server: Loopback, each: int) -> Path:
    return server.root / "done" / address(each)
