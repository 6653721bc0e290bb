"""hero_compute on the wire: JSON-RPC 2.0 at `POST /rpc`, with `rpc.discover`, `/health` and the documents every
Hero service has.

Names and parameters that CONTRACTS.md marks A are assumptions: list_webgateways, delete_webgateway, list_nodes and
the fields of deploy_vm.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from examples.simulator.compute import FAILED, INVALID, Compute, ComputeError, Used
from examples.simulator.http import Answer, Request, json_answer, text
from examples.simulator.records import Gateway, Node, Vm

PREFIX = "ComputeService."
Params = dict[str, Any]
Written = Callable[[], Awaitable[None]]
Method = Callable[[Compute, Params, Written], Awaitable[Any]]
_REQUIRED = object()


def vm_shape(compute: Compute, vm: Vm) -> dict[str, Any]:
    return {
        "sid": vm.sid,
        "name": vm.name,
        "state": compute.vm_state(vm),
        "mycelium_ip": compute.vm_address(vm),
        "node_sid": vm.node_sid,
        "image": vm.image,
        "cpu": vm.cpu,
        "memory_mb": vm.memory_mb,
        "disk_gb": vm.disk_gb,
        "rootfs_gb": vm.rootfs_gb,
        "created_at": int(vm.created_at),
    }


def gateway_shape(compute: Compute, gateway: Gateway) -> dict[str, Any]:
    return {
        "sid": gateway.sid,
        "name": gateway.name,
        "fqdn": gateway.fqdn,
        "kind": gateway.kind,
        "state": compute.gateway_state(gateway),
        "node_sid": gateway.node_sid,
        "backends": gateway.backends,
        "tls_passthrough": gateway.tls_passthrough,
    }


def node_shape(compute: Compute, node: Node, held: Used) -> dict[str, Any]:
    pools = [{"name": pool.name, "gb_total": pool.gb_total, "gb_used": held.pools[pool.name]} for pool in node.pools]
    return {
        "sid": node.sid,
        "grid_node": node.grid_node,
        "online": compute.looks_up(node),
        "memory_mb_total": node.memory_mb_total,
        "memory_mb_used": held.memory_mb,
        "disk_pools": pools,
    }


async def _deploy_vm(compute: Compute, params: Params, written: Written) -> Any:
    return vm_shape(compute, await compute.deploy_vm(params, written))


async def _get_vm(compute: Compute, params: Params, written: Written) -> Any:
    return vm_shape(compute, compute.vm(params["sid"], params["secret"]))


async def _list_vms(compute: Compute, params: Params, written: Written) -> Any:
    return [vm_shape(compute, vm) for vm in compute.vms(params["secret"])]


async def _delete_vm(compute: Compute, params: Params, written: Written) -> Any:
    await compute.delete_vm(params["sid"], params["secret"])
    return {"sid": params["sid"], "deleted": True}


async def _vm_stats(compute: Compute, params: Params, written: Written) -> Any:
    vm = compute.vm(params["sid"], params["secret"])
    return {"sid": vm.sid, "state": compute.vm_state(vm), "memory_mb": vm.memory_mb, "cpu": vm.cpu}


async def _vm_logs(compute: Compute, params: Params, written: Written) -> Any:
    vm = compute.vm(params["sid"], params["secret"])
    return {"sid": vm.sid, "logs": f"{vm.name} {compute.vm_state(vm)}\n"}


async def _not_here(compute: Compute, params: Params, written: Written) -> Any:
    compute.vm(params["sid"], params["secret"])
    raise ComputeError(FAILED, "not supported by this image")


async def _deploy_webgateway(compute: Compute, params: Params, written: Written) -> Any:
    made = await compute.deploy_webgateway(params, written)
    shape = gateway_shape(compute, made)
    faults = compute.faults
    if faults.take("compute", "deploy_webgateway", ("gateway_failed_but_exists",), made.name):
        raise ComputeError(FAILED, f"gateway {made.name} did not become ready")
    if faults.take("compute", "deploy_webgateway", ("gateway_answer_lacks_fqdn",), made.name):
        shape["fqdn"] = ""
    return shape


async def _list_webgateways(compute: Compute, params: Params, written: Written) -> Any:
    lacking = compute.faults.active("compute", "list_webgateways", ("gateway_listing_lacks_fqdn",))
    rows = [gateway_shape(compute, gateway) for gateway in compute.gateways(params["secret"])]
    return [{**row, "fqdn": ""} for row in rows] if lacking else rows


async def _delete_webgateway(compute: Compute, params: Params, written: Written) -> Any:
    await compute.delete_webgateway(params["sid"], params["secret"])
    return {"sid": params["sid"], "deleted": True}


async def _list_nodes(compute: Compute, params: Params, written: Written) -> Any:
    return [node_shape(compute, node, compute.readout(node)) for node in compute.state.nodes]


_ONE: dict[str, tuple[type, Any]] = {"sid": (str, _REQUIRED), "secret": (str, _REQUIRED)}
_ALL: dict[str, tuple[type, Any]] = {"secret": (str, _REQUIRED)}
_VM: dict[str, tuple[type, Any]] = {
    "name": (str, _REQUIRED),
    "node_sid": (str, _REQUIRED),
    "image": (str, _REQUIRED),
    "cpu": (int, _REQUIRED),
    "memory_mb": (int, _REQUIRED),
    "disk_gb": (int, _REQUIRED),
    "rootfs_gb": (int, _REQUIRED),
    "ssh_keys": (list, _REQUIRED),
    "secret": (str, _REQUIRED),
}
_GATEWAY: dict[str, tuple[type, Any]] = {
    "name": (str, _REQUIRED),
    "kind": (str, "Name"),
    "fqdn": (str, ""),
    "backends": (list, _REQUIRED),
    "tls_passthrough": (bool, False),
    "secret": (str, _REQUIRED),
    "node_sid": (str, _REQUIRED),
}
METHODS: dict[str, tuple[Method, dict[str, tuple[type, Any]]]] = {
    "deploy_vm": (_deploy_vm, _VM),
    "get_vm": (_get_vm, _ONE),
    "list_vms": (_list_vms, _ALL),
    "delete_vm": (_delete_vm, _ONE),
    "vm_stats": (_vm_stats, _ONE),
    "vm_logs": (_vm_logs, _ONE),
    "vm_exec": (_not_here, {**_ONE, "command": (str, "")}),
    "inject_ssh_keys": (_not_here, {**_ONE, "ssh_keys": (list, _REQUIRED)}),
    "deploy_webgateway": (_deploy_webgateway, _GATEWAY),
    "list_webgateways": (_list_webgateways, _ALL),
    "delete_webgateway": (_delete_webgateway, _ONE),
    "list_nodes": (_list_nodes, {}),
}
WRITING = frozenset(("deploy_vm", "delete_vm", "inject_ssh_keys", "vm_exec", "deploy_webgateway", "delete_webgateway"))


def rpc_method(request: Request) -> str:
    """The method that a request names, without its prefix; for the log and the faults."""
    try:
        named = json.loads(request.body).get("method", "?")
    except (ValueError, AttributeError):
        return "?"
    return str(named).removeprefix(PREFIX)


async def answer_compute(compute: Compute, request: Request, written: Written) -> Answer:
    """`written`: awaited as soon as the effect of a slow call is on the books."""
    if (request.method, request.path) == ("POST", "/rpc"):
        return await _rpc(compute, request, written)
    if request.method != "GET":
        return Answer(405)
    if request.path == "/health":
        return json_answer({"status": "ok", "service": "hero_compute"})
    if request.path == "/.well-known/heroservice.json":
        return json_answer({"name": "hero_compute", "protocol": "openrpc", "version": "0.3.0"})
    if request.path == "/openrpc.json":
        return json_answer(_discover(compute))
    return text("not found\n", 404)


def _has(compute: Compute, method: str) -> bool:
    """A daemon of another version may lack a method."""
    return method in METHODS and not compute.faults.active("compute", method, ("method_missing",))


def _discover(compute: Compute) -> dict[str, Any]:
    methods = [
        {
            "name": PREFIX + name,
            "params": [
                {"name": field, "required": default is _REQUIRED, "schema": {}}
                for field, (_, default) in fields.items()
            ],
            "result": {"name": "result", "schema": {}},
        }
        for name, (_, fields) in METHODS.items()
        if _has(compute, name)
    ]
    return {"openrpc": "1.2.6", "info": {"title": "hero_compute", "version": "0.3.0"}, "methods": methods}


async def _rpc(compute: Compute, request: Request, written: Written) -> Answer:
    try:
        call = json.loads(request.body)
    except ValueError:
        return _error(None, -32700, "Parse error")
    if not isinstance(call, dict) or call.get("jsonrpc") != "2.0" or not isinstance(call.get("method"), str):
        return _error(None, -32600, "Invalid Request")
    asked = call.get("id")
    if call["method"] == "rpc.discover":
        return json_answer({"jsonrpc": "2.0", "id": asked, "result": _discover(compute)})
    name = call["method"].removeprefix(PREFIX)
    if not call["method"].startswith(PREFIX) or not _has(compute, name):
        return _error(asked, -32601, f"Method not found: {call['method']}")
    run, fields = METHODS[name]
    try:
        result = await run(compute, _params(call.get("params", {}), fields), written)
    except ComputeError as error:
        return _error(asked, error.code, error.message)
    return json_answer({"jsonrpc": "2.0", "id": asked, "result": result})


def _params(given: Any, fields: dict[str, tuple[type, Any]]) -> Params:
    """Raises ComputeError -32602 with a message that says what to do."""
    if not isinstance(given, dict):
        raise ComputeError(INVALID, "params must be an object with named parameters")
    if unknown := sorted(set(given) - set(fields)):
        raise ComputeError(INVALID, f"unknown field `{unknown[0]}`, expected one of {', '.join(fields)}")
    params: Params = {}
    for name, (kind, default) in fields.items():
        value = given.get(name, default)
        if value is _REQUIRED:
            raise ComputeError(INVALID, f"missing field `{name}`")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ComputeError(INVALID, f"invalid type for `{name}`: expected {kind.__name__}")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise ComputeError(INVALID, f"invalid type for `{name}`: expected a list of strings")
        params[name] = value
    return params


def _error(asked: Any, code: int, message: str) -> Answer:
    return json_answer({"jsonrpc": "2.0", "id": asked, "error": {"code": code, "message": message}})
