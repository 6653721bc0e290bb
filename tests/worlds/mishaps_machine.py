"""Mishaps on the machines, and with what is installed there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from examples.simulator.catalogue import OWNER, PROXY
from examples.simulator.machine import Machine
from tests.worlds.mishap import Ending, Kind, Mishap, found, spoils, things_of, victim

if TYPE_CHECKING:
    from tests.worlds.rig import Rig

COMMANDS = ("lab build *", "lab service *", "hero_proc service *", "hero_proc secret *", "apt-get *", "curl *", "*")
PUBLISHED = ("hero_books", "hero_cockpit", "hero_router", "hero_db", PROXY)


def _a_command(rng: random.Random) -> dict[str, Any]:
    return {"method": rng.choice(COMMANDS), "times": rng.choice((1, 1, 2, 4))}


async def _rekeyed_by_rebuild(rig: Rig, mishap: Mishap) -> None:
    """The machine is lost, and the next one answers at the same address with a key of its own."""
    machine = await victim(rig, mishap)
    await spoils("address_reused", "compute", "deploy_vm", things_of)(rig, _once(mishap))
    rig.world.drift.delete_vm(machine.state.key)


def _once(mishap: Mishap) -> Mishap:
    return Mishap(mishap.at, None, mishap.kind, mishap.target, {"times": 1})


async def _rekeyed(rig: Rig, mishap: Mishap) -> Ending:
    """Until an admin has found out why, and put it right."""
    machine = await victim(rig, mishap)
    before = rig.world.drift.change_host_key(machine.state.key)

    def put_right() -> None:
        if rig.world.stands(machine):
            rig.world.drift.change_host_key(machine.state.key, before)

    return put_right


async def _service(rig: Rig, mishap: Mishap) -> tuple[Machine, str]:
    """A service of the victim's that runs: the one that the options name, or any. Raises Missed."""

    def look() -> tuple[Machine, str] | None:
        for machine in rig.world.machines.values():
            if machine.name.startswith(mishap.target):
                running = [name for name in sorted(machine.state.services) if machine.alive(name)]
                if running:
                    return machine, running[int(mishap.options.get("service", 0)) % len(running)]
        return None

    return await found(rig, mishap, look)


async def _said_to_run(rig: Rig, mishap: Mishap) -> None:
    machine, service = await _service(rig, mishap)
    rig.world.drift.kill_service(machine.state.key, service)


async def _said_to_be_dead(rig: Rig, mishap: Mishap) -> Ending:
    (machine, service), state = await _service(rig, mishap), str(mishap.options.get("state", "stopped"))
    rig.world.drift.misreport_service(machine.state.key, service, state)

    def put_right() -> None:
        row = machine.state.services.get(service)
        if row is not None and row.state == state and row.alive:
            row.state = "running"

    return put_right


_LIES = spoils("supervisor_lies", "machine", "service start")


async def _start_lies(rig: Rig, mishap: Mishap) -> Ending:
    """Until an admin notices, where it befell a shared engine: those are the admins' own."""
    spell = await _LIES(rig, mishap)

    def noticed() -> None:
        for engine in rig.world.state.engines:
            if not rig.world.admin.alive(engine.service):
                rig.world.drift.restart_engine(engine.name)

    return replace(spell, then=noticed)


async def _published_broken(rig: Rig, mishap: Mishap) -> Ending:
    """Until a good version is published."""
    component = str(mishap.options.get("component", "hero_books"))
    repository = rig.world.forge.repositories.find(OWNER, component)
    number = len(repository.releases) if repository else 0
    how = str(mishap.options.get("how", "start"))
    rig.world.drift.publish_broken(component, f"v0.4.{number}", how)
    return lambda: rig.world.drift.publish(component, f"v0.4.{number + 1}")


def _a_service(rng: random.Random) -> dict[str, Any]:
    return {"service": rng.randrange(12)}


KINDS: Mapping[str, Kind] = {
    "host_key_of_a_rebuild": Kind(
        2,
        "rough",
        "a VM is lost, and the next one has its address and another host key",
        _rekeyed_by_rebuild,
        (2.0, 30.0),
        victim="tester",
    ),
    "host_key_changed": Kind(
        1, "rough", "a machine shows another host key though nobody rebuilt it", _rekeyed, (2.0, 30.0), victim="tester"
    ),
    "ssh_cut": Kind(
        4,
        "mild",
        "the connection breaks under a command",
        spoils("cut_mid_command", "machine", "*", things_of),
        (1.0, 15.0),
        _a_command,
        "tester",
    ),
    "command_hangs": Kind(
        3,
        "mild",
        "a command hangs until it is killed",
        spoils("hangs", "machine", "*", things_of),
        (1.0, 15.0),
        lambda rng: {**_a_command(rng), "seconds": rng.randint(10, 900)},
        "tester",
    ),
    "vm_disk_full": Kind(
        2,
        "rough",
        "the machine's disk is full",
        spoils("disk_full", "machine", "files", things_of),
        (1.0, 15.0),
        victim="tester",
    ),
    "said_to_run_and_dead": Kind(
        2,
        "mild",
        "the supervisor says running, and the service is dead",
        _said_to_run,
        (2.0, 30.0),
        _a_service,
        "tester",
    ),
    "said_to_be_dead_and_runs": Kind(
        2,
        "mild",
        "the supervisor says stopped, and the service runs",
        _said_to_be_dead,
        (2.0, 15.0),
        lambda rng: {**_a_service(rng), "state": rng.choice(("stopped", "failed", "starting"))},
        "tester",
    ),
    "start_lies": Kind(
        2,
        "mild",
        "a service is said to be started, and is dead",
        _start_lies,
        (2.0, 15.0),
        lambda rng: {"times": rng.choice((1, 2))},
    ),
    "start_races": Kind(
        3,
        "mild",
        "a service dies when it starts, and comes up when asked again",
        spoils("start_fails", "machine", "service start"),
        (2.0, 15.0),
        lambda rng: {"times": rng.choice((1, 2, 3))},
    ),
    "slow_start": Kind(
        2,
        "mild",
        "a service takes long until it answers",
        spoils("slow_start", "machine", "service start"),
        (2.0, 15.0),
        lambda rng: {"times": rng.choice((1, 3)), "seconds": rng.randint(20, 240)},
    ),
    "secret_reads_empty": Kind(
        3,
        "mild",
        "a stored value reads back empty",
        spoils("secret_reads_empty", "machine", "secret get"),
        (1.0, 10.0),
        lambda rng: {"times": rng.choice((1, 2, 5, None))},
    ),
    "install_fails_once": Kind(
        3,
        "mild",
        "an install fails once",
        spoils("install_fails", "machine", "lab build"),
        (2.0, 15.0),
        lambda rng: {"times": 1},
    ),
    "install_fails_always": Kind(
        2, "rough", "every install fails", spoils("install_fails", "machine", "lab build"), (2.0, 30.0)
    ),
    "release_broken": Kind(
        1,
        "rough",
        "a release is published broken",
        _published_broken,
        (5.0, 60.0),
        lambda rng: {"component": rng.choice(PUBLISHED), "how": rng.choice(("install", "start"))},
    ),
}
