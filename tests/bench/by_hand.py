"""The same tester, made the way it was done by hand: one step after the other, each waited for before the next begins.

A small script that knows nothing of the controller: the outside calls of a deployer's three pages (account, machine,
stack), without looking first, without a person's own pauses, and without a mistake. `PAUSE` is the fixed wait after each
start, from the days when nobody asked a service for its health (DOMAIN's lessons 21 and 31); its length is an assumption,
chosen so that the whole install takes the six to nine minutes that people tell of. How much of it there was is told apart.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import httpx

from tests.bench.ways import LOOK_EVERY, Link, Way

PAUSE = 10.0  # simulated seconds after each start
ACCOUNT, VM, GATEWAY = "by-hand", "byhand_1", "byhand1"
RPC = "hero/var/sockets/hero_proxy/rpc.sock"


@dataclass
class ByHand:
    """`marks`: when each part was over, by the world's clock. `paused`: simulated seconds of fixed waits."""

    outside: Way
    began: float
    paused: float = 0.0
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def took(self) -> float:
        return max(self.marks.values()) - self.began

    def over(self, part: str) -> None:
        self.marks[part] = self.outside.now()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.outside.speed)

    async def pause(self) -> None:
        before = self.outside.now()
        await self.wait(PAUSE)
        self.paused += self.outside.now() - before


async def by_hand(outside: Way, components: Sequence[str], settings: Mapping[str, str]) -> ByHand:
    """From nothing to the letter. Raises what a call raises: nothing is tried twice but the login."""
    run = ByHand(outside, outside.now())
    async with outside.client() as client:
        await _account(run, client)
        vm = await _machine(run, client)
        fqdn = await _gateway(run, client, vm)
        await _engines(run)
        async with outside.login(vm["mycelium_ip"]) as link:
            run.over("network")
            await _stack(run, link, components, settings)
            await _sign_in(run, client, link, fqdn)
        await _check_outside(run, fqdn)
        await _letter(run, client, fqdn)
    return run


async def _account(run: ByHand, client: httpx.AsyncClient) -> None:
    body = {"username": ACCOUNT, "email": "by-hand@example.org", "password": f"Aa1!{secrets.token_urlsafe(20)}"}
    await _forge(run, client, "admin/users", body)
    run.over("account")


async def _machine(run: ByHand, client: httpx.AsyncClient) -> dict[str, Any]:
    addresses = run.outside.addresses
    private = asyncssh.import_private_key(Path(addresses.installer_key_file).read_bytes())
    key = private.export_public_key().decode().strip()
    order = {"name": VM, "node_sid": addresses.daemons[0].nodes[0][0], "image": "Ubuntu 24.04", "ssh_keys": [key]}
    size = {"cpu": 4, "memory_mb": 8192, "disk_gb": 50, "rootfs_gb": 10}
    vm = await _compute(run, client, "deploy_vm", {**order, **size})
    while not vm["mycelium_ip"]:
        await run.wait(LOOK_EVERY)
        vm = await _compute(run, client, "get_vm", {"sid": vm["sid"]})
    run.over("machine")
    return vm


async def _gateway(run: ByHand, client: httpx.AsyncClient, vm: Mapping[str, Any]) -> str:
    backend = f"http://[{vm['mycelium_ip']}]:9988"
    node = run.outside.addresses.daemons[0].nodes[0][1]
    order = {"name": GATEWAY, "kind": "Name", "fqdn": "", "backends": [backend], "tls_passthrough": False}
    made = await _compute(run, client, "deploy_webgateway", {**order, "node_sid": node})
    run.over("gateway")
    return str(made["fqdn"])


async def _engines(run: ByHand) -> None:
    """The token of each shared engine, on the admin machine."""
    addresses = run.outside.addresses
    async with run.outside.login(addresses.admin_host) as link:
        for engine in addresses.engines:
            get = await link.run(["hero_proc", "secret", "get", "--context", engine.context, "TENANT_TOKENS"])
            held = json.loads(get or "{}")
            held["byhand"] = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
            await _set(link, engine.context, "TENANT_TOKENS", json.dumps(held))
            await link.run(["hero_proc", "service", "restart", engine.service])
            await run.pause()
    run.over("engines")


async def _stack(run: ByHand, link: Link, components: Sequence[str], settings: Mapping[str, str]) -> None:
    await link.run(["apt-get", "update"])
    await link.run(["apt-get", "install", "-y", "--no-install-recommends", "curl", "ca-certificates"])
    run.over("packages")
    await link.fetch("hero/bin/lab", run.outside.addresses.lab_url)
    for component in components:
        await link.run(["lab", "build", component, "--download", "--install"])
        await link.run(["lab", "service", component, "start"])
        await run.pause()
        if component == "hero_proc":
            for key, value in settings.items():
                await _set(link, "cockpit", key, value)
    run.over("components")


async def _sign_in(run: ByHand, client: httpx.AsyncClient, link: Link, fqdn: str) -> None:
    address = f"https://{fqdn}/oauth/callback"
    body = {"name": "by hand", "redirect_uris": [address], "confidential_client": True}
    app = await _forge(run, client, "user/applications/oauth2", body)
    values = {
        "FORGE_OAUTH_CLIENT_ID": app["client_id"],
        "FORGE_OAUTH_CLIENT_SECRET": app["client_secret"],
        "FORGE_OAUTH_ISSUER": run.outside.addresses.forge_url,
        "FORGE_OAUTH_REDIRECT_URI": address,
        "HERO_PROXY_ALLOWED_USERS": f"mik,{ACCOUNT}",
        "HERO_PROXY_SEED_GATEWAY_LISTENER": "1",
    }
    for key, value in values.items():
        await _set(link, "core", key, value)
    domain = {"domain": fqdn, "auth_mode": "oauth", "backend": "http://127.0.0.1:9988", "public_paths": []}
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "domain.add", "params": domain})
    curl = ["curl", "-fsS", "-X", "POST", "--unix-socket", f"{link.home}/{RPC}"]
    await link.run([*curl, "--data-binary", call, "http://localhost/rpc"])
    await link.run(["hero_proc", "service", "restart", "hero_proxy"])
    await run.pause()
    run.over("sign-in")


async def _check_outside(run: ByHand, fqdn: str) -> None:
    """One look at the address, as a person would take it. Raises RuntimeError when it does not ask for sign-in."""
    async with run.outside.client(public=True) as client:
        answer = await client.get(f"https://{fqdn}/hero_cockpit/web/")
    if answer.status_code != 302:
        raise RuntimeError(f"made by hand, and the door answers {answer.status_code}")


async def _letter(run: ByHand, client: httpx.AsyncClient, fqdn: str) -> None:
    addresses = run.outside.addresses
    link = f"https://{fqdn}/hero_cockpit/web/"
    letter = {"from": "hero@example.org", "to": ["by-hand@example.org"], "subject": "Your machine", "text": link}
    head = {"Authorization": f"Bearer {addresses.resend_key}", "Idempotency-Key": "by-hand"}
    (await client.post(f"{addresses.resend_url}/emails", json=letter, headers=head)).raise_for_status()
    run.over("letter")


# ------------------------------------------------------------------ the calls


async def _forge(run: ByHand, client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    addresses = run.outside.addresses
    head = {"Authorization": f"token {addresses.forge_token}"}
    answer = await client.post(f"{addresses.forge_url}/api/v1/{path}", json=body, headers=head)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


async def _compute(run: ByHand, client: httpx.AsyncClient, method: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Raises RuntimeError with the daemon's own words."""
    daemon = run.outside.addresses.daemons[0]
    params = {**order, "secret": daemon.secret}
    body = {"jsonrpc": "2.0", "id": 1, "method": f"ComputeService.{method}", "params": params}
    answer = (await client.post(f"{daemon.url}/rpc", json=body)).json()
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    found: dict[str, Any] = answer["result"]
    return found


async def _set(link: Link, context: str, key: str, value: str) -> None:
    await link.run(["hero_proc", "secret", "set", "--quiet", "--context", context, key, value])
