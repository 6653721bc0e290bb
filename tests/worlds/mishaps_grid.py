"""Mishaps of the grid: daemons, nodes, VMs that come and go, gateways."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from examples.simulator.compute import Compute
from examples.simulator.records import Node
from tests.worlds.mishap import Ending, Kind, Mishap, left, spoils, things_of, victim

if TYPE_CHECKING:
    from tests.worlds.rig import Rig


def _daemon(rig: Rig, mishap: Mishap) -> Compute:
    """The one that it names; the first one where there is none of that name."""
    daemons = rig.world.daemons
    return daemons.get(mishap.target) or next(iter(daemons.values()))


def _name_of_daemon(rig: Rig, mishap: Mishap) -> str:
    return _daemon(rig, mishap).name


def _node(rig: Rig, mishap: Mishap) -> Node:
    nodes = _daemon(rig, mishap).state.nodes
    return nodes[int(mishap.options.get("node", 0)) % len(nodes)]


def _a_node(rng: random.Random) -> dict[str, Any]:
    return {"node": rng.randrange(4)}


def _a_while(least: int, most: int, **more: Any) -> Any:
    return lambda rng: {"seconds": rng.randint(least, most), **more}


_CLIENT_IS_DEAD = spoils("restart_required", "compute", "*", _name_of_daemon)


async def _client_dead(rig: Rig, mishap: Mishap) -> Ending:
    """Until somebody restarts the daemon."""
    spell = await _CLIENT_IS_DEAD(rig, mishap)
    spell.fault.until = None
    return replace(spell, then=lambda: rig.world.drift.restart_daemon(_name_of_daemon(rig, mishap)))


async def _restarted(rig: Rig, mishap: Mishap) -> Ending:
    daemon = _daemon(rig, mishap)
    rig.world.drift.restart_daemon(daemon.name, left(rig, mishap).total_seconds())

    def up() -> None:
        daemon.state.down_until = min(daemon.state.down_until, rig.world.clock.now())

    return up


async def _offline(rig: Rig, mishap: Mishap) -> Ending:
    daemon, sid = _name_of_daemon(rig, mishap), _node(rig, mishap).sid
    rig.world.drift.set_node_online(daemon, sid, False)
    return lambda: rig.world.drift.set_node_online(daemon, sid, True)


async def _dead(rig: Rig, mishap: Mishap) -> Ending:
    daemon, sid = _name_of_daemon(rig, mishap), _node(rig, mishap).sid
    rig.world.drift.kill_node(daemon, sid)
    return lambda: rig.world.drift.kill_node(daemon, sid, dead=False)


async def _fragmented(rig: Rig, mishap: Mishap) -> Ending:
    """On every node of the daemon; what others took is given back."""
    daemon = _daemon(rig, mishap)
    before = [(pool, pool.gb_foreign) for node in daemon.state.nodes for pool in node.pools]
    for node in daemon.state.nodes:
        rig.world.drift.fragment_pools(daemon.name, node.sid, int(mishap.options.get("free_gb", 20)))

    def give_back() -> None:
        for pool, held in before:
            pool.gb_foreign = held

    return give_back


async def _crash_loop(rig: Rig, mishap: Mishap) -> Ending:
    """In the end the grid gives it up, and it is listed no more."""
    machine = await victim(rig, mishap)
    rig.world.drift.crash_loop(machine.state.key)
    rig.world.cut(machine)
    return lambda: rig.world.drift.delete_vm(machine.state.key)


async def _vanish(rig: Rig, mishap: Mishap) -> None:
    rig.world.drift.delete_vm((await victim(rig, mishap)).state.key)


async def _cut_off(rig: Rig, mishap: Mishap) -> Ending:
    machine = await victim(rig, mishap)
    rig.world.drift.set_reachable(machine.state.key, False)
    return lambda: _back(rig, machine.state.key)


def _back(rig: Rig, key: str) -> None:
    if key in rig.world.machines:
        rig.world.drift.set_reachable(key, True)


KINDS: Mapping[str, Kind] = {
    "deploy_rolls_back": Kind(
        3,
        "mild",
        "300 s, an error, and nothing is left",
        spoils("deploy_rolls_back", "compute", "deploy_vm", things_of),
        (5.0, 20.0),
        lambda rng: {"times": rng.choice((1, 2))},
        "tester",
    ),
    "rolled_back_later": Kind(
        3,
        "rough",
        "answered as made, and gone some time later",
        spoils("rolled_back_later", "compute", "deploy_*", things_of),
        (5.0, 20.0),
        lambda rng: {"method": rng.choice(("deploy_vm", "deploy_webgateway")), **_a_while(5, 900, times=1)(rng)},
        "tester",
    ),
    "gateway_failed_but_exists": Kind(
        2,
        "mild",
        "a gateway is made, and reported as failed",
        spoils("gateway_failed_but_exists", "compute", "deploy_webgateway", things_of),
        (5.0, 20.0),
        lambda rng: {"times": 1},
        "tester",
    ),
    "slow_chain": Kind(
        2,
        "mild",
        "a gateway takes minutes",
        spoils("slow_chain", "compute", "deploy_webgateway", things_of),
        (5.0, 20.0),
        _a_while(30, 300),
        "tester",
    ),
    "daemon_client_dead": Kind(
        2, "rough", "the daemon's connection to the chain is dead until it is restarted", _client_dead, victim="daemon"
    ),
    "daemon_restarted": Kind(3, "mild", "the daemon is restarted", _restarted, (0.05, 2.0), victim="daemon"),
    "node_offline": Kind(2, "rough", "a node is off", _offline, (5.0, 60.0), _a_node, "daemon"),
    "node_dead": Kind(2, "rough", "a node is dead and looks up", _dead, (5.0, 60.0), _a_node, "daemon"),
    "capacity_stale": Kind(
        2,
        "mild",
        "the readout of what is free is old",
        spoils("capacity_stale", "compute", "list_nodes"),
        (5.0, 60.0),
        _a_while(300, 7200),
    ),
    "capacity_overstated": Kind(
        2, "mild", "nothing seems to be used", spoils("capacity_overstated", "compute", "list_nodes"), (5.0, 60.0)
    ),
    "pools_fragmented": Kind(
        2,
        "rough",
        "there is room on no single pool",
        _fragmented,
        (5.0, 30.0),
        lambda rng: {"free_gb": rng.randint(0, 30)},
        "daemon",
    ),
    "name_taken_by_a_stranger": Kind(
        2,
        "mild",
        "somebody else on the grid has the gateway's name",
        spoils("name_taken", "compute", "deploy_webgateway", things_of),
        (5.0, 20.0),
        lambda rng: {"times": rng.choice((1, 1, 2))},
        "tester",
    ),
    "name_taken_by_our_leftover": Kind(
        2,
        "mild",
        "a gateway of ours that nobody knows of has the name",
        spoils("name_taken", "compute", "deploy_webgateway", things_of),
        (5.0, 20.0),
        lambda rng: {"times": 1, "ours": True},
        "tester",
    ),
    "teardown_lags": Kind(
        3,
        "mild",
        "a cancellation is accepted and takes effect later",
        spoils("teardown_lags", "compute", "delete_*", things_of),
        (10.0, 120.0),
        _a_while(10, 300),
        "tester",
    ),
    "teardown_takes_an_hour": Kind(
        2,
        "rough",
        "a cancellation is accepted and takes effect after an hour",
        spoils("teardown_lags", "compute", "delete_*", things_of),
        (10.0, 120.0),
        _a_while(3600, 3600, times=1),
        "tester",
    ),
    "vm_crash_loops": Kind(
        2, "rough", "a VM crashes again and again, and vanishes", _crash_loop, (3.0, 20.0), victim="tester"
    ),
    "vm_vanishes": Kind(2, "rough", "a VM is gone from one moment to the next", _vanish, (2.0, 30.0), victim="tester"),
    "vm_never_reachable": Kind(
        2,
        "rough",
        "a new VM never finds its network",
        spoils("never_reachable", "compute", "deploy_vm", things_of),
        (5.0, 30.0),
        lambda rng: {"times": 1},
        "tester",
    ),
    "vm_cut_off": Kind(2, "mild", "a VM is away from the network for a while", _cut_off, (1.0, 30.0), victim="tester"),
    "outside_unroutable": Kind(
        2,
        "mild",
        "a gateway leads nowhere for a while",
        spoils("outside_unroutable", "compute", "gateway", things_of),
        (1.0, 20.0),
        victim="tester",
    ),
}
