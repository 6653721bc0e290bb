"""Where the replicas of a crowd begin, each a process of its own: one line of JSON on standard input for each.

As `tests.replicas.child`, but the world is reached by `crowd_wire` instead of sockets of its own.
"""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Any

from reconcilers.backends.opening import Options
from tests.replicas.child import live, serve
from tests.replicas.crowd_wire import CrowdTransport, Way, crowd_machines


async def live_in_the_crowd(told: dict[str, Any]) -> None:
    way = await Way.open(Path(told["world"]))
    options = Options(
        transports=dict.fromkeys(told["systems"], CrowdTransport(way)),
        machines=lambda key, gate, places: crowd_machines(way, gate),
        trust=cache(ssl.create_default_context),
    )
    await live(told, options=options)


if __name__ == "__main__":
    serve(live_in_the_crowd)
