"""One replica of the measurement, a process of its own: real engine, store and leases; a pass asks one thing, which takes 50 ms.

Told on standard input as one line of JSON. Writes down, line by line, what it does: `begun` and `ended` with a tester's name,
`wrote` with how many changes, each with when (`time.monotonic`, the same in all processes).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.places import Places, opened_store
from controller.records import Change
from controller.replicas.crew import Crew
from reconcilers.clock import SystemClock
from reconcilers.contract import TesterView
from reconcilers.facts import Facts
from reconcilers.looks import TesterLooks
from tests.controller.fakes import FakeStep, Outside, Seen, rig

LATENCY = 0.05


class Thing(FakeStep):
    """There from the beginning, wherever it is looked at. `pass_of`: how often a tester was looked at; with each look something
    else is wanted if `changes`."""

    def __init__(self, changes: bool) -> None:
        super().__init__("machine", Outside())
        self.changes = changes
        self.pass_of: Counter[str] = Counter()
        self.values: dict[str, str] = {}
        self.wanted = self._wanted

    def _wanted(self, facts: Facts) -> str:
        return str(self.pass_of[facts.tester]) if self.changes else "as it was"

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
        await asyncio.sleep(LATENCY)
        row = tester.facts.object
        name = row.name if row is not None else self.name_for(tester.desired, tester.facts, 1, 1)
        return Seen(name, {"value": self.values.get(name, "as it was"), "id": "1"})

    async def _effect(self, action: Any, name: str, tester: TesterView, ports: Any) -> Seen | None:
        await asyncio.sleep(LATENCY)
        self.values[name] = self._wanted(tester.facts)
        return Seen(name, {"value": self.values[name], "id": "1"})


async def live(told: dict[str, Any]) -> None:
    places = Places(Path(told["state"]), Path(told["state"]), told["url"])
    clock: Any = SystemClock()
    diary = os.open(told["diary"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(what: str, of: object) -> None:
        os.write(diary, f"{what} {time.monotonic()} {of}\n".encode())

    async with opened_store(places, clock) as store:
        thing = Thing(told["changes"])
        engine = rig(store, clock, [thing], thing.outside).engine
        look = engine.look

        async def again_at_once(name: str) -> timedelta | None:
            thing.pass_of[name] += 1
            note("begun", name)
            wait = await look(name)
            note("ended", name)
            return timedelta(0) if wait is not None and told["busy"] else wait

        def heard(changes: tuple[Change, ...]) -> None:
            note("wrote", len(changes))

        engine.look = again_at_once  # type: ignore[method-assign]
        store.listeners.append(heard)
        crew = Crew(engine, places.url, clock, random.Random(told["number"]))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        jobs = [asyncio.ensure_future(work) for work in (crew.run(), engine.run())]
        await stop.wait()
        await engine.stop()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(live(json.loads(sys.stdin.readline())))
