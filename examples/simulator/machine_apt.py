"""apt-get and dpkg-query of a bare image: no package lists until `apt-get update`, one apt-get at a time."""

from typing import TYPE_CHECKING

from examples.simulator.outcome import Outcome, failed, said
from examples.simulator.standin import STAND_IN

if TYPE_CHECKING:
    from examples.simulator.machine import Machine

ARCHIVE = {
    "curl": "8.5.0-2ubuntu10.6",
    "ca-certificates": "20240203",
    "jq": "1.7.1-3build1",
    "git": "1:2.43.0-1ubuntu7.3",
}
PREINSTALLED = {"dash": "0.5.12-6ubuntu5", "coreutils": "9.4-3ubuntu6", "util-linux": "2.39.3-9ubuntu6"}
CURL_STAND_IN = "../sim/bin/curl"


async def apt_get(machine: "Machine", words: list[str]) -> Outcome:
    """`update` takes 12 s and `install` 28 s: together the forty seconds of the real thing."""
    verbs = [word for word in words if not word.startswith("-")]
    if not verbs or verbs[0] not in ("update", "install"):
        return failed("E: Invalid operation", 100)
    if machine.apt_is_busy:
        return failed("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 311 (apt-get)", 100)
    machine.apt_is_busy = True
    try:
        return await (_update(machine) if verbs[0] == "update" else _install(machine, verbs[1:]))
    finally:
        machine.apt_is_busy = False


async def _update(machine: "Machine") -> Outcome:
    await machine.takes("apt-get update", 12, 12)
    machine.state.package_lists = True
    return said("Reading package lists... Done\n")


async def _install(machine: "Machine", packages: list[str]) -> Outcome:
    if any(name not in machine.state.packages for name in packages):
        known = ARCHIVE if machine.state.package_lists else {}
        for name in packages:
            if name not in known and name not in PREINSTALLED:
                return failed(f"E: Unable to locate package {name}", 100)
        await machine.takes("apt-get install", 28, 28)
        if machine.faults.take("machine", "apt-get install", ("install_fails",), "apt-get"):
            return failed("E: Failed to fetch http://archive.ubuntu.com/ubuntu/ Connection timed out", 100)
    machine.state.packages.update({name: ARCHIVE[name] for name in packages if name in ARCHIVE})
    if "curl" in packages:
        machine.files.write(CURL_STAND_IN, STAND_IN.encode(), 0o755)
    return said("".join(f"Setting up {name} ...\n" for name in packages))


def dpkg_query(machine: "Machine", words: list[str]) -> Outcome:
    """`-W [-f FORMAT] package…` (also `--show`, `--showformat=`); `-s` names the status."""
    shape, packages, status = "${Package}\t${Version}\n", [], False
    rest = iter(words)
    for word in rest:
        if word in ("-f", "--showformat"):
            shape = next(rest, shape)
        elif word.startswith("--showformat="):
            shape = word.partition("=")[2]
        elif word.startswith("-f"):
            shape = word[2:].removeprefix("=")
        elif word in ("-s", "--status"):
            status = True
        elif not word.startswith("-"):
            packages.append(word)
    if status:
        shape = "Package: ${Package}\nStatus: ${Status}\nVersion: ${Version}\n"
    return _queried({**PREINSTALLED, **machine.state.packages}, packages, shape)


def _queried(installed: dict[str, str], packages: list[str], shape: str) -> Outcome:
    out, err = "", ""
    for name in packages or sorted(installed):
        if name not in installed:
            err += f"dpkg-query: no packages found matching {name}\n"
            continue
        values = {
            "${Package}": name,
            "${binary:Package}": name,
            "${Version}": installed[name],
            "${Status}": "install ok installed",
            "${db:Status-Status}": "installed",
            "${db:Status-Abbrev}": "ii ",
            "\\n": "\n",
            "\\t": "\t",
        }
        line = shape
        for mark, value in values.items():
            line = line.replace(mark, value)
        out += line
    return Outcome(1 if err else 0, out.encode(), err.encode())
