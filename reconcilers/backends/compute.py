"""hero_compute: the JSON-RPC daemon that makes VMs and web gateways.

One client per daemon: each has its own id sequence (lesson 9).
The words it is asked in are assumptions (A) and stand in `compute_answers.ComputeDialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, NewType, TypeVar, get_args

import httpx

from reconcilers.backends.compute_answers import (
    ComputeDialect,
    Gateway,
    GatewayOrder,
    Node,
    Vm,
    VmOrder,
    backend_url,
    gateway_of,
    node_of,
    order_gateway,
    order_vm,
    rows_of,
    vm_of,
)
from reconcilers.backends.hiding import without
from reconcilers.backends.transport import DEFAULT_LIMIT, Wire
from reconcilers.backends.unchanged import Unchanged, unnumbered
from reconcilers.errors import Blocked, NameTaken, OutcomeUnknown, OutsideError, Rejected, Transient
from reconcilers.secret import Secret
from specs.fleet import GridNode, NodeSid

__all__ = [
    "ComputeClient",
    "ComputeDialect",
    "DaemonName",
    "Gateway",
    "GatewayOrder",
    "GridNode",
    "Node",
    "NodeSid",
    "Vm",
    "VmOrder",
    "backend_url",
]

DaemonName = NewType("DaemonName", str)

Lane = Literal["making", "deleting", "cutting"]
LANES: tuple[Lane, ...] = get_args(Lane)
MARGIN = 30.0  # seconds beyond the daemon's own limit, so that its answer is heard when it gives up
T = TypeVar("T")


class NotThere(Rejected):
    """A definite "not found". Stays inside this module."""


@dataclass
class ComputeClient:
    """Every call may raise Unreachable, Transient, Throttled, Blocked DaemonConnectionDead; writing ones OutcomeUnknown.

    `secret` is sent with every call: with another one our machines are invisible (P). `slow_limit` (seconds) is for
    calls that wait for the chain. Each kind of them has a lane, a wire with a gate of its own, so that listings never
    queue behind them, nor deletes behind what is being made, nor the cutting off of an open door behind anything (law 6).
    """

    name: DaemonName
    wire: Wire
    secret: Secret
    dialect: ComputeDialect = field(default_factory=ComputeDialect)
    slow_limit: float = 300.0 + MARGIN
    lanes: Mapping[Lane, Wire] = field(default_factory=dict)  # without one: the usual wire
    _unchanged: Unchanged = field(default_factory=Unchanged, init=False, repr=False)
    _ids: Any = field(default_factory=lambda: count(1), init=False, repr=False)

    async def missing_methods(self) -> tuple[str, ...]:
        """Which of the methods that we call the daemon does not know (P). () when all are there."""
        result = await self._call(self.dialect.discover, {}, writing=False, plain=True)
        try:
            known = {each["name"] for each in rows_of(result, "methods")}
        except (KeyError, TypeError) as error:
            raise Transient("rpc.discover answered no list of methods", system=self.wire.system) from error
        return tuple(each for each in self.dialect.methods if each not in known)

    async def list_vms(self) -> tuple[Vm, ...]:
        """Every VM under our secret. A listing may lag behind (P)."""
        return await self._list(self.dialect.list_vms, vm_of, "vms", "items")

    async def get_vm(self, vm_id: str) -> Vm | None:
        """None only on a definite "not found"."""
        try:
            result = await self._call(self.dialect.get_vm, {self.dialect.id_param: vm_id}, writing=False)
        except NotThere:
            return None
        return self._made(vm_of, result, writing=False)

    async def deploy_vm(self, order: VmOrder) -> Vm:
        """May take minutes. Raises Rejected, NameTaken, OutcomeUnknown."""
        result = await self._make(self.dialect.deploy_vm, order_vm(order))
        return self._made(vm_of, result, writing=True)

    async def delete_vm(self, vm_id: str) -> None:
        """Not found is fine."""
        await self._delete(self.dialect.delete_vm, vm_id, "deleting")

    async def list_gateways(self) -> tuple[Gateway, ...]:
        """Every web gateway under our secret."""
        return await self._list(self.dialect.list_gateways, gateway_of, "webgateways", "gateways", "items")

    async def deploy_gateway(self, order: GatewayOrder) -> Gateway:
        """May take minutes. Raises Rejected, NameTaken, OutcomeUnknown."""
        params = order_gateway(order)
        result = await self._make(self.dialect.deploy_gateway, params)
        return self._made(gateway_of, result, writing=True)

    async def delete_gateway(self, gateway_id: str, *, cut: bool = False) -> None:
        """Not found is fine. `cut`: the door behind it stands open, so it queues behind no other delete."""
        await self._delete(self.dialect.delete_gateway, gateway_id, "cutting" if cut else "deleting")

    async def list_nodes(self) -> tuple[Node, ...]:
        """The daemon's hosts and what is free on them. The chain's word lags by up to a minute (P)."""
        return await self._list(self.dialect.list_nodes, node_of, "nodes", "items", plain=True)

    async def aclose(self) -> None:
        await self.wire.aclose()
        for wire in self.lanes.values():
            await wire.aclose()

    async def _list(self, method: str, make: Callable[[Any], T], *keys: str, plain: bool = False) -> tuple[T, ...]:
        answer, number = await self._ask(method, {}, writing=False, plain=plain)

        def read() -> tuple[T, ...]:
            try:
                rows = rows_of(self._result(method, answer, number, writing=False), *keys)
            except TypeError as error:
                raise Transient(f"{method} answered no list", system=self.wire.system) from error
            return tuple(self._made(make, row, writing=False) for row in rows)

        return self._unchanged.made(method, unnumbered(answer.content, number), read)

    async def _make(self, method: str, params: dict[str, Any]) -> Any:
        return await self._call(method, params, writing=True, lane="making")

    async def _delete(self, method: str, identity: str, lane: Lane) -> None:
        try:
            await self._call(method, {self.dialect.id_param: identity}, writing=True, lane=lane)
        except NotThere:
            return

    async def _call(
        self,
        method: str,
        params: dict[str, Any],
        *,
        writing: bool,
        plain: bool = False,
        lane: Lane | None = None,
    ) -> Any:
        """The result of one call. `plain`: without our secret. `lane`: it waits for the chain. Raises an OutsideError."""
        answer, number = await self._ask(method, params, writing=writing, plain=plain, lane=lane)
        return self._result(method, answer, number, writing=writing, sought=self.dialect.id_param in params)

    async def _ask(
        self,
        method: str,
        params: dict[str, Any],
        *,
        writing: bool,
        plain: bool = False,
        lane: Lane | None = None,
    ) -> tuple[httpx.Response, int]:
        """The answer, as it came, and the number of the call."""
        number = next(self._ids)
        if not plain:
            params = {**params, self.dialect.secret_param: self.secret}
        body = {"jsonrpc": "2.0", "id": number, "method": self.dialect.method(method), "params": params}
        wire, limit = (self.wire, DEFAULT_LIMIT) if lane is None else (self.lanes.get(lane, self.wire), self.slow_limit)
        answer = await wire.send("POST", "/rpc", writing=writing, body=body, name=method, limit=limit)
        if 400 <= answer.status_code < 500:
            words = f"{method} answered {answer.status_code}: is this the daemon's address?"
            raise Transient(words, system=self.wire.system)
        if answer.status_code != 200:
            self.wire.unclear(writing, f"{method} answered {answer.status_code}")
        return answer, number

    def _result(self, method: str, answer: httpx.Response, number: int, *, writing: bool, sought: bool = False) -> Any:
        reply = self.wire.json(answer, writing=writing)
        if not isinstance(reply, dict):
            self.wire.unclear(writing, f"{method} answered no JSON-RPC object")
        error = reply.get("error")
        # An error about a request that could not be read carries no id (JSON-RPC 2.0).
        if reply.get("id") != number and not (error and reply.get("id") is None):
            self.wire.unclear(writing, f"{method} got the answer to another call")
        if error:
            raise self._error(method, error, writing, sought=sought)
        if "result" not in reply:
            self.wire.unclear(writing, f"{method} answered neither a result nor an error")
        return reply["result"]

    def _error(self, method: str, error: Any, writing: bool, *, sought: bool) -> OutsideError:
        """What an error of the daemon means (S for -32602 and "restart required", the rest A).

        `sought`: the call named one object, so that "not found" speaks of it.
        """
        code = error.get("code") if isinstance(error, Mapping) else None
        message = error.get("message") if isinstance(error, Mapping) else error
        text = without(str(message), (self.secret,))[:500]
        lower = " ".join(str(message).split()).lower()
        system = self.wire.system
        if any(words in lower for words in self.dialect.connection_dead):
            return Blocked(
                f"{method}: the daemon lost the chain and says {text!r}: whoever runs it must restart it",
                system=system,
                reason="DaemonConnectionDead",
            )
        if any(words in lower for words in self.dialect.name_taken):
            return NameTaken(f"{method}: {text}", system=system)
        if sought and code != -32601 and any(words in lower for words in self.dialect.not_found):
            return NotThere(f"{method}: {text}", system=system, reason="NotFound")
        if code == -32602:
            return Rejected(f"{method}: {text}", system=system, reason="InvalidParameters")
        if code == -32601:
            return Blocked(
                f"the daemon does not know {method}: whoever runs it updates it, or the dialect is changed",
                system=system,
                reason="MethodMissing",
            )
        definite = code in self.dialect.definite_codes
        kind: type[OutsideError] = OutcomeUnknown if writing and not definite else Transient
        return kind(f"{method} failed: {text}", system=system)

    def _made(self, make: Callable[[Any], T], body: Any, *, writing: bool) -> T:
        try:
            return make(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.wire.unclear(writing, f"the answer is not what the daemon answers ({type(error).__name__})")
