"""The machines' typed client without sockets: it fails as the one over SSH does, and what it starts goes on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest

from examples.simulator.compute import Compute
from examples.simulator.keys import new_host_key
from examples.simulator.world import World
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import (
    SUPERVISOR_JOB,
    Domain,
    JobState,
    MachineAddress,
    MachineQuery,
    Probe,
    install_job,
)
from reconcilers.backends.machine_ssh import import_key, openssh_form
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Transient, Unreachable
from reconcilers.secret import Secret
from tests.worlds.ground import Yard, host_key_of
from tests.worlds.loop import VirtualClock, VirtualWorldClock, run
from tests.worlds.machine import WorldMachines

SETTING = ("cockpit", "GROQ_API_KEY")
ODD = Secret("$(touch x)'\";|&\n-----BEGIN KEY-----\nabc\n-----END KEY-----\n")
LAB = "http://forge.test/lhumina_code/lab/releases/download/latest/lab-linux-x86_64"


class Site:
    """One VM that can be reached, and its client."""

    def __init__(self, world: World, vm: Any) -> None:
        self.world = world
        self.yard = Yard(world)
        self.clock = VirtualClock()
        self.machine = world.machines[f"compute1/{vm.sid}"]
        self.address = MachineAddress(self.machine.state.key, self.machine.state.mycelium_ip)
        self.machines = self.client()

    def client(self) -> WorldMachines:
        key = new_host_key(self.world.realm, "installer")
        self.machine.files.write(".ssh/authorized_keys", openssh_form(import_key(Secret(key))).encode())
        return WorldMachines(self.yard, Secret(key), Gate("machines", self.clock))

    async def supervised(self) -> None:
        await self.machines.start_supervisor_job(self.address, LAB, None)
        while (await self.machines.look(self.address, MachineQuery())).jobs[SUPERVISOR_JOB].state is JobState.RUNNING:
            await self.clock.sleep(timedelta(seconds=5))


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    world = World(seed=3, clock=VirtualWorldClock())
    compute: Compute = world.daemons["compute1"]
    vm = await compute.deploy_vm(
        {
            "name": "alice_1",
            "node_sid": "0001",
            "image": "Ubuntu 24.04",
            "cpu": 2,
            "memory_mb": 8192,
            "disk_gb": 50,
            "rootfs_gb": 10,
            "ssh_keys": [],
            "secret": "s",
        },
        _nothing,
    )
    await world.clock.sleep_until(vm.reachable_at or 0)
    yield Site(world, vm)


async def _nothing() -> None:
    return None


def on_site(test: Callable[[Site], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def ordinary() -> None:
        async def whole() -> None:
            async with site() as s:
                await test(s)

        run(whole())

    del ordinary.__wrapped__  # the site is no fixture
    return ordinary


@on_site
async def test_a_bare_machine_has_nothing_and_the_supervisors_job_brings_it_all(s: Site) -> None:
    bare = await s.machines.look(s.address, MachineQuery(components=("hero_proc",), secrets=(SETTING,)))
    assert (bare.tools, bare.supervisor_up, bare.versions, bare.domains) == (frozenset(), False, {}, None)
    assert bare.host_key == host_key_of(s.machine)
    began = s.clock.now()
    await s.supervised()
    assert timedelta(seconds=50) < s.clock.now() - began < timedelta(seconds=120)
    look = await s.machines.look(s.address, MachineQuery(components=("hero_proc",)))
    assert (look.tools, look.supervisor_up) == (frozenset({"curl", "lab", "hero_proc"}), True)
    job = look.jobs[SUPERVISOR_JOB]
    assert (job.state, job.rc, job.result, look.versions) == (JobState.SUCCEEDED, 0, "v0.3.1", {"hero_proc": "v0.3.1"})
    assert "+ apt-get update" in await s.machines.job_log(s.address, SUPERVISOR_JOB)


@on_site
async def test_settings_are_kept_byte_for_byte_and_readers_are_stale_until_their_restart(s: Site) -> None:
    await s.supervised()
    await _install(s, "hero_books")
    await s.machines.write_settings(s.address, {SETTING: ODD}, {SETTING: ("hero_books",)}, owned=True)
    look = await s.machines.look(s.address, MachineQuery(secrets=(SETTING, ("cockpit", "NONE")), contexts=("cockpit",)))
    assert look.secrets == {SETTING: ODD}
    assert look.listed == {"cockpit": frozenset({SETTING[1]})}
    assert (set(look.stale), set(look.owned_settings)) == ({"hero_books"}, {SETTING})
    await s.machines.restart_service(s.address, "hero_books")
    assert not await s.machines.swap_setting(s.address, SETTING, Secret("other"), Secret("new"), ())
    assert await s.machines.swap_setting(s.address, SETTING, ODD, Secret("new"), ())
    await s.machines.delete_settings(s.address, [SETTING], {})
    look = await s.machines.look(s.address, MachineQuery(secrets=(SETTING,)))
    assert (look.secrets, look.stale, look.owned_settings) == ({}, frozenset(), frozenset())


async def _install(s: Site, *components: str) -> None:
    for component in components:
        await s.machines.start_install(s.address, component, None, (component,))
    names = [install_job(component) for component in components]
    while True:
        jobs = (await s.machines.look(s.address, MachineQuery())).jobs
        if not any(jobs[name].state is JobState.RUNNING for name in names):
            return
        await s.clock.sleep(timedelta(seconds=1))


@on_site
async def test_the_front_door_answers_as_it_stands(s: Site) -> None:
    await s.supervised()
    await _install(s, "hero_router", "hero_proxy")
    await s.clock.sleep(timedelta(seconds=10))
    domain = Domain("alice.gent1.grid.test", "oauth", "http://127.0.0.1:9988", ("/share/",))
    await s.machines.set_domain(s.address, domain)
    asked = tuple(Probe(side, domain.domain, "/hero_proc/health") for side in ("inner", "loopback", "router"))
    look = await s.machines.look(s.address, MachineQuery(health=("hero_router", "nothing"), probes=asked))
    assert look.domains == (domain,)
    # Without its sign-in settings it lets everybody in (lesson 12); the listener is off.
    assert [look.probes[probe].status for probe in asked] == [None, 200, 200]
    assert look.health == {"hero_router": 200, "nothing": 404}
    await s.machines.remove_domain(s.address, domain.domain)
    assert (await s.machines.look(s.address, MachineQuery())).domains == ()


@on_site
async def test_installs_take_their_turns_at_the_places(s: Site) -> None:
    await s.supervised()
    names = ("hero_db", "hero_books", "hero_slides", "hero_planner", "hero_biz", "hero_indexer")
    await _install(s, *names)
    logs = [await s.machines.job_log(s.address, install_job(name)) for name in names]
    assert sum("waits for one of 4 places" in log for log in logs) == 2
    assert (await s.machines.look(s.address, MachineQuery())).owned_components == set(names)


@on_site
async def test_a_connection_that_breaks_leaves_the_script_to_its_end(s: Site) -> None:
    await s.supervised()
    s.world.log.entries.clear()
    writing = _later(s.machines.write_settings(s.address, {SETTING: Secret("new")}, {}, owned=False))
    await s.clock.sleep(timedelta(seconds=0.1))
    s.world.drift.cut_connections("alice_1")
    with pytest.raises(OutcomeUnknown):
        await writing
    reading = _later(s.machines.look(s.address, MachineQuery()))
    await s.clock.sleep(timedelta(seconds=1.1))  # it signs in anew first
    s.world.drift.cut_connections("alice_1")
    with pytest.raises(Transient):
        await reading
    look = await s.machines.look(s.address, MachineQuery(secrets=(SETTING,)))
    assert look.secrets == {SETTING: Secret("new")}


def _later(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.ensure_future(work)


@on_site
async def test_a_job_that_was_killed_says_so_and_can_be_begun_again(s: Site) -> None:
    await s.machines.start_supervisor_job(s.address, LAB, None)
    await s.clock.sleep(timedelta(seconds=5))
    s.yard.named("alice_1").kill_jobs()
    await s.clock.sleep(timedelta(seconds=1))
    assert (await s.machines.look(s.address, MachineQuery())).jobs[SUPERVISOR_JOB].state is JobState.DIED
    await s.supervised()
    assert (await s.machines.look(s.address, MachineQuery())).supervisor_up


@on_site
async def test_who_cannot_get_in_is_told_why(s: Site) -> None:
    async def why(address: MachineAddress) -> OutsideError:
        with pytest.raises(OutsideError) as told:
            await s.machines.look(address, MachineQuery())
        return told.value

    other = await why(replace(s.address, host_key="ssh-ed25519 AAAA"))
    assert isinstance(other, Blocked)
    assert other.reason == "HostKeyChanged"
    s.machine.files.write(".ssh/authorized_keys", b"ssh-ed25519 AAAA somebody\n")
    assert (await why(s.address)).reason == "LoginRefused"
    s.world.drift.set_reachable("alice_1", False)
    began = s.clock.now()
    assert isinstance(await why(s.address), Unreachable)
    assert s.clock.now() - began == timedelta(seconds=3)


@on_site
async def test_what_runs_on_a_machine_goes_with_it(s: Site) -> None:
    await s.supervised()
    await s.machines.start_install(s.address, "hero_books", None, ("hero_books",))
    waiting = _later(s.machines.restart_service(s.address, "hero_proc"))
    await s.clock.sleep(timedelta(seconds=0.1))
    s.world.drift.delete_vm("alice_1")
    with pytest.raises(OutcomeUnknown):
        await waiting
    calls = len(s.world.log)
    await s.clock.sleep(timedelta(minutes=5))
    assert len(s.world.log) == calls
