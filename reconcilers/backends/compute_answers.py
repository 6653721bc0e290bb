"""What is ordered from hero_compute, what it shows, and the words in which it is asked.

Assumptions (A), all of them in this module: the method names of listings and of deleting a gateway, every parameter
name, and under which keys an answer holds what we need. Several spellings are accepted in answers; one is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from specs.fleet import GridNode, NodeSid

NO_NODE = NodeSid("")


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM. `address` "" while the daemon does not know it; `state`: provisioning, starting, running or failed (S)."""

    vm_id: str
    name: str
    state: str
    address: str = ""
    node_sid: NodeSid = NO_NODE
    memory_mb: int = 0
    disk_gb: int = 0
    created_at: datetime | None = None  # None: the daemon does not tell


@dataclass(frozen=True, slots=True)
class Gateway:
    """`fqdn` "" when the daemon does not tell it (lesson 13)."""

    gateway_id: str
    name: str
    fqdn: str = ""
    backends: tuple[str, ...] = ()
    state: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A host under both of its ids, and what is free on it: no VM's disk spans two pools."""

    sid: NodeSid
    grid_node: GridNode
    online: bool
    memory_free_mb: int
    disk_pools_free_gb: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VmOrder:
    """A VM to be made. `node_sid` is the daemon's own node id, "0001" (lesson 7)."""

    name: str
    node_sid: NodeSid
    image: str
    cpu: int
    memory_mb: int
    disk_gb: int
    rootfs_gb: int
    ssh_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GatewayOrder:
    """A web gateway to be made. `grid_node` is the grid's raw node id, "2" (lesson 7); `backend_address` is bare."""

    name: str
    grid_node: GridNode
    backend_address: str


@dataclass(frozen=True, slots=True)
class ComputeDialect:
    """The daemon's words (A, except what CONTRACTS.md marks S or P): to be changed when it says them differently."""

    service: str = "ComputeService"
    deploy_vm: str = "deploy_vm"
    get_vm: str = "get_vm"
    list_vms: str = "list_vms"
    delete_vm: str = "delete_vm"
    deploy_gateway: str = "deploy_webgateway"
    list_gateways: str = "list_webgateways"
    delete_gateway: str = "delete_webgateway"
    list_nodes: str = "list_nodes"
    discover: str = "rpc.discover"
    id_param: str = "sid"
    secret_param: str = "secret"  # noqa: S105 - a parameter's name
    not_found: tuple[str, ...] = ("not found", "notfound", "no such", "does not exist")
    name_taken: tuple[str, ...] = ("nameexists", "name exists", "already exists", "name is taken", "name taken")
    connection_dead: tuple[str, ...] = ("restart required",)
    definite_codes: frozenset[int] = frozenset({-32700, -32600})  # refused before anything was begun (JSON-RPC 2.0)

    def method(self, name: str) -> str:
        """The full name of a method; `rpc.` ones belong to no service."""
        return name if name.startswith("rpc.") else f"{self.service}.{name}"

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that we call."""
        of_vms = (self.deploy_vm, self.get_vm, self.list_vms, self.delete_vm)
        of_gateways = (self.deploy_gateway, self.list_gateways, self.delete_gateway)
        return tuple(self.method(each) for each in (*of_vms, *of_gateways, self.list_nodes))


def backend_url(address: str) -> str:
    """How a VM is written as a gateway's backend: with its scheme and the brackets (S)."""
    return f"http://[{address}]:9988"


def order_vm(order: VmOrder) -> dict[str, Any]:
    """The parameters of a VM (A: their names)."""
    return {
        "name": order.name,
        "node_sid": order.node_sid,
        "image": order.image,
        "cpu": order.cpu,
        "memory_mb": order.memory_mb,
        "disk_gb": order.disk_gb,
        "rootfs_gb": order.rootfs_gb,
        "ssh_keys": list(order.ssh_keys),
    }


def order_gateway(order: GatewayOrder) -> dict[str, Any]:
    """The parameters of a web gateway (S). `node_sid` takes the *grid's* id in this call."""
    return {
        "name": order.name,
        "kind": "Name",
        "fqdn": "",
        "backends": [backend_url(order.backend_address)],
        "tls_passthrough": False,
        "node_sid": order.grid_node,
    }


def vm_of(body: Mapping[str, Any]) -> Vm:
    """A VM from its JSON. Raises KeyError, TypeError, ValueError."""
    return Vm(
        vm_id=_identity(body, "sid", "id", "vm_id"),
        name=str(body["name"]),
        state=str(body.get("state") or "").lower(),
        address=str(body.get("mycelium_ip") or ""),
        node_sid=NodeSid(str(body.get("node_sid") or "")),
        memory_mb=int(body.get("memory_mb") or 0),
        disk_gb=int(body.get("disk_gb") or 0),
        created_at=_moment(body.get("created_at")),
    )


def gateway_of(body: Mapping[str, Any]) -> Gateway:
    """A web gateway from its JSON. Raises KeyError, TypeError, ValueError."""
    return Gateway(
        gateway_id=_identity(body, "sid", "id", "gateway_id"),
        name=str(body["name"]),
        fqdn=str(body.get("fqdn") or ""),
        backends=tuple(str(each) for each in body.get("backends") or ()),
        state=str(body.get("state") or "").lower(),
    )


def node_of(body: Mapping[str, Any]) -> Node:
    """A node from its JSON (A). Free is what it says is free, else total less used; not said counts as nothing free."""
    pools = body.get("disk_pools_free_gb")
    if pools is None:
        pools = [_free(pool, "gb") for pool in body.get("disk_pools") or () if pool is not None]
    return Node(
        sid=NodeSid(_identity(body, "sid", "node_sid")),
        grid_node=GridNode(_identity(body, "grid_node", "grid_node_id", "node_id")),
        online=body.get("online") is True or str(body.get("state") or "").lower() in ("online", "up"),
        memory_free_mb=_free(body, "mb", "memory_"),
        disk_pools_free_gb=tuple(int(pool) for pool in pools),
    )


def rows_of(result: Any, *keys: str) -> list[Any]:
    """The rows of a listing: the result itself, or the list that it holds under one of the keys."""
    if isinstance(result, dict):
        result = next((result[key] for key in keys if key in result), None)
    if not isinstance(result, list):
        raise TypeError("no list")
    return result


def _moment(told: Any) -> datetime | None:
    """Epoch seconds (A); anything else tells nothing."""
    plain = isinstance(told, (int, float)) and not isinstance(told, bool) and 0 < told < 1e11
    return datetime.fromtimestamp(told, UTC) if plain else None


def _identity(body: Mapping[str, Any], *keys: str) -> str:
    for key in keys:
        value = body.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value):
            return str(value)
    raise KeyError(keys[0])


def _free(body: Any, unit: str, what: str = "") -> int:
    """What is free of something, in the unit: `<what>free_<unit>`, or `…total…` less `…used…` in either spelling."""
    if isinstance(body, (int, float)):
        return int(body)
    for free in (f"{what}free_{unit}", f"{what}{unit}_free"):
        if body.get(free) is not None:
            return int(body[free])
    for total, used in ((f"{what}total_{unit}", f"{what}used_{unit}"), (f"{what}{unit}_total", f"{what}{unit}_used")):
        if body.get(total) is not None:
            return max(0, int(body[total]) - int(body.get(used) or 0))
    return 0
