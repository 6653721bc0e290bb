"""The world on loopback: real HTTP, TLS, SOCKS5 and SSH, real shells, and what survives a kill."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import httpx
import pytest
from python_socks import ProxyError

from examples.simulator.processes import of_home
from examples.simulator.records import Fault
from examples.simulator.server import serving
from examples.simulator.signin import outside, sign_in
from examples.simulator.world import World

if TYPE_CHECKING:
    from examples.simulator.machine import Machine
    from tests.simulator.conftest import Loopback

NASTY = b"$(touch x)'\";|&\\n\n-----BEGIN KEY-----\n\xff\x01-----END KEY-----\n"
HOST = "alice1.gent1.grid.test"
BARE = """set -e
apt-get update >/dev/null
apt-get install -y --no-install-recommends curl ca-certificates >/dev/null
mkdir -p "$HOME/hero/bin"
curl -fsSL -o "$HOME/hero/bin/lab" {lab_url} && chmod +x "$HOME/hero/bin/lab"
for part in hero_proc hero_router hero_proxy hero_cockpit; do
  lab build $part --download --install >/dev/null
  lab service $part start >/dev/null
done
"""


async def until(condition: Callable[[], bool], limit: float = 60) -> None:
    """Polls; the limit only bounds a failure."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await asyncio.sleep(0.01)


def content(path: str) -> str:
    return Path(path).read_text()


def exists(path: str) -> bool:
    return Path(path).exists()


async def bare(loopback: "Loopback") -> tuple["Machine", asyncssh.SSHClientConnection]:
    """A reachable machine without anything on it, and a connection."""
    installer = content(f"{loopback.addresses.installer_key_file}.pub").strip()
    await loopback.town.deploy(ssh_keys=[installer])
    loopback.town.world.drift.set_reachable("alice_1", True)
    machine = loopback.town.world.machine_named("alice_1")
    return machine, await loopback.ssh(machine.state.mycelium_ip)


async def run(connection: asyncssh.SSHClientConnection, command: str, stdin: bytes = b"") -> bytes:
    done = await connection.run(command, input=stdin, encoding=None)
    assert done.exit_status == 0, (done.stdout, done.stderr)
    assert isinstance(done.stdout, bytes)
    return done.stdout


async def test_a_machine_from_bare_to_gated(loopback: "Loopback") -> None:
    machine, connection = await bare(loopback)
    addresses, town = loopback.addresses, loopback.town
    missing = await connection.run("command -v curl || command -v lab || command -v python3 || command -v hero_proc")
    assert missing.exit_status != 0
    assert missing.stdout == ""
    await run(connection, BARE.format(lab_url=addresses.lab_url))
    assert await run(connection, "hero_proxy --version; lab --version") == b"hero_proxy v0.3.1\nlab v0.3.1\n"
    await town.gateway(machine)
    body = {"name": "t", "redirect_uris": [f"https://{HOST}/oauth/callback"], "confidential_client": True}
    app = (await town.forge("POST", "/api/v1/user/applications/oauth2", body)).json()
    async with outside(addresses) as public:
        assert (await public.get(f"https://{HOST}/")).status_code == 502
    secrets = {
        "FORGE_OAUTH_CLIENT_ID": app["client_id"],
        "FORGE_OAUTH_CLIENT_SECRET": app["client_secret"],
        "FORGE_OAUTH_ISSUER": addresses.forge_url,
        "FORGE_OAUTH_REDIRECT_URI": f"https://{HOST}/oauth/callback",
        "HERO_PROXY_ALLOWED_USERS": "newcomer,mik",
        "HERO_PROXY_SEED_GATEWAY_LISTENER": "1",
    }
    for key, value in secrets.items():
        await run(connection, f"hero_proc secret set --quiet --context core {key} '{value}'")
    call = {"jsonrpc": "2.0", "id": 1, "method": "domain.add"}
    call["params"] = {"domain": HOST, "auth_mode": "oauth", "backend": "http://127.0.0.1:9988", "public_paths": []}
    socket = '"$HOME/hero/var/sockets/hero_proxy/rpc.sock"'
    await run(
        connection,
        f"curl -fsS -X POST --data-binary @- --unix-socket {socket} http://localhost/rpc",
        json.dumps(call).encode(),
    )
    await run(connection, "hero_proc service restart hero_proxy")
    town.world.drift.add_account("Newcomer", "new@example.org", must_change=True)
    await until(lambda: machine.healthy("hero_cockpit"))
    assert [(await sign_in(addresses, HOST, user))[0] for user in ("Newcomer", "mik", "bob")] == [200, 200, 403]
    inner = f"http://[{machine.state.mycelium_ip}]:9988/status"
    async with httpx.AsyncClient(proxy=addresses.socks, timeout=30) as overlay:
        answer = await overlay.get(inner, headers={"host": HOST})
        assert answer.status_code == 302
        assert answer.headers["location"].startswith(addresses.forge_url)
    assert town.world.state.violations == []
    connection.close()


async def test_bytes_survive_the_way_in_and_out(loopback: "Loopback") -> None:
    _, connection = await bare(loopback)
    await run(connection, BARE.format(lab_url=loopback.addresses.lab_url))
    store = 'v=$(cat; echo x); hero_proc secret set --quiet --context core KEY "${v%x}"'
    await run(connection, store, NASTY)
    assert await run(connection, "hero_proc secret get --context core KEY") == NASTY
    assert loopback.town.world.machine_named("alice_1").state.secrets["core"]["KEY"] == NASTY
    long = bytes(range(1, 256)) * 400
    await run(connection, store, long)
    assert await run(connection, "hero_proc secret get --context core KEY") == long
    assert await run(connection, "cat", b"\0\xff" * 200_000) == b"\0\xff" * 200_000
    failed = await connection.run("echo out; echo err >&2; exit 3")
    assert (failed.stdout, failed.stderr, failed.exit_status) == ("out\n", "err\n", 3)
    connection.close()


async def test_only_listed_keys_come_in_and_only_as_root(loopback: "Loopback", tmp_path: Path) -> None:
    machine, connection = await bare(loopback)
    other = tmp_path / "other"
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(other)
    address = machine.state.mycelium_ip
    with pytest.raises(asyncssh.PermissionDenied):
        await loopback.ssh(address, str(other))
    await run(connection, 'cat >>"$HOME/.ssh/authorized_keys"', b"# a comment\nrubbish\n" + key.export_public_key())
    (await loopback.ssh(address, str(other))).close()
    loopback.town.world.drift.add_authorized_key("alice_1", "ssh-ed25519 AAAA somebody")
    assert (await run(connection, 'tail -1 "$HOME/.ssh/authorized_keys"')) == b"ssh-ed25519 AAAA somebody\n"
    connection.close()


async def test_a_detached_job_outlives_its_connection_but_not_its_machine(loopback: "Loopback") -> None:
    machine, connection = await bare(loopback)
    await run(connection, BARE.format(lab_url=loopback.addresses.lab_url))
    job = 'flock "$HOME/lock" lab build hero_books --download --install; echo $? >"$HOME/done"; exec sleep 600'
    await run(connection, f"setsid nohup sh -c '{job}' >/dev/null 2>&1 </dev/null & echo started")
    loopback.town.world.drift.cut_connections("alice_1")
    await connection.wait_closed()
    await until(lambda: machine.files.read("done") == b"0\n")
    assert "hero_books" in machine.state.components
    home = machine.files.home
    assert of_home(home)
    loopback.town.world.drift.delete_vm("alice_1")
    await until(lambda: not of_home(home))
    assert not exists(home)
    with pytest.raises(ProxyError):
        await loopback.ssh(machine.state.mycelium_ip)


async def test_a_machine_shows_another_host_key_and_what_runs_there_goes_on(loopback: "Loopback") -> None:
    machine, connection = await bare(loopback)
    await run(connection, BARE.format(lab_url=loopback.addresses.lab_url))
    shown = connection.get_server_host_key()
    before = loopback.town.world.drift.change_host_key("alice_1")
    await connection.wait_closed()
    connection = await loopback.ssh(machine.state.mycelium_ip)
    changed = connection.get_server_host_key()
    assert (await run(connection, "lab --version")).startswith(b"lab ")
    loopback.town.world.drift.change_host_key("alice_1", before)
    again = (await loopback.ssh(machine.state.mycelium_ip)).get_server_host_key()
    assert shown is not None
    assert shown == again != changed


async def test_commands_hang_and_the_disk_is_full(loopback: "Loopback") -> None:
    _, connection = await bare(loopback)
    drift = loopback.town.world.drift
    drift.add_fault(system="machine", method="apt-get update", kind="hangs", options={"seconds": 60})
    assert (await connection.run("apt-get update")).exit_status == 137
    drift.add_fault(system="machine", method="files", kind="disk_full", times=None)
    done = await connection.run("apt-get update")
    assert (done.exit_status, "No space left on device" in str(done.stderr)) == (1, True)
    drift.clear_faults()
    drift.add_fault(system="machine", method="apt-get update", kind="cut_mid_command")
    assert (await connection.run("apt-get update")).exit_status is None
    await connection.wait_closed()


async def test_what_is_not_there_cannot_be_reached(loopback: "Loopback") -> None:
    machine, connection = await bare(loopback)
    connection.close()
    with pytest.raises(ProxyError):
        await loopback.ssh("400::1")
    loopback.town.world.drift.set_reachable("alice_1", False)
    with pytest.raises(ProxyError):
        await loopback.ssh(machine.state.mycelium_ip)
    async with outside(loopback.addresses) as public:
        with pytest.raises(httpx.ProxyError):
            await public.get("https://nobody.gent1.grid.test/")


async def test_faults_really_cut_and_hang(loopback: "Loopback") -> None:
    world, forge = loopback.town.world, loopback.addresses.forge_url
    async with httpx.AsyncClient(base_url=forge, timeout=30) as client:
        world.faults.add(Fault(system="forge", method="GET *", kind="cut_mid_answer"))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/v1/users/bob")
        world.faults.add(Fault(system="forge", method="GET *", kind="timeout_after_effect"))
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/api/v1/users/bob", timeout=httpx.Timeout(30, read=0.2))
        assert (await client.get("/api/v1/users/bob")).status_code == 200


async def test_the_daemon_answers_on_its_unix_socket_and_the_control_address_acts(loopback: "Loopback") -> None:
    daemon, control = loopback.addresses.compute[0], loopback.addresses.control_url
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=daemon.socket)) as client:
        assert (await client.get("http://localhost/health")).json()["status"] == "ok"
        call = {"jsonrpc": "2.0", "id": 1, "method": "rpc.discover", "params": {}}
        methods = (await client.post("http://localhost/rpc", json=call)).json()["result"]["methods"]
        assert "ComputeService.deploy_vm" in {method["name"] for method in methods}
    async with httpx.AsyncClient(base_url=control, timeout=30) as client:
        done = await client.post("/_sim/do", json={"action": "disable_account", "account": "bob"})
        assert done.status_code == 200
        assert (await client.get("/_sim/books")).json()["disabled_accounts"] == ["bob"]
        assert (await client.post("/_sim/do", json={"action": "no_such_thing"})).status_code == 400
        assert (await client.post("/_sim/do", json={"action": "_service"})).status_code == 400
        assert (await client.get("/_sim/log?since=0")).json()


async def started(state: Path) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """The simulator as a process of its own, once its addresses are written."""
    (state / "addresses.json").unlink(missing_ok=True)
    words = [sys.executable, "-m", "examples.simulator", "--state", str(state), "--speed", "1"]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
    await until((state / "addresses.json").exists)
    addresses: dict[str, Any] = json.loads((state / "addresses.json").read_text())
    return process, addresses


async def made(addresses: dict[str, Any], vm: str) -> bool:
    """Whether a machine is being made, by the world's own books."""
    async with httpx.AsyncClient(base_url=addresses["control_url"], timeout=30) as client:
        books = (await client.get("/_sim/books")).json()
    return vm in [row["name"] for row in books["daemons"]["compute1"]["vms"]]


async def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    process, addresses = await started(tmp_path)
    headers = {"Authorization": f"token {addresses['forge_token']}"}
    daemon = addresses["compute"][0]
    vm = {
        "name": "a_1",
        "node_sid": "0001",
        "image": "Ubuntu 24.04",
        "cpu": 1,
        "memory_mb": 1024,
        "disk_gb": 5,
        "rootfs_gb": 5,
    }
    call = {"jsonrpc": "2.0", "id": 1, "method": "ComputeService.deploy_vm"}
    call["params"] = {**vm, "ssh_keys": [], "secret": daemon["secret"]}
    async with httpx.AsyncClient(base_url=addresses["forge_url"], headers=headers, timeout=30) as client:
        body = {"name": "t", "redirect_uris": ["https://a.test/"], "confidential_client": True}
        assert (await client.post("/api/v1/user/applications/oauth2", json=body)).status_code == 201
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{daemon['url']}/rpc", json=call, timeout=httpx.Timeout(30, read=0.3))
        async with asyncio.timeout(60):
            while not await made(addresses, "a_1"):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    process, again = await started(tmp_path)
    assert {**again, "pid": 0} == {**addresses, "pid": 0}
    async with httpx.AsyncClient(base_url=again["control_url"], timeout=30) as client:
        books = (await client.get("/_sim/books")).json()
        log = (await client.get("/_sim/log")).json()
    assert [app["name"] for app in books["apps"]] == ["t"]
    assert [row["name"] for row in books["daemons"]["compute1"]["vms"]] == ["a_1"]
    assert [entry["status"] for entry in log if entry["writing"]] == [201]
    assert [entry["time"] for entry in log] == sorted(entry["time"] for entry in log)
    os.kill(process.pid, signal.SIGTERM)
    assert await process.wait() == 0


async def test_the_admin_machine_and_its_engines_are_behind_the_overlay(loopback: "Loopback") -> None:
    addresses, world = loopback.addresses, loopback.town.world
    connection = await loopback.ssh(addresses.admin_machine.host)
    host_key = connection.get_server_host_key()
    assert host_key is not None
    assert host_key.export_public_key().decode().split()[:2] == addresses.admin_machine.host_key.split()
    engine = addresses.engines[0]
    assert (engine.name, engine.context, engine.service) == ("embedder", "embedder", "hero_embedder")
    services = json.loads(await run(connection, "hero_proc service list --json"))
    assert sorted(row["name"] for row in services if row["state"] == "running") == [
        *("hero_embedder", "hero_proc", "hero_voice")
    ]
    registry = json.loads(await run(connection, f"hero_proc secret get --context {engine.context} TENANT_TOKENS"))
    registry["alice"] = hashlib.sha256(b"a-token").hexdigest()
    store = f'hero_proc secret set --quiet --context {engine.context} TENANT_TOKENS "$(cat)"'
    await run(connection, store, json.dumps(registry).encode())
    await run(connection, f"hero_proc service restart {engine.service}")
    await until(lambda: world.engines.listens(world.engines.named("embedder")))
    async with httpx.AsyncClient(proxy=addresses.socks, timeout=30) as overlay:
        assert (await overlay.get(f"{engine.url}/health")).status_code == 200
        headers = {"Authorization": "Bearer a-token", "X-Hero-Context": "alice"}
        answers = [await overlay.get(f"{one.url}/v1/ping", headers=headers) for one in addresses.engines]
        assert [answer.status_code for answer in answers] == [200, 401]
        assert answers[0].json() == {"tenant": "alice"}
    world.drift.kill_service("admin", engine.service)
    async with httpx.AsyncClient(proxy=addresses.socks, timeout=30) as overlay:
        with pytest.raises(httpx.ProxyError):
            await overlay.get(f"{engine.url}/health", timeout=5)
        with pytest.raises(httpx.ProxyError):
            await overlay.get(f"http://[{addresses.admin_machine.host}]:9988/", timeout=5)
    connection.close()
    books = world.books()
    assert books["admin_machine"]["secrets"] == {"embedder": ["TENANT_TOKENS"], "voice": ["TENANT_TOKENS"]}
    assert books["machines"] == {}


async def test_nothing_of_it_stays_in_the_temporary_folder(tmp_path: Path) -> None:
    """A socket's path must be short, so that in a deep folder it lies elsewhere."""
    deep = tmp_path / ("deep" * 20)
    async with serving(World(), deep) as addresses:
        path = Path(addresses.compute[0].socket)
        assert path.is_socket()
        assert not path.is_relative_to(tmp_path)
    assert not path.parent.parent.exists()
