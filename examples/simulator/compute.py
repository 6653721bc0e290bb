"""hero_compute: one daemon that makes VMs and web gateways. No HTTP here; see compute_rpc for the wire.

States are read off the clock, so an operation that was under way when the simulator stopped goes on after its restart.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from examples.simulator.faults import Faults
from examples.simulator.grid import Grid
from examples.simulator.realm import Realm
from examples.simulator.records import ComputeState, Freed, Gateway, Node, Vm

INVALID = -32602
LOOKS_UP = 4800.0
"""Simulated seconds for which a dead node goes on looking up (P)."""
CRASH_ROUND, CRASH_DOWN = 90.0, 60.0
"""Simulated seconds of one round of a crash loop, and how many of them the VM is down."""
LIMIT = 300.0
"""Simulated seconds that the daemon waits inside a call (S)."""
FAILED = -32000
IMAGES = ("Ubuntu 24.04", "Ubuntu 22.04")
_VM_NAME = re.compile(r"[a-zA-Z0-9_]{1,36}")
_GATEWAY_NAME = re.compile(r"[a-z0-9]{3,36}")
_BACKEND = re.compile(r"http://\[([0-9a-f:]+)\]:9988")


class ComputeError(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Used:
    """Memory in MB, disk in GB by pool."""

    memory_mb: int
    pools: dict[str, int]


def used(node: Node, vms: Iterable[Vm], freed: Iterable[Freed] = ()) -> Used:
    """What VMs, others, and what is not yet counted as free hold of a node."""
    here = [(vm.pool, vm.memory_mb, vm.disk_gb + vm.rootfs_gb) for vm in vms if vm.node_sid == node.sid]
    here += [(row.pool, row.memory_mb, row.disk_gb) for row in freed if row.node_sid == node.sid]
    pools = {
        pool.name: pool.gb_foreign + sum(disk for name, _, disk in here if name == pool.name) for pool in node.pools
    }
    return Used(node.memory_mb_foreign + sum(memory for _, memory, _ in here), pools)


class Compute:
    """One daemon with its own sequence of ids. `machines`: what brings a VM's machine to life and buries it."""

    def __init__(self, state: ComputeState, realm: Realm, grid: Grid, faults: Faults, machines: "MachineYard") -> None:
        self.state = state
        self._realm = realm
        self._grid = grid
        self.faults = faults
        self._machines = machines
        self._going: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self.state.name

    # -- VMs

    async def deploy_vm(self, vm: dict[str, Any], written: Callable[[], Awaitable[None]]) -> Vm:
        """Takes 55 to 61 s (DOMAIN.md) and waits inside the call; the VM is in the listing from the start.

        `written` is awaited once the VM is on the books. Raises ComputeError."""
        node = self._vm_node(vm)
        self._check_vm(vm)
        made = self._new_vm(vm, node, self._pool(node, vm))
        rolls_back = self.faults.take("compute", "deploy_vm", ("deploy_rolls_back",), made.name)
        if rolls_back or not self.runs(node):
            made.failed, made.starting_at, made.ready_at = True, made.created_at + LIMIT, made.created_at + LIMIT
        self.state.vms[made.sid] = made
        self._machines.born(self, made)
        await written()
        await self._realm.clock.sleep_until(made.ready_at)
        if rolls_back:
            self.remove_vm(made)
            raise ComputeError(FAILED, f"deployment of {made.name} timed out after {LIMIT:.0f} s and was rolled back")
        if made.failed:
            raise ComputeError(FAILED, f"deployment of {made.name} failed on node {made.node_sid}")
        self._may_roll_back("deploy_vm", made)
        return made

    def _check_vm(self, vm: dict[str, Any]) -> None:
        if not _VM_NAME.fullmatch(vm["name"]):
            raise ComputeError(
                INVALID, f"invalid name {vm['name']!r}: use letters, digits and underscores, at most 36 of them"
            )
        if vm["image"] not in IMAGES:
            raise ComputeError(INVALID, f"unknown image {vm['image']!r}: one of {', '.join(IMAGES)}")
        if not vm["secret"]:
            raise ComputeError(INVALID, "secret must not be empty")
        for field, least in (("cpu", 1), ("memory_mb", 512), ("disk_gb", 1), ("rootfs_gb", 1)):
            if vm[field] < least:
                raise ComputeError(INVALID, f"{field} must be at least {least}")

    def _vm_node(self, vm: dict[str, Any]) -> Node:
        node = next((node for node in self.state.nodes if node.sid == vm["node_sid"]), None)
        if node is None:
            known = ", ".join(node.sid for node in self.state.nodes)
            raise ComputeError(INVALID, f"unknown node_sid {vm['node_sid']!r}: this daemon's nodes are {known}")
        if not self.looks_up(node) and not self.faults.take("compute", "deploy_vm", ("stuck_contract",), vm["name"]):
            raise ComputeError(FAILED, f"node {node.sid} is offline")
        return node

    def _pool(self, node: Node, vm: dict[str, Any]) -> str:
        """The pool with room for it all: the sum of free disk may fit where no single pool does."""
        disk_gb, memory_mb = vm["disk_gb"] + vm["rootfs_gb"], vm["memory_mb"]
        held = used(node, self.state.vms.values())
        lacks = f"{vm['name']} does not fit: node {node.sid} has"
        if held.memory_mb + memory_mb > node.memory_mb_total:
            raise ComputeError(FAILED, f"{lacks} not enough memory for {memory_mb} MB")
        for pool in node.pools:
            if pool.gb_total - held.pools[pool.name] >= disk_gb:
                return pool.name
        raise ComputeError(FAILED, f"{lacks} no disk pool with {disk_gb} GB free")

    # -- nodes

    def looks_up(self, node: Node) -> bool:
        """What the chain says: it believes in a dead node for more than an hour."""
        return node.online and (node.dead_since is None or self._realm.now() - node.dead_since < LOOKS_UP)

    def runs(self, node: Node) -> bool:
        """What is."""
        return node.online and node.dead_since is None

    def readout(self, node: Node) -> "Used":
        """What the chain reports as used: 15 to 60 s behind what is (P)."""
        now = self._realm.now()
        if self.faults.active("compute", "list_nodes", ("capacity_overstated",), node.sid):
            return Used(0, dict.fromkeys((pool.name for pool in node.pools), 0))
        stale = self.faults.active("compute", "list_nodes", ("capacity_stale",), node.sid)
        late = float(stale.options.get("seconds", 3600)) if stale else 0.0
        told = [vm for vm in self.state.vms.values() if now >= vm.created_at + self._lag(vm) + late]
        freed = [row for row in self.state.freed if now < row.until + late]
        return used(node, told, freed)

    def _lag(self, vm: Vm) -> float:
        return self._realm.chance("lag", self.name, vm.sid).uniform(15, 60)

    def _new_vm(self, vm: dict[str, Any], node: Node, pool: str) -> Vm:
        sid, now = f"{self.state.next_vm:04}", self._realm.now()
        self.state.next_vm += 1
        chance = self._realm.chance("vm", self.name, sid)
        ready = now + chance.uniform(55, 61)
        never = self.faults.take("compute", "deploy_vm", ("never_reachable",), vm["name"]) is not None
        slow = self.faults.take("compute", "deploy_vm", ("slow_network",), vm["name"])
        reused = self.state.last_address and self.faults.take("compute", "deploy_vm", ("address_reused",), vm["name"])
        address = str(ipaddress.IPv6Address((0x04 << 120) | chance.getrandbits(120)))
        if reused:  # it belongs to one key: two never have it at once
            address, self.state.last_address = self.state.last_address, ""
        network = float(slow.options.get("seconds", 900)) if slow else chance.uniform(60, 180)
        return Vm(
            sid=sid,
            name=vm["name"],
            node_sid=node.sid,
            image=vm["image"],
            cpu=vm["cpu"],
            memory_mb=vm["memory_mb"],
            disk_gb=vm["disk_gb"],
            rootfs_gb=vm["rootfs_gb"],
            pool=pool,
            ssh_keys=[key.strip() for line in vm["ssh_keys"] for key in re.split(r"[\n,]", line) if key.strip()],
            secret=vm["secret"],
            mycelium_ip=address,
            created_at=now,
            starting_at=now + chance.uniform(20, 30),
            ready_at=ready,
            address_at=ready + chance.choice((0, 0, 0, 5)),
            reachable_at=None if never else ready + network,
            failed=self.faults.take("compute", "deploy_vm", ("vm_fails",), vm["name"]) is not None,
        )

    def vm(self, sid: str, secret: str) -> Vm:
        """Raises ComputeError when there is none, or when the secret is another one: then it is invisible (P)."""
        found = self.state.vms.get(sid)
        if found is None or found.secret != secret:
            raise ComputeError(FAILED, f"vm not found: {sid}")
        return found

    def vms(self, secret: str) -> list[Vm]:
        self._sweep()
        mine = [vm for vm in self.state.vms.values() if vm.secret == secret]
        shown = [
            vm for vm in mine if self.faults.listed("compute", "list_vms", vm.name, self._realm.now() - vm.created_at)
        ]
        return self.faults.cut_short("compute", "list_vms", shown)

    async def delete_vm(self, sid: str, secret: str) -> None:
        """Takes some seconds; at their end the machine is dead and its files are gone."""
        vm = self.vm(sid, secret)
        await self._realm.clock.sleep(self._realm.chance("delete", vm.name).uniform(3, 10))
        if not self._lags("delete_vm", vm):
            self.remove_vm(vm)

    def remove_vm(self, vm: Vm) -> None:
        if self.state.vms.pop(vm.sid, None):
            now = self._realm.now()
            freed = Freed(
                node_sid=vm.node_sid,
                pool=vm.pool,
                memory_mb=vm.memory_mb,
                disk_gb=vm.disk_gb + vm.rootfs_gb,
                until=now + self._lag(vm),
            )
            self.state.freed = [*(row for row in self.state.freed if now < row.until), freed]
            self.state.last_address = vm.mycelium_ip
            self._machines.buried(self, vm)

    def vm_state(self, vm: Vm) -> str:
        now = self._realm.now()
        if now < vm.starting_at:
            return "provisioning"
        if now < vm.ready_at:
            return "starting"
        return "failed" if vm.failed else "running"

    def vm_address(self, vm: Vm) -> str:
        """May be empty at first (P)."""
        return vm.mycelium_ip if self._realm.now() >= vm.address_at and not vm.failed else ""

    def reachable(self, vm: Vm) -> bool:
        now = self._realm.now()
        up = vm.reachable_at is not None and now >= vm.reachable_at and not vm.failed
        if vm.crashes_from is not None:
            up = up and (now - vm.crashes_from) % CRASH_ROUND >= CRASH_DOWN
        return up and all(self.runs(node) for node in self.state.nodes if node.sid == vm.node_sid)

    # -- what goes away by itself

    def _may_roll_back(self, method: str, made: "Vm | Gateway") -> None:
        """It was answered as made, and goes away some time later."""
        if fault := self.faults.take("compute", method, ("rolled_back_later",), made.name):
            self._goes(made, float(fault.options.get("seconds", 60)))

    def _lags(self, method: str, row: "Vm | Gateway") -> bool:
        """Whether a cancellation is accepted and the node takes its time; until then all is as it was."""
        fault = self.faults.take("compute", method, ("teardown_lags",), row.name)
        if fault is not None and row.gone_at is None:
            self._goes(row, float(fault.options.get("seconds", 3600)))
        return row.gone_at is not None

    def _goes(self, row: "Vm | Gateway", seconds: float) -> None:
        row.gone_at = self._realm.now() + seconds
        task = asyncio.create_task(self._gone(row.gone_at))
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _gone(self, moment: float) -> None:
        await self._realm.clock.sleep_until(moment)
        self._sweep()

    def _sweep(self) -> None:
        """Removes what is gone by now."""
        now = self._realm.now()
        vms = [vm for vm in self.state.vms.values() if vm.gone_at is not None and vm.gone_at <= now]
        gateways = [one for one in self.state.gateways.values() if one.gone_at is not None and one.gone_at <= now]
        for vm in vms:
            self.remove_vm(vm)
        for gateway in gateways:
            del self.state.gateways[gateway.sid]
        if vms or gateways:
            self._machines.changed()

    # -- web gateways

    async def deploy_webgateway(self, asked: dict[str, Any], written: Callable[[], Awaitable[None]]) -> Gateway:
        """Takes 5 to 20 s (DOMAIN.md). The name is taken from the start, on the whole grid. Raises ComputeError."""
        self._check_gateway(asked)
        self._may_be_taken(asked)
        sid, now = f"{self.state.next_gateway:04}", self._realm.now()
        self.state.next_gateway += 1
        slow = self.faults.take("compute", "deploy_webgateway", ("slow_chain",), asked["name"])
        seconds = (
            slow.options.get("seconds", 300) if slow else self._realm.chance("gateway", self.name, sid).uniform(5, 20)
        )
        made = Gateway(
            sid=sid,
            name=asked["name"],
            fqdn=f"{asked['name']}.{self.state.gateway_domain}",
            kind=asked["kind"],
            node_sid=asked["node_sid"],
            backends=asked["backends"],
            tls_passthrough=asked["tls_passthrough"],
            secret=asked["secret"],
            created_at=now,
            ready_at=now + seconds,
        )
        self.state.gateways[sid] = made
        await written()
        await self._realm.clock.sleep_until(made.ready_at)
        self._may_roll_back("deploy_webgateway", made)
        return made

    def _may_be_taken(self, asked: dict[str, Any]) -> None:
        """Raises ComputeError when it turns out that somebody was faster, or that a gateway of ours was left over."""
        name = asked["name"]
        if fault := self.faults.take("compute", "deploy_webgateway", ("name_taken",), name):
            self.occupy(name, asked["secret"] if fault.options.get("ours") else "somebody-else")
            raise ComputeError(FAILED, f"NameExists: the name contract {name!r} exists already")

    def occupy(self, name: str, secret: str) -> None:
        """A gateway of that name, of whose daemon's secret it is, that leads nowhere."""
        sid, now = f"x{self.state.next_gateway:04}", self._realm.now()
        self.state.next_gateway += 1
        self.state.gateways[sid] = Gateway(
            sid=sid,
            name=name,
            fqdn=f"{name}.elsewhere.test" if secret == "somebody-else" else f"{name}.{self.state.gateway_domain}",
            kind="Name",
            node_sid=self.state.nodes[0].grid_node,
            backends=["http://[400::1]:9988"],
            tls_passthrough=False,
            secret=secret,
            created_at=now,
            ready_at=now,
        )

    def _check_gateway(self, asked: dict[str, Any]) -> None:
        if asked["kind"] != "Name":
            raise ComputeError(INVALID, f'unknown kind {asked["kind"]!r}: use "Name"')
        if not _GATEWAY_NAME.fullmatch(asked["name"]):
            raise ComputeError(
                INVALID, f"invalid gateway name {asked['name']!r}: 3 to 36 lower-case letters and digits"
            )
        if asked["node_sid"] not in {node.grid_node for node in self.state.nodes}:
            known = ", ".join(node.grid_node for node in self.state.nodes)
            raise ComputeError(
                INVALID, f"unknown node_sid {asked['node_sid']!r}: a gateway takes the grid's node id, one of {known}"
            )
        if not asked["backends"] or not all(map(backend_address, asked["backends"])):
            raise ComputeError(INVALID, "backends: write each as http://[<mycelium address>]:9988")
        if self._grid.taken(asked["name"]):
            raise ComputeError(FAILED, f"NameExists: the name contract {asked['name']!r} exists already")

    def gateways(self, secret: str) -> list[Gateway]:
        self._sweep()
        mine = [gateway for gateway in self.state.gateways.values() if gateway.secret == secret]
        now = self._realm.now()
        shown = [
            one for one in mine if self.faults.listed("compute", "list_webgateways", one.name, now - one.created_at)
        ]
        return self.faults.cut_short("compute", "list_webgateways", shown)

    async def delete_webgateway(self, sid: str, secret: str) -> None:
        """The name is free at once (P). Raises ComputeError when there is none."""
        found = self.state.gateways.get(sid)
        if found is None or found.secret != secret:
            raise ComputeError(FAILED, f"webgateway not found: {sid}")
        await self._realm.clock.sleep(self._realm.chance("ungateway", found.name).uniform(2, 6))
        if not self._lags("delete_webgateway", found):
            self.state.gateways.pop(sid, None)

    def gateway_state(self, gateway: Gateway) -> str:
        if gateway.failed:
            return "failed"
        return "running" if self._realm.now() >= gateway.ready_at else "provisioning"


class MachineYard:
    """What a daemon tells the world about its machines."""

    def born(self, compute: Compute, vm: Vm) -> None:
        raise NotImplementedError

    def buried(self, compute: Compute, vm: Vm) -> None:
        raise NotImplementedError

    def changed(self) -> None:
        raise NotImplementedError


@lru_cache(4096)
def backend_address(backend: str) -> str | None:
    """The Mycelium address in `http://[<address>]:9988`, in its usual spelling; None when it is written otherwise (S)."""
    match = _BACKEND.fullmatch(backend)
    try:
        return str(ipaddress.IPv6Address(match[1])) if match else None
    except ValueError:
        return None
