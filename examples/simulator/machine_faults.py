"""What spoils any command on a machine: the connection breaks under it, it hangs, the disk is full."""

from typing import TYPE_CHECKING

from examples.simulator.outcome import Outcome, failed

if TYPE_CHECKING:
    from examples.simulator.machine import Machine

HANGS = 3600.0
"""Simulated seconds after which somebody kills what hangs, unless the fault says otherwise."""
KILLED, UNWRITABLE = 137, 23
_WRITES = ("lab build", "apt-get update", "apt-get install", "hero_proc secret set")


async def spoilt(machine: "Machine", name: str, arguments: list[bytes]) -> Outcome | None:
    """How the command ends; None when it runs as ever."""
    words = [argument.decode("utf-8", "replace") for argument in arguments[:2]]
    command = " ".join([name, *words])
    if machine.faults.take("machine", command, ("cut_mid_command",), machine.name):
        machine.around.cut(machine)
    if fault := machine.faults.take("machine", command, ("hangs",), machine.name):
        clock = machine.around.realm.clock
        limit = clock.now() + float(fault.options.get("seconds", HANGS))
        await clock.sleep_until(limit if fault.until is None else min(limit, fault.until))
        return failed("Killed", KILLED)
    if machine.faults.take("machine", command, ("command_fails",), machine.name):
        return failed(f"{name}: internal error")
    if not is_full(machine):
        return None
    if command.startswith(_WRITES):
        return failed(f"{name}: No space left on device")
    return failed("curl: (23) No space left on device", UNWRITABLE) if name == "curl" and b"-o" in arguments else None


def is_full(machine: "Machine") -> bool:
    """Whether no file can be written."""
    return machine.faults.active("machine", "files", ("disk_full",), machine.name) is not None
