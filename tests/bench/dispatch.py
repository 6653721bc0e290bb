"""`python -m tests.bench.dispatch`: CPU for each object from its change to its handler, beside kopf on kmock.

Ours is the queue that every pass comes out of (`controller/queue.py`), taken from as the engine does: many names added, each
handed to its handler, and said to be done. *At once*: due now. *Delayed*: due later, as after a pass, by the real clock.
*With compare and status*: the handler takes a digest of what it has been given, compares it, and one in ten has changed and
writes its status, all of them in one write.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path

from controller.places import Places, opened_store
from controller.queue import NOW, Queue, Urgency
from controller.records import Change, Condition, PutCondition, Status
from controller.store import Store
from reconcilers.clock import SystemClock
from tests.bench.report import PEERS, Report, cpu, median, peer_versions

UNIT = "us CPU an object"
LATER = timedelta(seconds=0.2)
CHANGED = 10  # one in so many
PEER = Path(__file__).with_name("peers") / "kopf_dispatch.py"
Handler = Callable[[str], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--of-kopf", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("dispatch")
    number, rounds = options.objects, options.rounds
    once = report.add(median("ours, at once", asyncio.run(queued(number, rounds, NOW)), UNIT, number, 3.0))
    report.add(median("ours, at once, a task for each", asyncio.run(in_tasks(number, rounds)), UNIT, number))
    later = report.add(median("ours, delayed", asyncio.run(queued(number, rounds, LATER)), UNIT, number, 10.0))
    found = asyncio.run(compared(number, rounds))
    told = report.add(median("ours, with compare and one in ten told", found, UNIT, number, 30.0))
    floor = report.add(median("a bare heap and an event", asyncio.run(bare(number, rounds)), UNIT, number))
    report.ratio("ours, at once / a bare heap and an event", once, floor)
    if not options.without_peers:
        report.versions |= peer_versions("kopf", "kmock", "aiohttp")
        count = options.of_kopf
        event = report.add(median("kopf, an event to its handler", kopf("event", count), UNIT, count))
        update = report.add(median("kopf, an update with its patch", kopf("update", count), UNIT, count))
        timer = report.add(median("kopf, a turn of an object's timer", kopf("timer", count), UNIT, count))
        report.ratio("kopf's event / ours, at once", event, once)
        report.ratio("kopf's timer / ours, delayed", timer, later)
        report.ratio("kopf's update / ours, with compare and status", update, told)
    report.told(options.json)


async def queued(number: int, rounds: int, after: timedelta) -> list[float]:
    """Microseconds for each name, from its add to its done, with a handler that does nothing."""

    async def handled(_name: str) -> None:
        return None

    names = [f"t{each:05d}" for each in range(number)]
    return [await _round(names, after, handled) for _ in range(rounds)]


async def compared(number: int, rounds: int) -> list[float]:
    """The same with a digest compared, and what differs written to a real store, at once for all."""
    names = [f"t{each:05d}" for each in range(number)]
    answers = {name: f"{name} runs 1.2.3, ".encode() * 40 for name in names}  # half a kilobyte or more
    known: dict[str, bytes] = {}
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench-dispatch-") as folder:
        places = Places(Path(folder) / "fleet", Path(folder) / "state")
        async with opened_store(places, clock) as store:
            found = []
            for each in range(rounds + 1):
                for name in names[each::CHANGED]:
                    answers[name] += b"."
                changes: list[Change] = []

                async def handled(name: str, changes: list[Change] = changes) -> None:
                    digest = blake2b(answers[name], digest_size=16).digest()
                    if known.get(name) != digest:
                        known[name] = digest
                        changes.append(_status(name, clock.now()))

                took = await _round(names, NOW, handled, store, changes)
                found.append(took)
            return found[1:]  # in the first everything is new


def _status(name: str, now: datetime) -> PutCondition:
    return PutCondition(Condition(name, "Ready", Status.TRUE, "InSync", "", 1, now))


async def _round(
    names: list[str], after: timedelta, handle: Handler, store: Store | None = None, changes: list[Change] | None = None
) -> float:
    queue = Queue(SystemClock())
    gc.collect()
    began = cpu()
    for name in names:
        queue.add(name, after, Urgency.CHANGED)
    for _ in names:
        name = await queue.get()
        await handle(name)
        queue.done(name)
    if store is not None and changes:
        await store.write(*changes)
    return 1e6 * (cpu() - began) / len(names)


async def in_tasks(number: int, rounds: int) -> list[float]:
    """With a task for each name, as the engine has one for each pass."""
    names = [f"t{each:05d}" for each in range(number)]
    found = []
    for _ in range(rounds):
        queue, tasks = Queue(SystemClock()), set[asyncio.Task[None]]()

        async def one(name: str, queue: Queue = queue) -> None:
            queue.done(name)

        gc.collect()
        began = cpu()
        for name in names:
            queue.add(name, NOW, Urgency.CHANGED)
        for _ in names:
            task = asyncio.create_task(one(await queue.get()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.wait(tasks)
        found.append(1e6 * (cpu() - began) / number)
    return found


async def bare(number: int, rounds: int) -> list[float]:
    """The floor: a heap, an event and a handler."""

    async def handled(_name: str) -> None:
        return None

    names, found = [f"t{each:05d}" for each in range(number)], []
    for _ in range(rounds):
        heap: list[tuple[float, int, str]] = []
        there = asyncio.Event()
        gc.collect()
        began = cpu()
        for count, name in enumerate(names):
            heapq.heappush(heap, (time.monotonic(), count, name))
            there.set()
        while heap:
            await there.wait()
            await handled(heapq.heappop(heap)[2])
        found.append(1e6 * (cpu() - began) / number)
    return found


def kopf(mode: str, number: int) -> list[float]:
    """CPU microseconds of kopf, by rounds: of its own process only. Raises CalledProcessError."""
    words = [str(PEERS / "bin/python"), str(PEER), mode, str(number)]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600, stdin=subprocess.DEVNULL)
    return [float(each) for each in json.loads(told.stdout.splitlines()[-1])]


if __name__ == "__main__":
    main()
