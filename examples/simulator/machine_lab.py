"""lab, the installer: `lab build`, `lab service`, `lab uninstall`. The flag `--version` and `uninstall` are
assumptions (A).
"""

from typing import TYPE_CHECKING

from examples.simulator.catalogue import AI_KEYS, COMPONENTS, NEEDS_AI_KEY, SUPERVISOR, services_of
from examples.simulator.outcome import Outcome, failed, said
from examples.simulator.records import Installed, Service
from examples.simulator.standin import STAND_IN

if TYPE_CHECKING:
    from examples.simulator.machine import Machine


async def run(machine: "Machine", words: list[str]) -> Outcome:
    match words:
        case ["--version"]:
            return said(f"lab {machine.state.lab or machine.around.version('lab', None) or 'unknown'}\n")
        case ["build", component, *flags]:
            return await _build(machine, component, flags)
        case ["service", name, "start"]:
            return await start(machine, name)
        case ["service", name, "stop"]:
            return await stop(machine, name)
        case ["uninstall", component]:
            return await _uninstall(machine, component)
        case _:
            return failed("usage: lab build|service|uninstall …", 2)


async def _build(machine: "Machine", component: str, flags: list[str]) -> Outcome:
    """Takes 10 to 40 s; always pulls the newest of the channel unless a version is named."""
    wanted = flags[flags.index("--version") + 1] if "--version" in flags[:-1] else None
    unknown = [flag for flag in flags if flag not in ("--download", "--install", "--version", wanted)]
    if unknown or component not in COMPONENTS:
        return failed(
            f"error: unknown component {component!r}" if not unknown else f"error: unexpected argument {unknown[0]!r}",
            2,
        )
    if "--download" not in flags or "--install" not in flags:
        return failed("error: no Rust toolchain on this machine; use --download --install", 1)
    version = machine.around.version(component, wanted)
    if version is None:
        return failed(f"error: no release of {component} {wanted or 'latest'}")
    await machine.takes(f"install {component} {version}", 10, 40)
    if machine.faults.take("machine", "lab build", ("install_fails",), component):
        return failed(f"error: {component}: download failed: connection reset by peer")
    if machine.around.broken(component, version) == "install":
        return failed(f"error: {component} {version}: the archive is damaged")
    _place(machine, component, version)
    return said(f"downloading {component} {version}\ninstalled {component} {version}\n")


def _place(machine: "Machine", component: str, version: str) -> None:
    state = machine.state
    running = state.components[component].running if component in state.components else None
    state.components[component] = Installed(version=version, running=running)
    machine.files.write(f"hero/bin/{component}", STAND_IN.encode(), 0o755)
    for service in services_of(component):
        state.services.setdefault(service, Service(component=component))
    machine.around.changed()


async def _uninstall(machine: "Machine", component: str) -> Outcome:
    """Stops its services and removes it; fine when it is not there."""
    await machine.takes(f"uninstall {component}", 1, 3)
    for service in services_of(component):
        machine.state.services.pop(service, None)
    machine.state.components.pop(component, None)
    machine.files.remove(f"hero/bin/{component}")
    if component == SUPERVISOR:
        machine.state.supervisor = False
    return said(f"removed {component}\n")


async def start(machine: "Machine", name: str) -> Outcome:
    """Takes 1 to 5 s; nothing happens when it runs already."""
    if name == SUPERVISOR:
        return await _start_supervisor(machine)
    if not machine.state.supervisor:
        return failed("error: supervisor not running")
    service = machine.state.services.get(name)
    if service is None:
        return failed(f"error: no such service: {name}")
    if service.state == "running" and service.alive:
        return said(f"{name} is running\n")
    return await bring_up(machine, name, service, 1, 5)


async def bring_up(machine: "Machine", name: str, service: Service, least: float, most: float) -> Outcome:
    """From stopped or failed to running; a service that needs an AI key fails without one (lesson 35)."""
    service.state, service.alive, service.pid = "starting", False, None
    machine.around.changed()
    await machine.takes(f"start {name} {machine.state.next_pid}", least, most)
    held = machine.state.secrets.get("cockpit", {})
    if name in NEEDS_AI_KEY and not any(held.get(key) for key in AI_KEYS):
        service.state = "failed"
        return failed(f"error: {name}: no AI provider key configured")
    if machine.faults.take("machine", "service start", ("start_fails",), name) or _dies(machine, service):
        service.state = "failed"
        return failed(f"error: {name} exited with code 101 during start")
    if machine.state.services.get(name) is service:
        machine.begin(name, service)
    return said(f"{name} started\n")


def _dies(machine: "Machine", service: Service) -> bool:
    """Whether the installed version was published broken."""
    installed = machine.state.components.get(service.component)
    return installed is not None and machine.around.broken(service.component, installed.version) == "start"


async def _start_supervisor(machine: "Machine") -> Outcome:
    if SUPERVISOR not in machine.state.components:
        return failed("error: hero_proc is not installed")
    if not machine.state.supervisor:
        await machine.takes("start hero_proc", 1, 5)
        if machine.around.broken(SUPERVISOR, machine.state.components[SUPERVISOR].version) == "start":
            return failed("error: hero_proc exited with code 101 during start")
        machine.state.supervisor = True
    return said("hero_proc is running\n")


async def stop(machine: "Machine", name: str) -> Outcome:
    if name == SUPERVISOR:
        machine.state.supervisor = False
        for row in machine.state.services.values():
            row.state, row.alive, row.pid = "stopped", False, None
        return said("hero_proc stopped\n")
    if not machine.state.supervisor:
        return failed("error: supervisor not running")
    service = machine.state.services.get(name)
    if service is None:
        return failed(f"error: no such service: {name}")
    await machine.takes(f"stop {name}", 0.2, 1)
    service.state, service.alive, service.pid = "stopped", False, None
    return said(f"{name} stopped\n")
