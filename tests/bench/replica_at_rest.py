"""Where replicas begin that look after copies of one settled tester: one line of JSON on standard input for each, a process of
its own.

The sample lives its life once, before the first of them. Each writes down, line by line, whom it looks at: `begun` and `ended`,
with when (`time.monotonic`, the same in all processes) and the tester's name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.places import Places, opened_store
from controller.replicas.shares import Rhythm
from reconcilers.clock import SystemClock
from tests.bench.settled import Copy, Outside, filled, sampled
from tests.bench.ten_thousand import Fleet
from tests.replicas.child import serve
from tests.worlds.loop import run


class Ground:
    """What all of them have in common, made before the first one begins."""

    def __init__(self, root: Path, url: str, testers: int) -> None:
        self.sample = run(sampled(root / "sample"))
        self.places = Places(root / "fleet", root / "state", url, secrets=self.sample.folder)
        self.copies = [Copy(number, self.sample) for number in range(testers)]
        self.outside = Outside(self.sample, self.copies, asyncio.sleep)

    async def live(self, told: dict[str, Any]) -> None:
        async with opened_store(self.places, SystemClock()) as store:
            if told["fills"]:
                await filled(self.sample, len(self.copies), self.places, store)
                return
            fleet = Fleet(self.places, self.outside.anew(), store, SystemClock(), replicas=Rhythm())
            engine = fleet.controller.engine
            diary = os.open(told["diary"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            look = engine.look

            async def noted(name: str) -> timedelta | None:
                os.write(diary, f"begun {time.monotonic()} {name}\n".encode())
                wait = await look(name)
                os.write(diary, f"ended {time.monotonic()} {name}\n".encode())
                return wait

            engine.look = noted  # type: ignore[method-assign]
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fleet.controller.stop.set)
            await fleet.controller.run()


if __name__ == "__main__":
    ground = Ground(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    serve(ground.live)
