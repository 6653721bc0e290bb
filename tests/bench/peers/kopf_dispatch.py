"""What kopf needs for one object, from its change to the handler: `kopf_dispatch.py event|update|timer <objects>`.

Prints CPU microseconds for each event, update with its patch, or turn of an object's timer: of this process only, which is
the operator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import kopf

MODE, OBJECTS = sys.argv[1], int(sys.argv[2])
ROUNDS = 3
MOST_LOOKS = 6
RESTING = 0.1  # seconds of CPU in two
EVERY = 0.2  # seconds between two turns of a timer
TURNS = 20  # of each timer in a round
handled = 0
SERVER = subprocess.Popen(
    [sys.executable, Path(__file__).with_name("kmock_server.py")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
assert SERVER.stdin is not None
assert SERVER.stdout is not None
URL = SERVER.stdout.readline().strip()


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False  # events told to Kubernetes would double its work
    settings.scanning.disabled = True


@kopf.on.login()
def login(**_: Any) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(server=URL)


def count(**_: Any) -> None:
    global handled
    handled += 1


def answer(**_: Any) -> dict[str, int]:
    """What is returned goes into the object's status."""
    count()
    return {"seen": handled}


if MODE == "event":
    kopf.on.event("example.org", "v1", "testers")(count)
elif MODE == "timer":
    kopf.on.timer("example.org", "v1", "testers", interval=EVERY)(count)
else:
    kopf.on.update("example.org", "v1", "testers", field="spec")(answer)


async def drive(stop: asyncio.Event) -> None:
    """Make changes, and tell what handling them took."""
    await asyncio.sleep(2.0)  # it watches from then on
    tell("timed" if MODE == "timer" else "create", OBJECTS)
    found = await (timed() if MODE == "timer" else changed())
    print(json.dumps(found), flush=True)
    SERVER.kill()
    os._exit(0)  # an operator that lost its server may take minutes to end


async def changed() -> list[float]:
    await quiet(-1)
    found = []
    for each in range(ROUNDS):
        before, began = handled, cpu()
        tell(f"{each + 1}", OBJECTS)
        ended = await quiet(before)
        if handled > before:
            found.append(1e6 * (ended - began) / (handled - before))
    return found


async def timed() -> list[float]:
    """Nothing changes; only the timers turn."""
    await turned(3 * OBJECTS)
    found = []
    for _ in range(ROUNDS):
        before, began = handled, cpu()
        await turned(TURNS * OBJECTS)
        found.append(1e6 * (cpu() - began) / (handled - before))
    return found


async def turned(times: int) -> None:
    """Wait until so many turns were taken, if they are taken in time."""
    until = handled + times
    for _ in range(5 * TURNS):
        if handled >= until:
            break
        await asyncio.sleep(EVERY)


async def quiet(before: int) -> float:
    """Wait until more are handled than before, and then for two seconds in which none is, or little is done.

    Returns the CPU seconds until these two.
    """
    last, ended = (-1, 0.0), cpu()
    for _ in range(MOST_LOOKS):
        await asyncio.sleep(2.0)
        rests = cpu() - last[1] < RESTING if MODE == "update" else handled == last[0]
        if handled > before and rests:
            break
        last, ended = (handled, cpu()), cpu()
    return ended


def tell(what: str, number: int) -> None:
    assert SERVER.stdin is not None
    SERVER.stdin.write(f"{what} {number}\n")
    SERVER.stdin.flush()


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    stop = asyncio.Event()
    working = kopf.operator(
        namespace="default", stop_flag=stop, standalone=True, identity=str(uuid.uuid4()), priority=0
    )
    _, done = asyncio.ensure_future(working), asyncio.ensure_future(drive(stop))
    await done


logging.disable(logging.CRITICAL)
try:
    asyncio.run(main())
finally:
    SERVER.kill()
