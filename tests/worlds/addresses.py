"""Where the parts of a world without sockets are, in the simulator's own words (`addresses.json`)."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

from examples.simulator import seeding
from examples.simulator.catalogue import LAB_ASSET, OWNER
from examples.simulator.keys import new_host_key
from examples.simulator.server import COMPUTE_SECRET, Addresses, AdminMachine, ComputeAddress, EngineAddress
from examples.simulator.world import World
from reconcilers.backends.machine_ssh import openssh_form
from tests.worlds.ground import host_key_of
from tests.worlds.wire import RESEND, daemon_host


def addresses_of(world: World, root: Path) -> Addresses:
    """The world's addresses. Makes the installer's key below `root`, and lets it in at the admin machine."""
    forge, state, admin = world.realm.forge_url, world.state, world.admin.state
    key = root / "installer_key"
    key.touch(mode=0o600)
    key.write_text(new_host_key(world.realm, "installer"))
    world.admit(f"{openssh_form(asyncssh.import_private_key(key.read_bytes()))} installer")
    return Addresses(
        pid=os.getpid(),
        forge_url=forge,
        forge_token=seeding.controller_token(world.forge),
        compute=[
            ComputeAddress(
                name=name,
                url=f"http://{daemon_host(name)}",
                socket="",
                secret=COMPUTE_SECRET,
                gateway_domain=daemon.gateway_domain,
                nodes=[{"sid": node.sid, "grid_node": node.grid_node} for node in daemon.nodes],
            )
            for name, daemon in state.daemons.items()
        ],
        socks="",
        ca_file="",
        installer_key_file=str(key),
        control_url="",
        lab_url=f"{forge}/{OWNER}/lab/releases/download/latest/{LAB_ASSET}",
        shell="",
        speed=1.0,
        admin_machine=AdminMachine(admin.mycelium_ip, host_key_of(world.admin)),
        engines=[
            EngineAddress(one.name, f"http://[{admin.mycelium_ip}]:{one.port}", one.context, one.service)
            for one in state.engines
        ],
        resend_url=f"http://{RESEND}",
        resend_key=world.post.state.resend_key,
        smtp_host="",
        smtp_port=0,
        smtp_user="",
        smtp_password="",
    )
