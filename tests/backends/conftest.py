"""A machine without a network: our scripts run in a real /bin/sh, in a home directory of its own, with small stand-ins."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Ran

HOST_KEY = "ssh-ed25519 AAAAhost"
ADDRESS = MachineAddress("compute1/0001", "400:1::1")
TOOLS = [
    "cat",
    "mkdir",
    "mv",
    "rm",
    "chmod",
    "sleep",
    "flock",
    "setsid",
    "nohup",
    "tail",
    "head",
    "ls",
    "date",
    "timeout",
    "sed",
    "grep",
    "wc",
    "tr",
    "cut",
    "id",
    "true",
    "false",
    "touch",
    "cksum",
    "ps",
    "yes",
]

HERO_PROC = r"""#!/bin/sh
[ "$1" = --version ] && { echo "hero_proc v1.0.0"; exit 0; }
[ -e "$HOME/up" ] || { echo "supervisor not running" >&2; exit 1; }
echo "$$ $1 $2" >>"$HOME/asked"
place() { printf '%s' "$1" | cksum | tr -d ' '; }
case "$1 $2" in
"service list")
  sep='['
  for file in "$HOME"/services/*; do
    [ -e "$file" ] || continue
    printf '%s{"name":"%s","state":"%s","pid":1}' "$sep" "${file##*/}" "$(cat "$file")"; sep=,
  done
  [ "$sep" = '[' ] && printf '['
  echo ']' ;;
"service restart") echo "restart $3" >>"$HOME/calls"
  [ ! -e "$HOME/fail.$3" ] || { echo "cannot $3" >&2; cat "$HOME/fail.$3" >&2; exit 3; }
  [ -e "$HOME/services/$3" ] || exit 1; echo running >"$HOME/services/$3" ;;
"service stop") echo "stop $3" >>"$HOME/calls"; echo stopped >"$HOME/services/$3" ;;
"secret set") dir="$HOME/store/$(place "$5")"; mkdir -p "$dir"; file=$(place "$6")
  [ ! -e "$HOME/refuse" ] || { echo "cannot store '$7' there" >&2; exit 4; }
  [ ! -e "$HOME/mangle" ] || set -- 1 2 3 4 5 "$6" "mangled"
  printf '%s' "$7" >"$dir/$file"; printf '%s' "$6" >"$dir/$file.name" ;;
"secret get") file="$HOME/store/$(place "$4")/$(place "$5")"
  if [ -e "$HOME/hang" ]; then while [ -e "$HOME/hang" ]; do sleep 0.05; done; exit 1; fi
  [ -e "$file" ] || exit 1; cat "$file" ;;
"secret list") for file in "$HOME/store/$(place "$4")"/*.name; do [ ! -e "$file" ] || { cat "$file"; echo; }; done ;;
"secret delete") dir="$HOME/store/$(place "$4")"; file=$(place "$5"); rm -f "$dir/$file" "$dir/$file.name" ;;
*) exit 2 ;;
esac
"""

LAB = r"""#!/bin/sh
echo "lab $*" >>"$HOME/calls"
bin="$HOME/hero/bin"
case "$1" in
build) name=$2; version=$(cat "$HOME/release" 2>/dev/null || echo v1.0.0); [ "$5" != --version ] || version=$6
  echo "building $name"
  while [ -e "$HOME/hold.$name" ]; do sleep 0.05; done
  [ ! -e "$HOME/fail.$name" ] || { echo "no such release of $name" >&2; exit 7; }
  if [ "$name" = hero_proc ]; then cp_from="$HOME/stand-ins/hero_proc"; sed "s/v1.0.0/$version/" "$cp_from" >"$bin/hero_proc"
  else printf '#!/bin/sh\n[ "$1" = --version ] && echo "%s %s"\n' "$name" "$version" >"$bin/$name"; fi
  chmod +x "$bin/$name" ;;
service) mkdir -p "$HOME/services"
  if [ "$2" = hero_proc ]; then
    if [ "$3" = start ]; then touch "$HOME/up"; (sleep 30; echo late) & echo $! >>"$HOME/pids"; else rm -f "$HOME/up"; fi
  else case $3 in start) echo running >"$HOME/services/$2" ;; stop) echo stopped >"$HOME/services/$2" ;; esac; fi ;;
uninstall) rm -f "$bin/$2" ;;
esac
"""

CURL = r"""#!/bin/sh
echo curl >>"$HOME/curls"
out=; socket=; urls=; host=
while [ $# -gt 0 ]; do
  case $1 in
  -o) out=$2; shift ;;
  --unix-socket) socket=$2; shift ;;
  -H) case $2 in Host:*) host=${2#Host: } ;; esac; shift ;;
  -w|--max-time|-X|--data-binary) shift ;;
  -*) ;;
  *) urls="$urls $1" ;;
  esac
  shift
done
if [ -n "$socket" ]; then cat >"$HOME/rpc"
  [ ! -e "$HOME/silent" ] || exit "$(cat "$HOME/silent")"
  [ -e "$HOME/door" ] || exit 7; cat "$HOME/door"; exit 0; fi
for url in $urls; do
  case $url in
  *lab-linux*) cat "$HOME/stand-ins/lab" >"$out" ;;
  *) line=$(grep -F "$host|$url|" "$HOME/answers" 2>/dev/null); line=${line##*|}; echo "${line:-000 }" ;;
  esac
done
"""

APT = r"""#!/bin/sh
echo "apt-get $*" >>"$HOME/calls"
case $1 in install) cat "$HOME/stand-ins/curl" >"$HOME/sim/curl"; chmod +x "$HOME/sim/curl" ;; esac
"""


@dataclass
class Home:
    """A machine's home directory, and the shell that our scripts run in. Implements `machine_shell.Shell`."""

    path: Path
    shell: str
    tools: Path
    scripts: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.path), "PATH": f"{self.path}/hero/bin:{self.path}/sim:{self.tools}", "LC_ALL": "C"}

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        self.scripts.append(script)
        process = await asyncio.create_subprocess_exec(
            f"{self.tools}/timeout",
            *("-k", "5", "30", "sh"),
            env=self.environment,
            cwd=self.path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(script)
        self.outputs.append(out)
        return Ran(process.returncode or 0, out, err, HOST_KEY)

    async def forget(self, key: str) -> None: ...

    async def aclose(self) -> None: ...

    def place(self, name: str, text: str) -> None:
        """A stand-in of that name on the machine's PATH."""
        where = self.path / name
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        where.chmod(0o755)

    def touch(self, name: str, text: str = "") -> None:
        (self.path / name).write_text(text)

    def read(self, name: str) -> str:
        where = self.path / name
        return where.read_text() if where.exists() else ""

    def furnish(self) -> None:
        """Everything installed and the supervisor up."""
        self.place("hero/bin/hero_proc", HERO_PROC)
        self.place("hero/bin/lab", LAB)
        self.place("sim/curl", CURL)
        self.touch("up")

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.path / name).stat().st_mode)


@pytest.fixture(params=["dash", "busybox"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """A bare machine, once with dash and the usual tools, once with as much of busybox as there is."""
    tools, path = tmp_path / "tools", tmp_path / "home with 'quote"
    tools.mkdir()
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"{request.param} is not installed")
    (tools / "sh").symlink_to(shell)
    listed = subprocess.run([shell, "--list"], capture_output=True, text=True).stdout.split()
    for name in TOOLS:
        # Its `timeout` looks once a second only whether its child has ended, which is right and slow.
        real = shell if request.param == "busybox" and name in listed and name != "timeout" else shutil.which(name)
        if real is None:
            pytest.skip(f"{name} is not there: apt-get install procps util-linux coreutils")
        (tools / name).symlink_to(real)
    here = Home(path, request.param, tools)
    here.place("sim/apt-get", APT)
    for name, text in (("hero_proc", HERO_PROC), ("lab", LAB), ("curl", CURL)):
        here.place(f"stand-ins/{name}", text)
    (path / "hero/bin").mkdir(parents=True)
    (path / "services").mkdir()
    yield here
    for pid in here.read("pids").split():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            continue


@pytest.fixture
def furnished(home: Home) -> Home:
    home.furnish()
    return home


@pytest.fixture
def machines(home: Home) -> ShellMachines:
    return ShellMachines(home)


async def _until(condition: Callable[[], Awaitable[bool]], limit: float = 60.0) -> None:
    async with asyncio.timeout(limit):
        while not await condition():  # noqa: ASYNC110 - what we wait for happens in another process
            await asyncio.sleep(0.1)  # a look costs more than a moment


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits until a condition holds; fails after a generous limit."""
    return _until


@pytest.fixture
def address() -> MachineAddress:
    return ADDRESS
