"""Where replicas begin, each a process of its own: one line of JSON on standard input for each.

What every replica would import is imported once. A replica writes down each call that it begins, when, and under which lease, in
the last moment before it goes out, and each lock that it takes: for the test to compare.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.places import Places
from controller.replicas import crew
from controller.replicas.shares import Rhythm
from controller.running import Controller, working_store
from controller.store.fencing import LEASE
from controller.store.locks import LOCKS, LockSession
from reconcilers.backends.limits import Call
from reconcilers.clock import SystemClock

assert crew


class Begun:
    """Writes each call down as it is about to leave."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, call: Call) -> None:
        lease = LEASE.get()
        under = [lease.key, lease.epoch] if lease is not None else None
        said = {"at": time.time(), "under": under, "system": call.system, "name": call.name, "writing": call.writing}
        self._write(said)

    def took(self, kind: int, keys: Collection[int]) -> None:
        """Locks are ours by now. Only of leases."""
        if kind == LOCKS and keys:
            self._write({"took": sorted(keys), "at": time.time()})

    def _write(self, said: object) -> None:
        os.write(self.file, f"{json.dumps(said)}\n".encode())


class NotingSession(LockSession):
    """Writes down what it takes."""

    begun: Begun

    async def take(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]:
        taken = await super().take(kind, keys, most)
        self.begun.took(kind, taken)
        return taken


def noted(controller: Controller, path: Path) -> None:
    """What this replica takes and begins is written down from now on."""
    begun = NotingSession.begun = Begun(path)
    crew.LockSession = NotingSession  # type: ignore[misc]
    assert controller.crew is not None
    ask = controller.crew.before

    async def leaving(call: Call) -> None:
        await ask(call)
        begun.note(call)

    controller.crew._leaving = leaving  # type: ignore[method-assign]


async def live(told: dict[str, Any], **more: Any) -> None:
    """One replica until it is told to end. `more`: what its controller is given besides."""
    places = Places(Path(told["folder"]), Path(told["state"]), told["url"])
    rhythm = Rhythm(*(timedelta(seconds=told[part]) for part in ("lease", "beat", "margin")))
    async with working_store(places, SystemClock()) as store:
        controller = Controller(places, store, replicas=rhythm, **more)
        noted(controller, Path(told["calls"]))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, controller.stop.set)
        await controller.run()


def serve(live: Callable[[dict[str, Any]], Coroutine[Any, Any, None]]) -> None:
    """For each line a life, in a process of its own, whose number is told."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(0)
            log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            logging.basicConfig(
                level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%H:%M:%S"
            )
            for noisy in ("apscheduler", "asyncssh", "httpx"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            code = 0
            try:
                asyncio.run(live(told))
            except BaseException:
                logging.exception("ended")
                code = 1
            os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    serve(live)
