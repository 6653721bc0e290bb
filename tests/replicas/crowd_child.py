"""Where the replicas of a crowd begin, each a process of its own: one line of JSON on standard input for each.

As `tests.replicas.child`, but the world is reached by `crowd_wire` instead of sockets of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from controller.places import Places
from controller.replicas.shares import Rhythm
from controller.running import Controller, working_store
from reconcilers.backends.opening import Options
from reconcilers.clock import SystemClock
from tests.replicas.child import noted
from tests.replicas.crowd_wire import CrowdTransport, Way, crowd_machines


async def live(told: dict[str, Any]) -> None:
    places = Places(Path(told["folder"]), Path(told["state"]), told["url"])
    rhythm = Rhythm(*(timedelta(seconds=told[part]) for part in ("lease", "beat", "margin")))
    way = await Way.open(Path(told["world"]))
    options = Options(
        transports=dict.fromkeys(told["systems"], CrowdTransport(way)),
        machines=lambda key, gate, places: crowd_machines(way, gate),
        trust=cache(ssl.create_default_context),
    )
    async with working_store(places, SystemClock()) as store:
        controller = Controller(places, store, options=options, replicas=rhythm)
        noted(controller, Path(told["calls"]))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, controller.stop.set)
        await controller.run()


def main() -> None:
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
            for noisy in ("apscheduler", "httpx"):
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    main()
