"""The compute client where the wire fixtures do not reach: what a daemon's errors mean, ids, other spellings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from reconcilers.backends.compute import ComputeClient, ComputeDialect, DaemonName, GatewayOrder, VmOrder
from reconcilers.backends.compute_answers import node_of
from reconcilers.backends.limits import Gate
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, NameTaken, OutcomeUnknown, OutsideError, Rejected, Transient
from reconcilers.secret import Secret
from specs.fleet import GridNode, NodeSid

ORDER = VmOrder("alice", NodeSid("0001"), "Ubuntu 24.04", 4, 8192, 50, 10, ())
GATEWAY = GatewayOrder("alice", GridNode("2"), "400:1::1")


def client(answer: Callable[[dict[str, Any]], Any], dialect: ComputeDialect | None = None) -> ComputeClient:
    def respond(request: httpx.Request) -> httpx.Response:
        said = answer(json.loads(request.content))
        return said if isinstance(said, httpx.Response) else httpx.Response(200, json=said)

    wire = Wire("http://d.test", httpx.MockTransport(respond), Gate("compute d", SystemClock(), 8, 1000))
    return ComputeClient(DaemonName("d"), wire, Secret("hush-secret"), dialect or ComputeDialect())


def failing(code: int, message: str) -> ComputeClient:
    return client(lambda asked: {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("code", "message", "deploying", "reading"),
    [
        (-32602, "memory_mb must be at least 1024", Rejected, Rejected),
        (-32000, "NameExists: gateway alice", NameTaken, NameTaken),
        (-32602, "vm name already exists", NameTaken, NameTaken),
        (-32000, "substrate gone, restart required", Blocked, Blocked),
        (-32601, "Method not found", Blocked, Blocked),
        (-32000, "contract timed out", OutcomeUnknown, Transient),
        (-32603, "internal error", OutcomeUnknown, Transient),
        (-32000, "node 2 not found", OutcomeUnknown, Transient),  # of what was to be made, this proves nothing
        (-32700, "parse error", Transient, Transient),
    ],
)
async def test_what_a_daemons_error_means(
    code: int, message: str, deploying: type[OutsideError], reading: type[OutsideError]
) -> None:
    for ask, kind in ((lambda c: c.deploy_vm(ORDER), deploying), (lambda c: c.list_vms(), reading)):
        with pytest.raises(OutsideError) as caught:
            await ask(failing(code, message))
        assert type(caught.value) is kind


async def test_only_a_definite_not_found_means_gone() -> None:
    gone = failing(-32000, "vm not found: 0042")
    assert await gone.get_vm("0042") is None
    await gone.delete_vm("0042")
    await gone.delete_gateway("0042")
    unclear = failing(-32000, "could not reach the node")
    with pytest.raises(Transient):
        await unclear.get_vm("0042")
    with pytest.raises(OutcomeUnknown):
        await unclear.delete_vm("0042")
    with pytest.raises(Blocked):
        await failing(-32601, "Method not found").get_vm("0042")


async def test_the_secret_never_shows() -> None:
    with pytest.raises(Rejected) as caught:
        await failing(-32602, "bad params {secret: hush-secret}").deploy_vm(ORDER)
    assert "hush-secret" not in str(caught.value) + repr(caught.value)
    assert "hush-secret" not in repr(failing(1, ""))


@pytest.mark.parametrize(
    "reply",
    [
        lambda asked: {
            "jsonrpc": "2.0",
            "id": asked["id"] + 1,
            "result": {"sid": "1", "name": "a", "state": "running"},
        },
        lambda asked: {"jsonrpc": "2.0", "id": asked["id"]},
        lambda asked: {"jsonrpc": "2.0", "id": asked["id"], "result": {"state": "running"}},
        lambda asked: {"jsonrpc": "2.0", "id": asked["id"], "result": None},
        lambda asked: [],
        lambda asked: httpx.Response(200, text='{"jsonrpc": "2.0", "id"'),
        lambda asked: httpx.Response(200, html="<html>"),
        lambda asked: httpx.Response(302),
    ],
)
async def test_an_answer_that_cannot_be_understood_settles_nothing(reply: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(OutcomeUnknown):
        await client(reply).deploy_vm(ORDER)
    with pytest.raises(Transient):
        await client(reply).get_vm("1")


async def test_every_call_has_an_id_of_its_own() -> None:
    seen: list[int] = []

    def answer(asked: dict[str, Any]) -> Any:
        seen.append(asked["id"])
        return {"jsonrpc": "2.0", "id": asked["id"], "result": []}

    here = client(answer)
    await asyncio.gather(*(here.list_vms() for _ in range(5)))
    assert len(set(seen)) == 5


async def test_a_listing_that_nobody_changed_is_not_read_again() -> None:
    rows, off = [{"sid": "0001", "name": "alice", "state": "running"}], 0

    def answer(asked: dict[str, Any]) -> Any:
        return {"jsonrpc": "2.0", "id": asked["id"] + off, "result": rows}

    here = client(answer)
    first = await here.list_vms()
    assert await here.list_vms() is first
    rows[0]["state"] = "failed"
    assert [each.state for each in await here.list_vms()] == ["failed"]
    off = 1
    with pytest.raises(Transient, match="another call"):
        await here.list_vms()


async def test_a_daemon_that_says_it_differently_needs_another_dialect_only() -> None:
    asked_for: list[dict[str, Any]] = []

    def answer(asked: dict[str, Any]) -> Any:
        asked_for.append(asked)
        return {"jsonrpc": "2.0", "id": asked["id"], "result": {"gateways": [{"id": 7, "name": "a", "state": "OK"}]}}

    dialect = ComputeDialect(service="Grid", list_gateways="gateways", id_param="gateway_id", secret_param="key")
    (gateway,) = await client(answer, dialect).list_gateways()
    assert (gateway.gateway_id, gateway.state, gateway.fqdn) == ("7", "ok", "")
    assert (asked_for[0]["method"], asked_for[0]["params"]) == ("Grid.gateways", {"key": "hush-secret"})


async def test_the_two_node_ids_go_where_they_belong() -> None:
    sent: list[dict[str, Any]] = []

    def answer(asked: dict[str, Any]) -> Any:
        sent.append(asked["params"])
        result = {"sid": "1", "name": "alice", "state": "running", "fqdn": "alice.gent1.test", "mycelium_ip": ""}
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}

    here = client(answer)
    assert (await here.deploy_vm(ORDER)).address == ""
    await here.deploy_gateway(GATEWAY)
    assert [params["node_sid"] for params in sent] == ["0001", "2"]
    assert sent[1]["backends"] == ["http://[400:1::1]:9988"]


@pytest.mark.parametrize(
    ("more", "memory", "pools"),
    [
        ({"memory_free_mb": 5, "disk_pools_free_gb": [3, 4]}, 5, (3, 4)),
        ({"memory_total_mb": 9, "memory_used_mb": 4, "disk_pools": [{"total_gb": 8, "used_gb": 9}]}, 5, (0,)),
        ({"memory_mb_total": 9, "memory_mb_used": 4, "disk_pools": [{"gb_total": 8, "gb_used": 1}]}, 5, (7,)),
        ({}, 0, ()),
    ],
)
def test_what_is_free_is_told_in_several_ways(more: dict[str, Any], memory: int, pools: tuple[int, ...]) -> None:
    node = node_of({"sid": "0001", "grid_node": 2, "online": True} | more)
    assert (node.memory_free_mb, node.disk_pools_free_gb, node.grid_node) == (memory, pools, "2")
