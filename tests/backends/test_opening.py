"""Building all clients from a Fleet: secrets that are missing are named, addresses and proxies go where they belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

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


def fleet(**network: Any) -> Fleet:
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
            },
        }
    )


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_is_named(missing: str) -> None:
    held = {name: value for name, value in SECRETS.items() if name != missing}
    with pytest.raises(Blocked, match=missing) as caught:
        open_backends(fleet(), held, SystemClock())
    assert caught.value.reason == "SecretMissing"


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
