"""The simulator as a process of its own: started, found again after a crash of the demo, asked for its books, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api.complaint import Complaint

STARTS_WITHIN = 30.0  # seconds
ENDS_WITHIN = 10.0
LOOK_EVERY = 0.05
ANSWERS_WITHIN = 5.0
SILENT = "The make-believe world does not answer any more; start the demo again, it goes on from here."
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Whom we trust over TLS. The world is asked over plain HTTP, and reading the system's certificates takes a while."""


@dataclass(frozen=True)
class Daemon:
    """One compute daemon of the world; `nodes` are pairs of a daemon's node id and the grid's."""

    name: str
    url: str
    secret: str = field(repr=False)
    gateway_domain: str
    nodes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Engine:
    """One shared engine of the world; its tenants are registered on the admin machine."""

    name: str
    url: str
    context: str
    service: str


@dataclass(frozen=True)
class Addresses:
    """Where the world's parts are, as it tells in `addresses.json`."""

    pid: int
    speed: float
    forge_url: str
    forge_token: str = field(repr=False)
    daemons: tuple[Daemon, ...] = ()
    socks: str = ""
    ca_file: str = ""
    installer_key_file: str = ""
    control_url: str = ""
    lab_url: str = ""
    admin_host: str = ""
    admin_host_key: str = ""
    engines: tuple[Engine, ...] = ()
    resend_url: str = ""
    resend_key: str = field(default="", repr=False)

    @classmethod
    def read(cls, path: Path) -> Addresses | None:
        """None while there are none, or half a file."""
        try:
            told = json.loads(path.read_text())
            return cls(
                pid=told["pid"],
                speed=told["speed"],
                forge_url=told["forge_url"],
                forge_token=told["forge_token"],
                daemons=tuple(_daemon(one) for one in told["compute"]),
                socks=told["socks"],
                ca_file=told["ca_file"],
                installer_key_file=told["installer_key_file"],
                control_url=told["control_url"],
                lab_url=told["lab_url"],
                admin_host=told["admin_machine"]["host"],
                admin_host_key=told["admin_machine"]["host_key"],
                engines=tuple(Engine(**one) for one in told["engines"]),
                resend_url=told["resend_url"],
                resend_key=told["resend_key"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _daemon(told: dict[str, Any]) -> Daemon:
    nodes = tuple((node["sid"], node["grid_node"]) for node in told["nodes"])
    return Daemon(told["name"], told["url"], told["secret"], told["gateway_domain"], nodes)


@dataclass(frozen=True)
class World:
    """A simulator that answers."""

    addresses: Addresses
    found: bool  # it ran already

    async def books(self) -> dict[str, Any]:
        """What the world itself says that it holds. Raises Complaint when it does not answer."""
        books = await _ask(self.addresses, "/_sim/books")
        if books is None:
            raise Complaint(SILENT)
        return dict(books)

    async def log(self) -> list[dict[str, Any]]:
        """Every call that it was ever sent, in order. Raises Complaint as `books`."""
        return await self._told("/_sim/log")

    async def faults(self) -> list[dict[str, Any]]:
        """Its faults, past ones too. Raises Complaint as `books`."""
        return await self._told("/_sim/faults")

    async def set_faults(self, faults: Iterable[Mapping[str, Any]]) -> None:
        """These, and no others. Raises Complaint when it does not take one."""
        await _ask(self.addresses, "/_sim/do", {"action": "clear_faults"})
        for fault in faults:
            await self._add(fault)

    async def _add(self, fault: Mapping[str, Any]) -> None:
        if await _ask(self.addresses, "/_sim/do", {"action": "add_fault", **fault}) is None:
            raise Complaint(
                f"The make-believe world does not take the fault {fault['kind']}; its process may be older."
            )

    async def doubles(self) -> list[str]:
        """What it holds twice under one name. Raises Complaint as `books`."""
        told = await _ask(self.addresses, "/_sim/violations")
        if told is None:
            raise Complaint(SILENT)
        return [str(one) for one in told["doubles"]]

    async def _told(self, path: str) -> list[dict[str, Any]]:
        found = await _ask(self.addresses, path)
        if not isinstance(found, list):
            raise Complaint(SILENT)
        return found

    async def stop(self) -> None:
        """End it; its state stays. Only a process that answers as the world is ended."""
        if await _ask(self.addresses, "/_sim/books") is None:
            return
        os.kill(self.addresses.pid, signal.SIGTERM)
        await _until_gone(self.addresses.pid)


async def opened(folder: Path, speed: float, log: Path) -> World:
    """The world of this folder: the one that runs, else a new process. Raises Complaint when it does not come up."""
    running = await alive(folder)
    if running is not None:
        return World(running, found=True)
    process = _start(folder, speed, log)
    for _ in range(int(STARTS_WITHIN / LOOK_EVERY)):
        await asyncio.sleep(LOOK_EVERY)
        if process.poll() is not None:
            break
        told = Addresses.read(folder / "addresses.json")
        if told is not None and told.pid == process.pid:
            return World(told, found=False)
    await _ended(process)
    raise Complaint(f"The make-believe world does not start; {log} says why.")


async def alive(folder: Path) -> Addresses | None:
    """The addresses of the world that runs on this folder: its process is there, and it answers."""
    told = Addresses.read(folder / "addresses.json")
    if told is None or not _process_is_there(told.pid) or await _ask(told, "/_sim/books") is None:
        return None
    return told


def _start(folder: Path, speed: float, log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C is for the controller, and a killed demo finds its world alive again. It runs in the
    repository, so its folder is named from the root."""
    command = [sys.executable, "-m", "examples.simulator", "--state", str(folder.resolve()), "--speed", str(speed)]
    root = Path(__file__).parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=root, start_new_session=True
        )


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """End what did not come up: nobody would find it again."""
    if process.poll() is not None:
        return
    process.terminate()
    for _ in range(int(ENDS_WITHIN / LOOK_EVERY)):
        if process.poll() is not None:
            return
        await asyncio.sleep(LOOK_EVERY)
    process.kill()
    process.wait()


async def _ask(addresses: Addresses, path: str, asked: Mapping[str, Any] | None = None) -> Any:
    """What its control answers; None when it does not, or refuses. `asked`: sent along."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWERS_WITHIN, verify=NOBODY) as client:
            method = "GET" if asked is None else "POST"
            answer = await client.request(method, addresses.control_url + path, json=asked)
            return answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None


def _process_is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


async def _until_gone(pid: int) -> None:
    for _ in range(int(ENDS_WITHIN / LOOK_EVERY)):
        if _reaped(pid) or not _process_is_there(pid):
            return
        await asyncio.sleep(LOOK_EVERY)
    raise Complaint(f"The make-believe world (process {pid}) does not end; end it by hand.")


def _reaped(pid: int) -> bool:
    """Whether it was a child of ours that has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
