"""Detached jobs: they go on without us, are never begun twice at once, and say how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from examples.simulator.processes import of_home
from reconcilers.backends.machine import Job, JobState, MachineAddress, MachineQuery
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.errors import Transient
from reconcilers.secret import Secret

LAB_URL = "https://forge.test/lhumina_code/lab/releases/download/latest/lab-linux-x86_64?a='b'&c"
Until = Callable[..., Awaitable[None]]


async def job(machines: ShellMachines, address: MachineAddress, name: str, *logs: str) -> Job | None:
    return (await machines.look(address, MachineQuery(logs=logs))).jobs.get(name)


async def ended(machines: ShellMachines, address: MachineAddress, name: str, until: Until) -> Job:
    async def over() -> bool:
        found = await job(machines, address, name)
        return found is not None and found.state is not JobState.RUNNING

    await until(over)
    found = await job(machines, address, name, name)
    assert found is not None
    return found


async def test_a_bare_machine_gets_its_supervisor(
    home: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    await machines.start_supervisor_job(address, LAB_URL, None)
    done = await ended(machines, address, "supervisor", until)
    assert (done.state, done.rc, done.result, done.wanted) == (JobState.SUCCEEDED, 0, "v1.0.0", "")
    assert done.began.endswith("Z")
    assert home.read("calls").splitlines() == [
        "apt-get update",
        "apt-get install -y --no-install-recommends curl ca-certificates",
        "lab build hero_proc --download --install",
        "lab service hero_proc start",
    ]
    look = await machines.look(address, MachineQuery())
    assert look.supervisor_up
    assert look.tools == {"curl", "lab", "hero_proc"}
    # What is there is left alone, and another version is taken when it is asked for.
    await machines.start_supervisor_job(address, LAB_URL, "1.0.0")
    assert (await ended(machines, address, "supervisor", until)).state is JobState.SUCCEEDED
    assert len(home.read("calls").splitlines()) == 4
    await machines.start_supervisor_job(address, LAB_URL, "v1.1.0")
    done = await ended(machines, address, "supervisor", until)
    assert (done.state, done.wanted) == (JobState.SUCCEEDED, "v1.1.0")
    assert home.read("calls").splitlines()[4:] == [
        "lab build hero_proc --download --install --version v1.1.0",
        "lab service hero_proc stop",
        "lab service hero_proc start",
    ]


async def test_a_supervisor_of_before_that_could_not_be_stopped_is_stopped_by_the_next_try(
    home: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    await machines.start_supervisor_job(address, LAB_URL, None)
    assert (await ended(machines, address, "supervisor", until)).state is JobState.SUCCEEDED
    lab = home.read("hero/bin/lab")
    home.place("hero/bin/lab", lab.replace("service)", 'service) [ "$3" = start ] || [ ! -e "$HOME/busy" ] || exit 5;'))
    home.touch("busy")
    for _ in range(2):
        await machines.start_supervisor_job(address, LAB_URL, "v1.1.0")
        found = await ended(machines, address, "supervisor", until)
        assert (found.state, found.result) == (JobState.FAILED, "v1.1.0")
    (home.path / "busy").unlink()
    await machines.start_supervisor_job(address, LAB_URL, "v1.1.0")
    assert (await ended(machines, address, "supervisor", until)).state is JobState.SUCCEEDED
    assert home.read("calls").splitlines()[-2:] == ["lab service hero_proc stop", "lab service hero_proc start"]


async def test_a_web_page_is_not_taken_for_lab(
    home: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    page, lab = "<!doctype html><title>Maintenance</title>", home.read("stand-ins/lab")
    home.touch("stand-ins/lab", page)
    await machines.start_supervisor_job(address, LAB_URL, None)
    done = await ended(machines, address, "supervisor", until)
    assert done.state is JobState.FAILED
    assert "a web page was answered where lab should be" in done.log
    assert "lab" not in (await machines.look(address, MachineQuery())).tools
    # Nor is one that lies there already.
    home.place("hero/bin/lab", page)
    home.touch("stand-ins/lab", lab)
    await machines.start_supervisor_job(address, LAB_URL, None)
    assert (await ended(machines, address, "supervisor", until)).state is JobState.SUCCEEDED


async def test_an_install_tells_its_version_and_starts_its_services(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    readers = {("core", "A"): ("hero_books", "hero_slides")}
    await machines.write_settings(address, {("core", "A"): Secret("1")}, readers, owned=False)
    await machines.start_install(address, "hero_books", "v0.3.1", ("hero_books",))
    done = await ended(machines, address, "component-hero_books", until)
    assert (done.state, done.result, done.wanted) == (JobState.SUCCEEDED, "v0.3.1", "v0.3.1")
    look = await machines.look(address, MachineQuery(components=("hero_books",)))
    assert look.versions == {"hero_books": "v0.3.1"}
    assert look.services == {"hero_books": "running"}
    assert look.owned_components == {"hero_books"}
    assert look.stale == {"hero_slides"}  # what starts for the first time has read everything
    furnished.touch("release", "v0.4.0")
    await machines.start_install(address, "hero_books", None, ("hero_books",))
    assert (await ended(machines, address, "component-hero_books", until)).result == "v0.4.0"
    assert furnished.read("calls").splitlines()[-2:] == [
        "lab build hero_books --download --install",
        "restart hero_books",
    ]
    await machines.remove_component(address, "hero_books", ("hero_books",))
    look = await machines.look(address, MachineQuery(components=("hero_books",)))
    assert (look.versions, look.owned_components, look.jobs) == ({}, frozenset(), {})


async def test_what_is_written_first_is_there_when_another_version_starts_and_no_other_time(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    listener, shut = ("core", "LISTENER"), {("core", "LISTENER"): Secret("0")}
    for version, held in (("v0.3.1", Secret("0")), ("v0.3.1", Secret("1")), ("v0.4.0", Secret("0"))):
        await machines.write_settings(address, {listener: Secret("1")}, {}, owned=False)
        await machines.start_install(address, "hero_proxy", version, ("hero_proxy",), shut)
        assert (await ended(machines, address, "component-hero_proxy", until)).state is JobState.SUCCEEDED
        assert (await machines.look(address, MachineQuery(secrets=(listener,)))).secrets == {listener: held}, version
    log = await machines.job_log(address, "component-hero_proxy")
    assert log.index("secret set") < log.index("restart hero_proxy")
    # A try that ends between the two is no reason for the next one to find nothing new.
    await machines.write_settings(address, {listener: Secret("1")}, {}, owned=False)
    furnished.touch("refuse")
    await machines.start_install(address, "hero_proxy", "v0.5.0", ("hero_proxy",), shut)
    assert (await ended(machines, address, "component-hero_proxy", until)).state is JobState.FAILED
    (furnished.path / "refuse").unlink()
    await machines.start_install(address, "hero_proxy", "v0.5.0", ("hero_proxy",), shut)
    assert (await ended(machines, address, "component-hero_proxy", until)).state is JobState.SUCCEEDED
    assert (await machines.look(address, MachineQuery(secrets=(listener,)))).secrets == {listener: Secret("0")}


async def test_what_another_version_left_running_is_restarted_by_the_try_after_one_that_broke_off(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    lab = furnished.read("hero/bin/lab")
    furnished.place("hero/bin/lab", lab.replace("service)", 'service) [ -e "$HOME/up" ] || exit 5;'))
    await machines.start_install(address, "hero_books", "v1", ("hero_books",))
    assert (await ended(machines, address, "component-hero_books", until)).state is JobState.SUCCEEDED
    (furnished.path / "up").unlink()  # the supervisor is away for a moment
    await machines.start_install(address, "hero_books", "v2", ("hero_books",))
    found = await ended(machines, address, "component-hero_books", until)
    assert (found.state, found.result) == (JobState.FAILED, "v2")
    furnished.touch("up")
    for _ in range(2):
        await machines.start_install(address, "hero_books", "v2", ("hero_books",))
        assert (await ended(machines, address, "component-hero_books", until)).state is JobState.SUCCEEDED
    assert furnished.read("calls").splitlines().count("restart hero_books") == 1


async def test_a_second_start_of_a_running_job_changes_nothing(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    furnished.touch("hold.hero_books")
    await asyncio.gather(*(machines.start_install(address, "hero_books", "v1", ("hero_books",)) for _ in range(3)))

    async def building() -> bool:
        return "building hero_books" in await machines.job_log(address, "component-hero_books")

    await until(building)
    running = await job(machines, address, "component-hero_books")
    assert running is not None
    assert (running.state, running.rc, running.wanted) == (JobState.RUNNING, None, "v1")
    with pytest.raises(Transient) as caught:
        await machines.remove_component(address, "hero_books", ("hero_books",))
    assert caught.value.reason == "MachineBusy"
    # Another component does not wait for it.
    await machines.start_install(address, "hero_slides", None, ())
    assert (await ended(machines, address, "component-hero_slides", until)).state is JobState.SUCCEEDED
    (furnished.path / "hold.hero_books").unlink()
    assert (await ended(machines, address, "component-hero_books", until)).state is JobState.SUCCEEDED
    assert furnished.read("calls").count("lab build hero_books") == 1


async def test_a_service_is_not_restarted_under_the_hands_of_its_install(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    furnished.touch("services/hero_books", "running")
    furnished.touch("services/hero_slides", "running")
    await machines.write_settings(address, {("c", "A"): Secret("1")}, {("c", "A"): ("hero_books",)}, owned=False)
    furnished.touch("hold.hero_books")
    await machines.start_install(address, "hero_books", "v1", ("hero_books",))

    async def building() -> bool:
        return "building hero_books" in await machines.job_log(address, "component-hero_books")

    await until(building)
    for move in (machines.restart_service, machines.start_service):
        with pytest.raises(Transient) as caught:
            await move(address, "hero_books")
        assert caught.value.reason == "MachineBusy"
    await machines.restart_service(address, "hero_slides")  # nobody else waits for it
    assert [each for each in furnished.read("calls").splitlines() if "books" in each][1:] == []
    assert (await machines.look(address, MachineQuery())).stale == {"hero_books"}  # it is still due
    (furnished.path / "hold.hero_books").unlink()
    await ended(machines, address, "component-hero_books", until)
    await machines.restart_service(address, "hero_books")
    assert furnished.read("calls").splitlines()[-1] == "restart hero_books"


async def test_the_front_door_is_restarted_even_while_it_is_installed(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    """Law 4: nothing keeps an open door from being shut."""
    furnished.touch("services/hero_proxy", "running")
    furnished.touch("hold.hero_proxy")
    await machines.start_install(address, "hero_proxy", None, ("hero_proxy",))
    await machines.restart_service(address, "hero_proxy")
    assert "restart hero_proxy" in furnished.read("calls").splitlines()
    (furnished.path / "hold.hero_proxy").unlink()
    await ended(machines, address, "component-hero_proxy", until)


async def test_installs_take_their_turns_without_being_looked_at(
    furnished: Any, address: MachineAddress, until: Until
) -> None:
    """As many at once as the Fleet allows; the next one begins by itself, and one that waits says so."""
    machines = ShellMachines(furnished, places=2)
    names = ("hero_books", "hero_slides", "hero_planner")
    for name in names:
        furnished.touch(f"hold.{name}")
        await machines.start_install(address, name, None, ())

    def building() -> set[str]:
        return {each.split()[2] for each in furnished.read("calls").splitlines() if each.startswith("lab build")}

    async def told(line: str) -> list[str]:
        logs = {name: await machines.job_log(address, f"component-{name}") for name in names}
        return [name for name, log in logs.items() if line in log]

    async def two_of_three() -> bool:
        waits = set(names) - building()  # one that has its place may have waited for it too, for a moment
        return len(waits) == 1 and waits <= set(await told("waits for one of 2 places"))

    await until(two_of_three)
    (last,) = set(names) - building()
    waiting = await job(machines, address, f"component-{last}")
    assert waiting is not None
    assert waiting.state is JobState.RUNNING
    first = next(name for name in names if name != last)
    (furnished.path / f"hold.{first}").unlink()

    async def the_third() -> bool:
        return len(building()) == 3

    await until(the_third)
    for name in set(names) - {first}:
        (furnished.path / f"hold.{name}").unlink()
    for name in names:
        assert (await ended(machines, address, f"component-{name}", until)).state is JobState.SUCCEEDED


async def test_what_a_component_needs_has_started_before_it_starts(
    furnished: Any, address: MachineAddress, until: Until
) -> None:
    """It is built meanwhile, and what it needs gets the only place then."""
    machines = ShellMachines(furnished, places=1)
    furnished.touch("hold.hero_indexer")
    furnished.touch("hold.hero_db")

    async def builds_and_waits() -> bool:
        return "building hero_indexer" in await machines.job_log(address, "component-hero_indexer")

    await machines.start_install(address, "hero_indexer", None, ("hero_indexer",))
    await until(builds_and_waits)
    await machines.start_install(address, "hero_db", None, ("hero_db",))
    (furnished.path / "hold.hero_indexer").unlink()

    async def stands_back() -> bool:
        return "waits for hero_db" in await machines.job_log(address, "component-hero_indexer")

    await until(stands_back)
    (furnished.path / "hold.hero_db").unlink()
    for name in ("hero_db", "hero_indexer"):
        assert (await ended(machines, address, f"component-{name}", until)).state is JobState.SUCCEEDED
    started = [line for line in furnished.read("calls").splitlines() if line.startswith("lab service")]
    assert started == ["lab service hero_db start", "lab service hero_indexer start"]


async def test_a_place_is_free_when_its_holder_has_died(furnished: Any, address: MachineAddress, until: Until) -> None:
    machines = ShellMachines(furnished, places=1)
    furnished.touch("hold.hero_books")
    await machines.start_install(address, "hero_books", None, ())

    async def building() -> bool:
        return "building" in await machines.job_log(address, "component-hero_books")

    await until(building)
    _kill_all_of(str(furnished.path))
    await machines.start_install(address, "hero_slides", None, ())
    assert (await ended(machines, address, "component-hero_slides", until)).state is JobState.SUCCEEDED


async def test_a_failing_install_says_why(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    furnished.touch("fail.hero_books")
    await machines.start_install(address, "hero_books", None, ("hero_books",))
    done = await ended(machines, address, "component-hero_books", until)
    assert (done.state, done.rc, done.result) == (JobState.FAILED, 7, "")
    assert "no such release of hero_books" in done.log
    assert await machines.job_log(address, "component-hero_books") == done.log
    assert "lab service" not in furnished.read("calls")
    (furnished.path / "fail.hero_books").unlink()
    await machines.start_install(address, "hero_books", None, ("hero_books",))
    done = await ended(machines, address, "component-hero_books", until)
    assert done.state is JobState.SUCCEEDED
    assert "no such release" not in done.log


async def test_what_a_job_printed_that_ended_well_comes_only_when_asked_for(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    for component in ("hero_books", "hero_slides"):
        await machines.start_install(address, component, None, ())
        await ended(machines, address, f"component-{component}", until)
    look = await machines.look(address, MachineQuery(logs=("component-hero_slides",)))
    logs = {name: each.log for name, each in look.jobs.items() if name.startswith("component")}
    assert "building hero_slides" in logs.pop("component-hero_slides")
    assert logs == {"component-hero_books": ""}


async def test_a_job_whose_processes_are_gone_has_died(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    furnished.touch("hold.hero_books")
    await machines.start_install(address, "hero_books", None, ())

    async def building() -> bool:
        return "building" in await machines.job_log(address, "component-hero_books")

    await until(building)
    _kill_all_of(str(furnished.path))
    done = await ended(machines, address, "component-hero_books", until)
    assert (done.state, done.rc) == (JobState.DIED, None)
    (furnished.path / "hold.hero_books").unlink()
    await machines.start_install(address, "hero_books", None, ())
    assert (await ended(machines, address, "component-hero_books", until)).state is JobState.SUCCEEDED


async def test_the_log_keeps_the_end_and_is_bounded(
    furnished: Any, machines: ShellMachines, address: MachineAddress, until: Until
) -> None:
    furnished.place(
        "hero/bin/lab",
        '#!/bin/sh\n[ "$1" = build ] || exit 0\nyes "0123456789012345678901234567890123456789" | head -n 8000\n'
        "printf 'the \\033[31mend\\000 \\303\\244 without a newline'\n",
    )
    await machines.start_install(address, "hero_books", None, ())
    done = await ended(machines, address, "component-hero_books", until)
    assert done.log.rstrip().endswith("the [31mend ä without a newline")
    assert len(done.log.encode()) <= 4096
    log = await machines.job_log(address, "component-hero_books")
    assert 60_000 < len(log) <= 64 * 1024
    size = next(furnished.path.glob(".tester-controller/jobs/*/log")).stat().st_size
    assert size <= 2 * 64 * 1024
    assert await machines.job_log(address, "nothing") == ""


def _kill_all_of(home: str) -> None:
    """Kill every process whose HOME is that one, and nobody else. All are stopped first: none sees another one die, which it
    would tell as a failure, and none begins another one meanwhile."""
    stopped: set[int] = set()
    while more := set(of_home(home)) - stopped:
        stopped |= more
        _signalled(more, signal.SIGSTOP)
    _signalled(stopped, signal.SIGKILL)


def _signalled(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
