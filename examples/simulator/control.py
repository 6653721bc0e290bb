"""The world's own control address: its books, its log, and what may be done to it. For tests and for people who
watch a demo.
"""

import json
from dataclasses import asdict

from examples.simulator.forge import ForgeError
from examples.simulator.http import Answer, Request, json_answer
from examples.simulator.invariants import doubles, stale_tenants
from examples.simulator.world import World


async def answer_control(world: World, request: Request) -> Answer:
    match request.method, request.path:
        case "GET", "/_sim/books":
            return json_answer(world.books())
        case "GET", "/_sim/log":
            since = int(request.params().get("since", "0"))
            return json_answer([asdict(entry) for entry in world.log.entries[since:]])
        case "GET", "/_sim/violations":
            return json_answer(
                {
                    "violations": [one.model_dump() for one in world.state.violations],
                    "doubles": doubles(world),
                    "stale_tenants": stale_tenants(world),
                }
            )
        case "GET", "/_sim/faults":
            return json_answer([fault.model_dump() for fault in world.faults.rows])
        case "POST", "/_sim/do":
            return _do(world, request)
        case _:
            return json_answer({"error": "not found"}, 404)


def _do(world: World, request: Request) -> Answer:
    try:
        asked = json.loads(request.body)
        return json_answer({"done": world.drift.do(**asked)})
    except (ValueError, TypeError, KeyError, StopIteration, ForgeError) as error:
        return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)
