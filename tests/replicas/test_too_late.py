"""The judge of the fault tests: which calls were begun by a replica after its lock was somebody else's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller.store.fencing import LEASE, Lease
from examples.simulator.clock import WorldClock
from examples.simulator.world import World
from reconcilers.secret import Secret
from tests.replicas.crowd_wire import Counters, Way
from tests.replicas.fleet import too_late
from tests.worlds.addresses import addresses_of
from tests.worlds.ground import Yard
from tests.worlds.wire import WorldTransport

RAISED = {(3, 1): 10.0, (3, 2): 20.0, (3, 3): 30.0, (4, 1): 15.0}
"""When which epoch of which lease began; each lock was taken a little before."""
TAKINGS = [(3, 9.5), (3, 18.0), (3, 29.5), (4, 14.5)]


def call(at: float, *under: int) -> dict[str, Any]:
    return {"at": at, "under": under or None}


@pytest.mark.parametrize(
    ("begun", "late_by"),
    [
        (call(10.1, 3, 1), None),
        (call(17.9, 3, 1), None),
        (call(18.5, 3, 1), 0.5),  # the lock was taken, and its epoch not raised yet
        (call(25.0, 3, 1), 7.0),
        (call(35.0, 3, 1), 17.0),
        (call(29.0, 3, 2), None),
        (call(29.75, 3, 2), 0.25),
        (call(99.0, 3, 3), None),  # nobody has taken it since
        (call(99.0, 4, 1), None),
        (call(99.0), None),
    ],
)
def test_a_call_is_late_from_the_moment_at_which_the_next_one_had_the_lock(begun: Any, late_by: Any) -> None:
    assert [each["late by"] for each in too_late([begun], RAISED, TAKINGS)] == ([late_by] if late_by else [])


async def test_the_world_of_a_crowd_notes_under_which_lease_a_call_was_sent_whoever_let_it_go(tmp_path: Path) -> None:
    world = World(clock=WorldClock(1.0))
    key = Path(addresses_of(world, tmp_path).installer_key_file)
    counters = Counters(Yard(world), WorldTransport(world), Secret(key.read_bytes()))
    server = await asyncio.start_unix_server(counters.serve, tmp_path / "world")
    way = await Way.open(tmp_path / "world")
    for lease in (Lease(3, 2, 1), None):
        LEASE.set(lease)
        await way.ask("http", "GET", f"{world.realm.forge_url}/api/v1/version", [], b"")
    assert [each["under"] for each in counters.begun] == [(3, 2), None]
    server.close()
    way._hearing.cancel()
