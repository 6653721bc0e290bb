"""A program that is given a limited time, and may print and write only so much; its helpers end with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

LARGEST_ANSWER: Final = 128 * 1024 * 1024
"""Bytes that it may print: a few small objects can name more files than any memory holds."""
BLOCK: Final = 512
"""Bytes by which a shell limits the size of files (P)."""


class Endless(Exception):
    """It prints more than anybody can keep."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended, and what it printed to both sides."""

    code: int | None
    out: bytes
    err: bytes


def writing_at_most(largest_file: int) -> tuple[str, ...]:
    """What a command begins with whose program cannot write a larger file than this, in bytes; 0: no limit."""
    return ("sh", "-c", f'ulimit -f {largest_file // BLOCK}; exec "$@"', "sh") if largest_file else ()


async def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes, limit: timedelta
) -> Ended:
    """Raises OSError when it cannot be started, TimeoutError, Endless."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # so that its helpers end with it
    )
    try:
        async with asyncio.timeout(limit.total_seconds()):
            out, err = await _talk(process, stdin)
    finally:
        _end(process)
    return Ended(process.returncode, out, err)


async def _talk(process: asyncio.subprocess.Process, stdin: bytes) -> tuple[bytes, bytes]:
    """What it prints to both sides, until it ends. Raises Endless."""

    async def heard(stream: asyncio.StreamReader | None) -> bytes:
        found = bytearray()
        while stream is not None and (piece := await stream.read(65536)):
            if len(found) > LARGEST_ANSWER:
                _end(process)  # what is still under way is read and thrown away
            else:
                found += piece
        return bytes(found)

    out, err, _ = await asyncio.gather(heard(process.stdout), heard(process.stderr), _feed(process.stdin, stdin))
    await process.wait()
    if max(len(out), len(err)) > LARGEST_ANSWER:
        raise Endless
    return out, err


async def _feed(stream: asyncio.StreamWriter | None, content: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(ConnectionError):  # it has ended already: how, its exit code tells
        stream.write(content)
        await stream.drain()
    stream.close()


def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
