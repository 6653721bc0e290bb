"""The simulator's end of the stand-ins: a bell (FIFO) per machine; each ring names a slot, whose request lies in `calls/`,
and the process that waits there.

The answer is a few lines of shell that the stand-in sources from the slot's FIFO, so that no further process is needed.
"""

import asyncio
import contextlib
import errno
import os
import shlex
from pathlib import Path

from examples.simulator.machine import Machine
from examples.simulator.outcome import Outcome
from examples.simulator.processes import is_there
from examples.simulator.standin import SLOTS

PIPE_HOLDS = 32_768
"""Bytes that surely fit into a FIFO at once; longer outputs go through a file."""
PATIENCE = 30.0
"""Real seconds to wait for a stand-in to read: its process id may belong to somebody else by now."""
RETRY = 0.0005
"""Real seconds between two looks whether the stand-in waits for its answer."""


class Bell:
    """Listens for one machine until closed. `sim` is the machine's folder beside its home."""

    def __init__(self, machine: Machine, sim: Path) -> None:
        self._machine = machine
        self._sim = sim
        self._calls = sim / "calls"
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest = b""
        self._calls.mkdir(parents=True, exist_ok=True)
        for left in self._calls.iterdir():
            left.unlink(missing_ok=True)
        for slot in range(SLOTS):
            os.mkfifo(self._calls / f"{slot}.rep", 0o600)
        bell = sim / "bell"
        bell.unlink(missing_ok=True)
        os.mkfifo(bell, 0o600)
        self._fd = os.open(bell, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._fd, self._rung)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        for task in self._tasks:
            task.cancel()

    def _rung(self) -> None:
        try:
            self._rest += os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *rings, self._rest = self._rest.split(b"\n")
        for ring in rings:
            slot, pid = map(int, ring.split())
            task = asyncio.get_running_loop().create_task(self._serve(slot, pid))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, slot: int, pid: int) -> None:
        request, given = self._calls / f"{slot}.req", self._calls / f"{slot}.in"
        program, cwd, *arguments = request.read_bytes().split(b"\0")[:-1]
        try:
            outcome = await self._machine.run([program, *arguments], _taken(given), os.fsdecode(cwd))
            await self._reply(pid, self._calls / f"{slot}.rep", self._script(self._calls / f"of.{pid}", outcome))
        finally:
            request.unlink(missing_ok=True)  # the slot is free

    def _script(self, call: Path, outcome: Outcome) -> bytes:
        lines = [
            _print(call.with_suffix(".out"), outcome.out, b""),
            _print(call.with_suffix(".err"), outcome.err, b" >&2"),
        ]
        return b"".join(lines) + b"exit %d\n" % outcome.code

    async def _reply(self, pid: int, fifo: Path, script: bytes) -> None:
        """Waits until the stand-in reads; gives up when it is gone. The next one in this slot finds a FIFO of its own."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + PATIENCE
        while is_there(pid) and loop.time() < limit:
            try:
                fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                await asyncio.sleep(RETRY)
                continue
            os.write(fd, script)
            os.close(fd)
            break
        _forget(fifo)
        with contextlib.suppress(FileNotFoundError):  # the machine is no more
            os.mkfifo(fifo, 0o600)


def _taken(file: Path) -> bytes:
    """The content of a file that is not needed any longer; empty when there is none."""
    content = file.read_bytes() if file.exists() else b""
    _forget(file)
    return content


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)


def _print(file: Path, content: bytes, where: bytes) -> bytes:
    """A line of shell that prints exactly these bytes with a builtin, or, when they are many, from a file."""
    if not content:
        return b""
    if len(content) > PIPE_HOLDS // 4:
        file.write_bytes(content)
        name = shlex.quote(str(file)).encode()
        return b"cat " + name + where + b"; rm -f " + name + b"\n"
    if b"\0" in content:
        return b"printf '" + b"".join(b"\\%03o" % byte for byte in content) + b"'" + where + b"\n"
    return b"printf %s '" + content.replace(b"'", b"'\\''") + b"'" + where + b"\n"
