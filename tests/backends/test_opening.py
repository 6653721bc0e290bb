"""Building all clients from a Fleet: secrets that are missing are named, addresses and proxies go where they belong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from reconcilers.backends.compute import NodeSid, VmOrder
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.mail import Letter
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, Unreachable
from reconcilers.secret import Secret
from specs.fleet import Fleet

SECRETS = {
    "env:FORGE_TOKEN": Secret("token-1\n"),
    "env:COMPUTE": Secret("secret-1"),
    "file:key": Secret(asyncssh.generate_private_key("ssh-ed25519").export_private_key()),
}


def fleet(*, more: dict[str, Any] | None = None, **network: Any) -> Fleet:
    return Fleet.model_validate(
        {
            "apiVersion": "hero.tester/v1",
            "kind": "Fleet",
            "metadata": {"name": "demo"},
            "spec": {
                "admins": [{"account": "mik"}],
                "installer": {"privateKey": "file:key"},
                "forge": {"url": "https://forge.example.org", "token": "env:FORGE_TOKEN"},
                "compute": [
                    {
                        "name": "main",
                        "url": "unix:/nowhere/rpc.sock",
                        "secret": "env:COMPUTE",
                        "gatewayDomain": "gent1.example.org",
                        "nodes": [{"sid": "0001", "gridNode": "2"}],
                    }
                ],
                "network": network,
                **(more or {}),
            },
        }
    )


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_is_named(missing: str) -> None:
    held = {name: value for name, value in SECRETS.items() if name != missing}
    with pytest.raises(Blocked, match=missing) as caught:
        open_backends(fleet(), held, SystemClock())
    assert caught.value.reason == "SecretMissing"


@pytest.mark.parametrize(
    "odd", [b"\xef\xbb\xbftoken", "tok\u2019n".encode(), b"\xff\xfet\x00", b"one\ntwo", b"to\x00k", b" "]
)
def test_a_token_that_no_header_can_carry_is_named_and_not_shown(odd: bytes) -> None:
    with pytest.raises(Blocked, match="env:FORGE_TOKEN") as caught:
        open_backends(fleet(), {**SECRETS, "env:FORGE_TOKEN": Secret(odd)}, SystemClock())
    assert (caught.value.reason, "tok" in str(caught.value).replace("forge.token", "")) == ("SecretUnusable", False)


async def test_calls_go_out_with_the_secrets_and_fakes_can_stand_in() -> None:
    asked: list[httpx.Request] = []

    def forge(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"id": 1, "login": "controller"})

    def daemon(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"id": json.loads(request.content)["id"], "result": []})

    transports = {"forge": httpx.MockTransport(forge), "compute main": httpx.MockTransport(daemon)}
    backends = open_backends(fleet(), SECRETS, SystemClock(), Options(transports=transports))
    assert (await backends.forge.whoami()).login == "controller"
    assert await backends.daemon("main").list_vms() == ()
    assert asked[0].headers["Authorization"] == "token token-1"
    assert str(asked[0].url) == "https://forge.example.org/api/v1/user"
    assert json.loads(asked[1].content)["params"] == {"secret": "secret-1"}
    assert "secret-1" not in repr(backends)
    assert "token-1" not in repr(backends)
    with pytest.raises(Blocked) as caught:
        backends.daemon("other")
    assert caught.value.reason == "DaemonUnknown"
    await backends.aclose()


async def test_a_socket_that_is_not_there_is_unreachable() -> None:
    backends = open_backends(fleet(), SECRETS, SystemClock())
    with pytest.raises(Unreachable):
        await backends.daemon("main").list_vms()
    await backends.aclose()


async def test_a_dead_proxy_makes_its_side_unreachable_and_no_other() -> None:
    backends = open_backends(
        fleet(myceliumProxy="socks5://127.0.0.1:9", outsideProxy="socks5://127.0.0.1:9"), SECRETS, SystemClock()
    )
    answer = (await backends.outside.probe("a.gent1.example.org", ("/",)))["/"]
    assert answer.status is None
    assert answer.error.startswith("no connection")
    await backends.aclose()


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(Blocked, match=name) as caught:
            open_backends(fleet(certificateAuthority=f"file:{name}"), SECRETS, SystemClock(), Options(folder=tmp_path))
        assert caught.value.reason == "CertificateUnreadable"


ENGINE = {
    "name": "embedder",
    "url": "http://[400:1::1]:9100",
    "urlSetting": "HERO_EMBEDDER_URL",
    "tokenSetting": "SHARED_EMBEDDER_TOKEN",
    "registry": {"host": "400:1::1", "context": "embedder", "service": "hero_embedder"},
}


def test_a_machine_has_as_many_places_for_installs_as_the_fleet_allows() -> None:
    machines = open_backends(fleet(more={"limits": {"installs": 3}}), SECRETS, SystemClock()).machines
    assert isinstance(machines, ShellMachines)
    assert machines.places == 3


async def test_engines_are_opened_by_name() -> None:
    asked: list[str] = []

    def engine(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(401)

    registry = {"host": "400:1::1", "context": "voice", "service": "hero_voice"}
    voice = {**ENGINE, "name": "voice", "urlSetting": "V_URL", "tokenSetting": "V", "registry": registry}
    options = Options(transports={"engine embedder": httpx.MockTransport(engine)})
    backends = open_backends(fleet(more={"engines": [ENGINE, voice]}), SECRETS, SystemClock(), options)
    assert list(backends.engines) == ["embedder", "voice"]
    assert (await backends.engine("embedder").prove("alice", Secret("token"))).refuses
    assert set(asked) == {"http://[400:1::1]:9100/v1/ping"}
    address = backends.engine("voice").registry
    assert (address.host, address.port, address.user, address.host_key) == ("400:1::1", 22, "root", None)
    with pytest.raises(Blocked) as caught:
        backends.engine("broker")
    assert caught.value.reason == "EngineUnknown"
    await backends.aclose()


async def test_an_engine_and_its_list_are_reached_through_the_proxy_of_the_overlay() -> None:
    dead = fleet(more={"engines": [ENGINE]}, myceliumProxy="socks5://127.0.0.1:9")
    backends = open_backends(dead, SECRETS, SystemClock())
    proof = await backends.engine("embedder").prove("alice", Secret("token"))
    assert proof.own_token is None
    assert proof.error
    with pytest.raises(Unreachable):
        await backends.engine("embedder").tenants()
    await backends.aclose()


@pytest.mark.parametrize(
    ("mail", "kind"),
    [
        (None, "none"),
        ({}, "none"),
        ({"resendKey": "env:RESEND"}, "resend"),
        ({"resendKey": "env:RESEND", "send": False}, "none"),
        ({"smtp": {"host": "mail.example.org"}}, "smtp"),
        ({"smtp": {"host": "mail.example.org", "user": "hero", "password": "env:SMTP"}}, "smtp"),
    ],
)
async def test_the_way_out_for_mail(mail: dict[str, Any] | None, kind: str) -> None:
    more = {} if mail is None else {"mail": {"from": "hero@example.org", **mail}}
    held = {**SECRETS, "env:RESEND": Secret("re_1\n"), "env:SMTP": Secret("smtp-password")}
    asked: list[httpx.Request] = []

    def resend(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"id": "1"})

    options = Options(transports={"mail": httpx.MockTransport(resend)})
    backends = open_backends(fleet(more=more), held, SystemClock(), options)
    assert backends.mail.kind == kind
    assert "re_1" not in repr(backends)
    assert "smtp-password" not in repr(backends)
    if kind == "resend":
        await backends.mail.send(Letter("a@example.org", "s", "t", "h", "k"))
        assert (str(asked[0].url), asked[0].headers["Authorization"]) == (
            "https://api.resend.com/emails",
            "Bearer re_1",
        )
    await backends.aclose()


@pytest.mark.parametrize(
    ("mail", "kind", "missing"),
    [
        ({"resendKey": "env:RESEND"}, "resend", "env:RESEND"),
        ({"smtp": {"host": "m.example.org", "user": "hero", "password": "env:SMTP"}}, "smtp", "env:SMTP"),
    ],
)
async def test_a_missing_key_for_mail_stops_mail_and_nothing_else(
    mail: dict[str, Any], kind: str, missing: str
) -> None:
    backends = open_backends(fleet(more={"mail": {"from": "hero@example.org", **mail}}), SECRETS, SystemClock())
    assert backends.mail.kind == kind
    with pytest.raises(Blocked, match=missing) as caught:
        await backends.mail.send(Letter("a@example.org", "s", "t", "h", "k"))
    assert caught.value.reason == "SecretMissing"
    await backends.aclose()


@pytest.mark.parametrize(
    "mail",
    [
        {"resendKey": "env:RESEND"},
        {"smtp": {"host": "m.example.org", "user": "hero", "password": "env:RESEND"}},
    ],
)
async def test_a_key_for_mail_that_is_no_text_stops_mail_and_nothing_else(mail: dict[str, Any]) -> None:
    named = fleet(more={"mail": {"from": "hero@example.org", **mail}})
    backends = open_backends(named, {**SECRETS, "env:RESEND": Secret(b"\xff\xfek\x00")}, SystemClock())
    with pytest.raises(Blocked, match="env:RESEND") as caught:
        await backends.mail.send(Letter("a@example.org", "s", "t", "h", "k"))
    assert caught.value.reason == "SecretUnusable"
    await backends.aclose()


async def test_deletes_that_hang_hold_up_neither_listings_nor_orders_nor_the_cutting_off_of_a_door() -> None:
    hanging = asyncio.Event()
    held: list[str] = []

    async def daemon(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        method, identity = body["method"].partition(".")[2], body["params"].get("sid", "")
        if method.startswith("delete") and identity != "open":
            held.append(identity)
            await hanging.wait()
        made = {"sid": "1", "name": "alice", "state": "running"}
        return httpx.Response(200, json={"id": body["id"], "result": made if method == "deploy_vm" else []})

    transports = {"compute main": httpx.MockTransport(daemon)}
    backends = open_backends(fleet(), SECRETS, SystemClock(), Options(transports=transports))
    client = backends.daemon("main")
    places = fleet().spec.limits.compute.in_flight
    deletes = [asyncio.ensure_future(client.delete_vm(f"vm {number}")) for number in range(places)]
    deletes += [asyncio.ensure_future(client.delete_gateway(f"gateway {number}")) for number in range(places)]
    async with asyncio.timeout(20):
        while len(held) < places:  # noqa: ASYNC110 - the transport tells nobody
            await asyncio.sleep(0.01)
        assert await client.list_vms() == ()
        await client.delete_gateway("open", cut=True)
        order = VmOrder("alice", NodeSid("0001"), "Ubuntu 24.04", 2, 8192, 50, 10, ("ssh-ed25519 AAAA",))
        assert (await client.deploy_vm(order)).vm_id == "1"
        assert len(held) == places
        hanging.set()
        await asyncio.gather(*deletes)
    await backends.aclose()
