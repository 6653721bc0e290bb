"""A fresh world for one run over sockets: its process, its addresses, its draws, its log in its own seconds, and the ways in."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import httpx
from python_socks.async_.asyncio import Proxy

from api.demo.world import Addresses
from tests.bench.outside import DRAWS, EPOCH
from tests.bench.ways import LOOK_EVERY as LOGIN_EVERY
from tests.bench.ways import TRIES

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
class ShellLink:
    """Commands over a real SSH connection."""

    connection: asyncssh.SSHClientConnection
    home: str

    async def run(self, words: Sequence[str]) -> str:
        """Raises asyncssh.ProcessError."""
        command = f'PATH="$HOME/hero/bin:$PATH"; export PATH; {shlex.join(words)}'
        return str((await self.connection.run(command, check=True)).stdout or "")

    async def fetch(self, path: str, url: str) -> None:
        """Raises asyncssh.ProcessError."""
        place = f"{self.home}/{path}"
        await self.run(["mkdir", "-p", place.rpartition("/")[0]])
        await self.run(["curl", "-fsSL", "-o", place, url])
        await self.run(["chmod", "+x", place])


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

    def client(self, *, public: bool = False) -> httpx.AsyncClient:
        """Public names are reached through the world's proxy, and known by its authority."""
        if not public:
            return httpx.AsyncClient(trust_env=False, timeout=600)
        proxy = self.addresses.socks.replace("socks5:", "socks5h:")
        return httpx.AsyncClient(proxy=proxy, verify=self.addresses.ca_file, trust_env=False, timeout=60)

    @asynccontextmanager
    async def login(self, host: str) -> AsyncIterator[ShellLink]:
        """Tried until somebody answers."""
        for _ in range(TRIES):
            try:
                sock = await Proxy.from_url(self.addresses.socks, rdns=True).connect(dest_host=host, dest_port=22)
                break
            except Exception as error:
                failure: Exception = error
                await asyncio.sleep(LOGIN_EVERY / self.speed)
        else:
            raise failure
        keys = [self.addresses.installer_key_file]
        async with asyncssh.connect(
            host, sock=sock, username="root", client_keys=keys, known_hosts=None, config=None
        ) as connection:
            home = str((await connection.run('printf %s "$HOME"', check=True)).stdout)
            yield ShellLink(connection, home)

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
