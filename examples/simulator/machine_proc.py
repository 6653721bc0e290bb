"""hero_proc, supervisor and secret store. Values are kept byte for byte. The flags of `list` and the outputs are
assumptions (A).
"""

import json
from typing import TYPE_CHECKING

from examples.simulator import machine_lab
from examples.simulator.catalogue import SUPERVISOR
from examples.simulator.outcome import Outcome, failed, said

if TYPE_CHECKING:
    from examples.simulator.machine import Machine

_READING = (["service", "list"], ["secret", "get"], ["secret", "list"])


def describe(words: list[str]) -> tuple[str, bool]:
    """The command without a secret's value, and whether it changes anything."""
    shown = words
    if words[:2] == ["secret", "set"]:
        shown = words[:-1]
    return " ".join([SUPERVISOR, *shown]), words[:2] not in _READING and words != ["--version"]


async def run(machine: "Machine", arguments: list[bytes]) -> Outcome:
    if not machine.state.supervisor:
        return failed("error: supervisor not running")
    words = [argument.decode("utf-8", "surrogateescape") for argument in arguments]
    match words[:2]:
        case ["service", verb]:
            return await _service(machine, verb, words[2:])
        case ["secret", verb]:
            return _secret(machine, verb, words[2:], arguments)
        case _:
            return failed("usage: hero_proc service|secret …", 2)


# -- services


async def _service(machine: "Machine", verb: str, words: list[str]) -> Outcome:
    if verb == "list":
        return _listed(machine, "--json" in words)
    if len(words) != 1:
        return failed(f"usage: hero_proc service {verb} <name>", 2)
    name = words[0]
    if verb == "start":
        return await machine_lab.start(machine, name)
    if verb == "stop":
        return await machine_lab.stop(machine, name)
    if verb != "restart":
        return failed(f"error: unknown command {verb!r}", 2)
    service = machine.state.services.get(name)
    if service is None:
        return failed(f"error: no such service: {name}")
    return await machine_lab.bring_up(machine, name, service, 1, 4)


def _listed(machine: "Machine", as_json: bool) -> Outcome:
    rows: list[dict[str, object]] = [{"name": SUPERVISOR, "state": "running", "pid": 1}]
    rows += [{"name": name, "state": row.state, "pid": row.pid} for name, row in sorted(machine.state.services.items())]
    if as_json:
        return said(json.dumps(rows) + "\n")
    return said("".join(f"{row['name']}\t{row['state']}\n" for row in rows))


# -- secrets


def _secret(machine: "Machine", verb: str, words: list[str], arguments: list[bytes]) -> Outcome:
    parsed = _context(words)
    if parsed is None:
        return failed("error: --context is required", 2)
    context, rest = parsed
    unreachable = ("secret_store_unreachable",)
    if fault := machine.faults.take("machine", f"secret {verb}", unreachable, f"{machine.name}/{context}"):
        return failed("error: the secret store does not answer", int(fault.options.get("code", 69)))
    held = machine.state.secrets.get(context, {})
    match verb, rest:
        case "set", [key, _]:
            trimmed = machine.faults.take("machine", "secret set", ("secret_trimmed",), key)
            machine.set_secret(context, key, arguments[-1].rstrip(b"\n") if trimmed else arguments[-1])
            return Outcome()
        case "get", [key]:
            return _got(machine, held.get(key), key)
        case "list", []:
            return said("".join(f"{key}\n" for key in sorted(held)))
        case "delete", [key]:
            machine.set_secret(context, key, None)
            return Outcome()
        case _:
            return failed(f"usage: hero_proc secret {verb} --context <context> …", 2)


def _got(machine: "Machine", value: bytes | None, key: str) -> Outcome:
    """Exactly the stored bytes. With the fault of lessons 29 and 30 it reads as empty though it is there."""
    if value is None:
        return failed(f"error: no secret {key}")
    if machine.faults.take("machine", "secret get", ("secret_reads_empty",), key):
        return Outcome()
    return Outcome(out=value)


def _context(words: list[str]) -> tuple[str, list[str]] | None:
    """The context and the other words; flags stand before the key, a value may look like a flag."""
    context, rest = None, list(words)
    while rest and rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag == "--context" and rest:
            context = rest.pop(0)
        elif flag.startswith("--context="):
            context = flag.partition("=")[2]
        elif flag == "--":
            break
        elif flag != "--quiet":
            return None
    return (context, rest) if context else None
