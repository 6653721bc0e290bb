"""A fresh world for one run: its process, its addresses, its draws and its log, told in its own seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.demo.world import Addresses
from tests.bench.outside import DRAWS, EPOCH

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 30.0  # real seconds
LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Entry:
    """One call that the world has seen, as its log has it; `time` is when it ended, in simulated seconds."""

    time: float
    system: str
    method: str
    what: str
    status: int


@dataclass(frozen=True)
class Outside:
    """A world that runs."""

    folder: Path
    addresses: Addresses
    real: float
    simulated: float

    @property
    def speed(self) -> float:
        return self.addresses.speed

    def at(self, real: float) -> float:
        """A real moment (epoch seconds) as this world's clock shows it."""
        return self.simulated + (real - self.real) * self.speed

    def now(self) -> float:
        return self.at(time.time())

    def draws(self) -> list[tuple[tuple[str, ...], float]]:
        """Every span that was drawn: what for, and its simulated seconds."""
        return [(tuple(each["what"]), each["seconds"]) for each in _lines(self.folder / DRAWS)]

    def log(self) -> list[Entry]:
        names = ("time", "system", "method", "what", "status")
        return [Entry(**{name: each[name] for name in names}) for each in _lines(self.folder / "log.jsonl")]


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@asynccontextmanager
async def outside(folder: Path, speed: float, seed: int) -> AsyncIterator[Outside]:
    """Ends with the block. Raises RuntimeError when it does not start."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.bench.outside", "--state", str(folder), "--seed", str(seed)]
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, "--speed", str(speed), cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield await _begun(folder, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _begun(folder: Path, process: asyncio.subprocess.Process) -> Outside:
    for _ in range(int(STARTS_WITHIN / LOOK_EVERY)):
        await asyncio.sleep(LOOK_EVERY)
        addresses = Addresses.read(folder / "addresses.json")
        if addresses is not None:
            epoch = json.loads((folder / EPOCH).read_text())
            return Outside(folder, addresses, epoch["real"], epoch["simulated"])
        if process.returncode is not None:
            break
    raise RuntimeError(f"the world does not start: {(folder / 'output').read_text()[-2000:]}")
