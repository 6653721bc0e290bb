"""What the JSON API costs with a thousand testers, and how soon its stream tells: `python -m tests.bench.api [TESTERS]`.

Server time is the processor's, of one request through the whole application, without the wire. *First*: nothing was asked
before. *After a write*: one tester has changed since. *Again*: nothing has. The stream goes over a real connection on
loopback: from the return of the write to the arrival of its event.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Final

import httpx

from api.server import bound, make_app, place, serve
from api.window import Window
from controller.records import Phase, SetStatus
from tests.bench.pages import asked, busy
from tests.browser.stage import Stage, many

MOST_TIME: Final = 0.05  # seconds of a list of a hundred
MOST_DELAY: Final = 0.1  # seconds from a change to its event
ROUNDS: Final = 7
LIST: Final = "/api/v1/testers"
PATHS: Final = (
    LIST,
    f"{LIST}?sort=-since&phase=Ready&phase=Waiting",
    f"{LIST}?text=tester00&condition=Ready%3DFalse",
    f"{LIST}?component=hero_books&fields=name,phase",
    f"{LIST}/tester0001",
    "/api/v1/fleet",
    "/api/v1/components",
    "/api/v1/revisions",
    "/api/v1/events",
    "/metrics",
)


@dataclass(frozen=True)
class Cost:
    """Of one address: seconds at first, after a write, and again; bytes."""

    path: str
    first: float
    written: float
    again: float
    size: int


async def cost(stage: Stage, client: httpx.AsyncClient, path: str) -> Cost:
    """The medians of some rounds."""
    first = await _seconds(client, path)
    written, again = [], []
    for number in range(ROUNDS):
        await stage.store.write(SetStatus("tester0001", Phase.WAITING, number, "", 1, None))
        written.append(await _seconds(client, path))
        again.append(await _seconds(client, path))
    size = len((await client.get(path)).content)
    return Cost(path, first, sorted(written)[ROUNDS // 2], sorted(again)[ROUNDS // 2], size)


async def _seconds(client: httpx.AsyncClient, path: str) -> float:
    began = time.process_time()
    (await client.get(path)).raise_for_status()
    return time.process_time() - began


async def delays(stage: Stage) -> list[float]:
    """From a change to its event, in seconds by the wall, sorted."""
    sock, where = bound(place("127.0.0.1:0"))
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(make_app(Window(stage.controller)), sock, stop))
    found = []
    async with (
        httpx.AsyncClient(base_url=where.url, trust_env=False, timeout=30) as client,
        client.stream("GET", "/api/v1/stream") as answer,
    ):
        lines = answer.aiter_lines()
        await _until(lines, "event: ready")
        for number in range(50):
            await stage.store.write(SetStatus("tester0002", Phase.WAITING, number, "", 1, None))
            began = time.perf_counter()
            await _until(lines, "event: change")
            found.append(time.perf_counter() - began)
    stop.set()
    await serving
    return sorted(found)


async def _until(lines: object, wanted: str) -> None:
    async for line in lines:  # type: ignore[attr-defined]
        if line == wanted:
            return


async def main(count: int) -> int:
    """Prints the figures; 1 when a list or an event takes too long."""
    worst = 0
    for title, people in (("settled", many(count)), ("busy", busy(count))):
        async with asked(people) as (stage, client):
            print(f"{count} testers, {title}: server time at first, after a write, and again; size")
            for path in PATHS:
                one = await cost(stage, client, path)
                times = "".join(f"{span * 1000:7.1f} ms" for span in (one.first, one.written, one.again))
                print(f"  {one.path:<62}{times} {one.size / 1000:6.0f} KB")
                worst |= path == LIST and one.written > MOST_TIME
            found = await delays(stage)
            middle, last = found[len(found) // 2], found[-1]
            print(f"  the stream: an event after {middle * 1000:.1f} ms, at most {last * 1000:.1f} ms")
            worst |= middle > MOST_DELAY
    return int(worst)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
