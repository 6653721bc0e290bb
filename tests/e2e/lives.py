"""Lives of the real `testerctl run`, each a process of its own, and a world that tells of each call before it answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.places import Places
from examples.simulator.log import Entry
from examples.simulator.world import World


def words(entry: Entry) -> str:
    return f"{entry.system} {entry.method} {entry.what}"


CRADLE = """
import json, os, sys
from api.cli import run_with
import api.commands.run
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        arguments, variables = json.loads(line)
        os.environ.update(variables)
        os.close(0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os._exit(run_with(arguments))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Begins a process of its own for each line of arguments: its id, then how it ended. What every life would import is imported
once: that took longer than most lives."""


@dataclass(frozen=True)
class Cradle:
    """Where lives of `testerctl run` begin, each a process of its own."""

    process: asyncio.subprocess.Process

    async def begin(self, places: Places) -> int:
        """The new process's id."""
        folders = ["--fleet", str(places.folder), "--state", str(places.state)]
        assert self.process.stdin is not None
        variables = {} if places.url.startswith("sqlite") else {"DATABASE_URL": places.url}
        told = [["run", *folders, "--listen", "127.0.0.1:0"], variables]
        self.process.stdin.write(f"{json.dumps(told)}\n".encode())
        return await self._number()

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        return await self._number()

    async def _number(self) -> int:
        assert self.process.stdout is not None
        told = await self.process.stdout.readline()
        assert told, "no life can begin: api.commands.run is not imported"
        return int(told)


@asynccontextmanager
async def cradle() -> AsyncIterator[Cradle]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CRADLE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield Cradle(process)
    finally:
        process.kill()
        await process.wait()


@contextmanager
def heard(world: World, hear: Callable[[Entry], None]) -> Iterator[None]:
    """Each call is told to `hear` once it is in the world's log, which is before its answer leaves."""
    add = world.log.add

    def adding(*call: Any) -> None:
        add(*call)
        hear(world.log.entries[-1])

    world.log.add = adding  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        world.log.add = add  # type: ignore[method-assign]
