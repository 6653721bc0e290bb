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
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import httpx
from python_socks.async_.asyncio import Proxy

from tests.bench.worlds import Outside

PAUSE = 10.0  # simulated seconds after each start
LOOK_EVERY = 5.0  # simulated seconds between two tries to log in
TRIES = 400
ACCOUNT, VM, GATEWAY = "by-hand", "byhand_1", "byhand1"
RPC = "hero/var/sockets/hero_proxy/rpc.sock"


@dataclass
class ByHand:
    """`marks`: when each part was over, by the world's clock. `paused`: simulated seconds of fixed waits."""

    outside: Outside
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


async def by_hand(outside: Outside, components: Sequence[str], settings: Mapping[str, str]) -> ByHand:
    """From nothing to the letter. Raises what a call raises: nothing is tried twice but the login."""
    run = ByHand(outside, outside.now())
    async with httpx.AsyncClient(trust_env=False, timeout=600) as client:
        await _account(run, client)
        vm = await _machine(run, client)
        fqdn = await _gateway(run, client, vm)
        await _engines(run)
        async with _login(run, vm["mycelium_ip"]) as link:
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
    key = asyncssh.read_private_key(addresses.installer_key_file).export_public_key().decode().strip()
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
    async with _login(run, addresses.admin_host) as link:
        for engine in addresses.engines:
            get = f"hero_proc secret get --context {engine.context} TENANT_TOKENS"
            held = json.loads(await _do(link, get) or "{}")
            held["byhand"] = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
            await _set(link, engine.context, "TENANT_TOKENS", json.dumps(held))
            await _do(link, f"hero_proc service restart {engine.service}")
            await run.pause()
    run.over("engines")


async def _stack(
    run: ByHand, link: asyncssh.SSHClientConnection, components: Sequence[str], settings: Mapping[str, str]
) -> None:
    await _do(link, "apt-get update")
    await _do(link, "apt-get install -y --no-install-recommends curl ca-certificates")
    run.over("packages")
    lab = '"$HOME/hero/bin/lab"'
    url = shlex.quote(run.outside.addresses.lab_url)
    await _do(link, f'mkdir -p "$HOME/hero/bin" && curl -fsSL -o {lab} {url} && chmod +x {lab}')
    for component in components:
        await _do(link, f"lab build {component} --download --install")
        await _do(link, f"lab service {component} start")
        await run.pause()
        if component == "hero_proc":
            for key, value in settings.items():
                await _set(link, "cockpit", key, value)
    run.over("components")


async def _sign_in(run: ByHand, client: httpx.AsyncClient, link: asyncssh.SSHClientConnection, fqdn: str) -> None:
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
    await _do(
        link, f'curl -fsS -X POST --unix-socket "$HOME/{RPC}" --data-binary {shlex.quote(call)} http://localhost/rpc'
    )
    await _do(link, "hero_proc service restart hero_proxy")
    await run.pause()
    run.over("sign-in")


async def _check_outside(run: ByHand, fqdn: str) -> None:
    """One look at the address, as a person would take it. Raises RuntimeError when it does not ask for sign-in."""
    addresses = run.outside.addresses
    proxy = addresses.socks.replace("socks5:", "socks5h:")
    async with httpx.AsyncClient(proxy=proxy, verify=addresses.ca_file, trust_env=False, timeout=60) as client:
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


@asynccontextmanager
async def _login(run: ByHand, host: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Tried until somebody answers."""
    addresses = run.outside.addresses
    for _ in range(TRIES):
        try:
            sock = await Proxy.from_url(addresses.socks, rdns=True).connect(dest_host=host, dest_port=22)
            break
        except Exception as error:
            failure: Exception = error
            await run.wait(LOOK_EVERY)
    else:
        raise failure
    keys = [addresses.installer_key_file]
    async with asyncssh.connect(
        host, sock=sock, username="root", client_keys=keys, known_hosts=None, config=None
    ) as link:
        yield link


async def _do(link: asyncssh.SSHClientConnection, command: str) -> str:
    ran = await link.run(f'PATH="$HOME/hero/bin:$PATH"; export PATH; {command}', check=True)
    return str(ran.stdout or "")


async def _set(link: asyncssh.SSHClientConnection, context: str, key: str, value: str) -> None:
    await _do(link, f"hero_proc secret set --quiet --context {context} {key} {shlex.quote(value)}")
