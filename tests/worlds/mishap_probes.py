"""What a mishap can be told by: a furnished world without a controller, and questions that are answered otherwise while
something is wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from controller.records import AddEvent, Event
from controller.store import StoreError
from examples.simulator.machine import Machine
from examples.simulator.outcome import Outcome
from examples.simulator.server import COMPUTE_SECRET
from tests.simulator.conftest import VM, Town
from tests.worlds.files import prepared
from tests.worlds.ground import Cut
from tests.worlds.rig import Rig
from tests.worlds.wire import RESEND, WorldTransport, daemon_host

ALICE = "alice_x7k2p9_1_1"
APP = "Hero OS alice x7k2p9-1-1"
ADDRESS = "alicex7k2p9"
PATIENCE = 5.0  # seconds for an answer


@dataclass
class Scene:
    """A world with one tester's things in it: account, VM with a few services, gateway, OAuth app."""

    rig: Rig
    town: Town
    machine: Machine
    host_key: str
    made: int = 0

    @classmethod
    async def furnished(cls, root: Path) -> Scene:
        rig = Rig(root, seed=1, daemons=1)
        prepared(rig.places)
        rig.store = await rig._opened()
        town = Town(rig.world)
        machine = await town.stacked(ALICE)
        await town.gateway(machine, ADDRESS)
        rig.world.drift.add_account("alice", "alice@example.org")
        rig.world.forge.oauth.create(rig.world.forge.need_account("controller"), APP, ["https://a.test/cb"], True)
        return cls(rig, town, machine, machine.state.host_key)

    def fresh(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}{self.made}"

    async def rest(self, seconds: float) -> None:
        await self.rig.run_for(timedelta(seconds=seconds))

    async def ran(self, *words: str) -> Outcome:
        return await self.town.tried(self.machine, *words)

    async def deploy(self, **more: Any) -> tuple[str, str]:
        """A VM's name, and its state or why there is none."""
        name = self.fresh("alice_")
        made = await self.town.rpc("deploy_vm", **{**VM, "name": name, **more})
        return name, made if isinstance(made, str) else made["state"]

    def stands(self, name: str) -> bool:
        return any(vm.name == name for vm in self.rig.world.daemons["compute1"].state.vms.values())


Probe = Callable[[Scene], Awaitable[object]]

# -- over HTTP


async def asked(scene: Scene, method: str, url: str, body: Any) -> str:
    """How a call ends, in short."""
    async with httpx.AsyncClient(transport=WorldTransport(scene.rig.world), timeout=PATIENCE) as client:
        try:
            answer = await client.request(method, url, json=body)
        except httpx.HTTPError as error:
            return type(error).__name__
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.headers.get('retry-after', '')}".strip()
    try:
        error = answer.json().get("error")
    except json.JSONDecodeError:
        return "no JSON"
    return error["message"] if error else "well"


async def daemon_answers(scene: Scene) -> str:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ComputeService.list_nodes", "params": {}}
    return await asked(scene, "POST", f"http://{daemon_host('compute1')}/rpc", body)


async def daemon_repeats(scene: Scene) -> bool:
    """What it was told in confidence, in its refusal."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "ComputeService.list_vms", "params": {"secret": "the-wrong-one"}}
    return "the-wrong-one" in await asked(scene, "POST", f"http://{daemon_host('compute1')}/rpc", body)


async def forge_answers(scene: Scene) -> str:
    return await asked(scene, "GET", f"{scene.rig.world.realm.forge_url}/api/v1/version", None)


async def forge_writes(scene: Scene) -> int:
    body = {"username": scene.fresh("user"), "email": f"{scene.made}@example.org", "password": "A-password-1"}
    return (await scene.town.forge("POST", "/api/v1/admin/users", body, token=await _token(scene))).status


async def _token(scene: Scene) -> str:
    return str(scene.rig.addresses.forge_token)


async def token_is_good(scene: Scene) -> int:
    return (await scene.town.forge("GET", "/api/v1/user", token=await _token(scene))).status


async def mail_goes(scene: Scene) -> tuple[str, int]:
    before = len(scene.rig.world.mailbox)
    body = {"from": "a@example.org", "to": "b@example.org", "subject": "x", "text": "y"}
    headers = {"authorization": f"Bearer {scene.rig.world.post.state.resend_key}"}
    async with httpx.AsyncClient(transport=WorldTransport(scene.rig.world), headers=headers) as client:
        try:
            said = str((await client.post(f"http://{RESEND}/emails", json=body)).status_code)
        except httpx.HTTPError as error:
            said = type(error).__name__
    return said, len(scene.rig.world.mailbox) - before


# -- at the grid


async def vms_listed(scene: Scene) -> int:
    return len(await scene.town.rpc("list_vms", secret=COMPUTE_SECRET))


async def vm_comes(scene: Scene) -> tuple[str, bool]:
    """How it is answered, and whether it stands some minutes later."""
    name, said = await scene.deploy()
    await scene.rest(600)
    return said.rpartition(" ")[2], scene.stands(name)


async def vm_is_reached(scene: Scene) -> bool:
    name, _ = await scene.deploy()
    await scene.rest(600)
    return scene.rig.world.reachable_at(scene.rig.world.machine_named(name).state.mycelium_ip) is not None


async def vm_goes(scene: Scene) -> tuple[bool, bool]:
    """Whether it stands when its delete is answered, and hours later."""
    name, _ = await scene.deploy()
    sid = scene.rig.world.machine_named(name).state.key.partition("/")[2]
    await scene.town.rpc("delete_vm", sid=sid, secret=COMPUTE_SECRET)
    at_once = scene.stands(name)
    await scene.rest(7300)
    return at_once, scene.stands(name)


async def large_vm_fits(scene: Scene) -> bool:
    _, said = await scene.deploy(disk_gb=60, memory_mb=512)
    return said == "running"


async def gateway_comes(scene: Scene) -> tuple[str, int, bool]:
    """How it is answered, how many are listed by its name, and whether it took long."""
    name, began = scene.fresh("alice"), scene.rig.elapsed
    made = await scene.town.gateway(scene.machine, name)
    took = scene.rig.elapsed - began
    listed = await scene.town.rpc("list_webgateways", secret=COMPUTE_SECRET)
    said = made.split(":")[0] if isinstance(made, str) else made["state"]
    return said.removeprefix("-32000 "), sum(row["name"] == name for row in listed), took > timedelta(seconds=25)


async def address_leads(scene: Scene) -> bool:
    (gateway,) = [row for _, row in scene.rig.world.grid.gateways() if row.name == ADDRESS]
    scene.machine.state.secrets.setdefault("core", {})["HERO_PROXY_SEED_GATEWAY_LISTENER"] = b"1"
    scene.machine.door.read_settings()
    return await asked(scene, "GET", f"https://{gateway.fqdn}/health", None) != "502"


async def nodes_seem(scene: Scene) -> tuple[bool, bool]:
    """Whether the first node looks up, and whether it is."""
    node = scene.rig.world.daemons["compute1"].state.nodes[0]
    (told, *_) = await scene.town.rpc("list_nodes")
    return told["online"], scene.rig.world.daemons["compute1"].runs(node)


async def _told_used(scene: Scene) -> int:
    return sum(node["memory_mb_used"] for node in await scene.town.rpc("list_nodes"))


async def is_anything_used(scene: Scene) -> bool:
    return await _told_used(scene) > 0


async def new_vm_is_counted(scene: Scene) -> bool:
    before = await _told_used(scene)
    await scene.deploy(memory_mb=512)
    await scene.rest(90)
    return await _told_used(scene) > before


# -- on the machine


async def machine_stands(scene: Scene) -> str:
    if not scene.rig.world.stands(scene.machine):
        return "gone"
    return "up" if scene.rig.world.reachable_at(scene.machine.state.mycelium_ip) else "unreachable"


async def host_key_is_known(scene: Scene) -> bool:
    return scene.machine.state.host_key == scene.host_key


async def script_ends(scene: Scene) -> str:
    ground = scene.rig.yard.of(scene.machine)
    try:
        await ground.answered(ground.run(["hero_proc", "service", "list"]), PATIENCE)
    except (Cut, TimeoutError) as error:
        return type(error).__name__
    return "well"


async def setting_is_stored(scene: Scene) -> int:
    return (await scene.ran("hero_proc", "secret", "set", "--quiet", "--context", "core", "A_KEY", "value")).code


async def setting_reads(scene: Scene) -> bytes:
    scene.machine.set_secret("core", "A_KEY", b"value")
    return (await scene.ran("hero_proc", "secret", "get", "--context", "core", "A_KEY")).out


async def router_seems(scene: Scene) -> tuple[str, bool]:
    row = scene.machine.state.services["hero_router"]
    return row.state, row.alive


async def router_starts(scene: Scene) -> tuple[int, bool, bool]:
    """Exit code, whether it lives, and whether it answers within half a minute."""
    outcome = await scene.ran("hero_proc", "service", "restart", "hero_router")
    await scene.rest(15)
    return outcome.code, scene.machine.alive("hero_router"), scene.machine.healthy("hero_router")


async def two_installs(scene: Scene) -> tuple[int, int]:
    words = ("lab", "build", "hero_books", "--download", "--install")
    return (await scene.ran(*words)).code, (await scene.ran(*words)).code


# -- at Forge, at the engines, and ours


async def account_is_there(scene: Scene) -> bool:
    return scene.rig.world.forge.account("alice") is not None


async def carol_is_there(scene: Scene) -> bool:
    return scene.rig.world.forge.account("carol") is not None


async def apps(scene: Scene) -> int:
    return sum(app.name == APP for app in scene.rig.world.state.forge.apps)


async def engine_store_answers(scene: Scene) -> int:
    voice = scene.rig.world.engines.named("voice")
    words = [b"hero_proc", b"secret", b"list", b"--context", voice.context.encode()]
    return (await scene.rig.world.admin.run(words)).code


async def engines_are_reached(scene: Scene) -> bool:
    return scene.rig.world.reachable_at(scene.rig.world.admin.state.mycelium_ip) is not None


async def our_clock(scene: Scene) -> timedelta:
    loop = asyncio.get_running_loop()
    return scene.rig.clock.now() - scene.rig._begun - timedelta(seconds=loop.time())


async def store_takes(scene: Scene) -> str:
    """Many writes; the answer is what went wrong, if anything did. It can be read all the same."""
    said = "all"
    for number in range(40):
        event = Event("alice", "machine", "Note", f"{number} " + 400 * "x", scene.rig.clock.now())
        try:
            await scene.rig.store.write(AddEvent(event))
        except StoreError as error:
            said = str(error).partition("(")[2].rstrip(").")
    await scene.rig.store.events()
    return said
