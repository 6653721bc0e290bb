"""The same no-op check by Ansible and by pyinfra: every version, service and setting compared with what is expected.

Each in both ways: a task (a fact) for each check, and one for all checks. Ansible as quick as it can be told to be: raw, so
that no module travels; pipelining; ControlPersist, with connections open since a run before that is not counted; no facts;
50 forks. Its OpenSSH masters, which outlive a run, are not counted either. pyinfra opens its connections anew in each run: it
cannot keep them. CPU is that of the whole tree of the client's processes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench.loopback import Loopback, address, ssh_words
from tests.bench.report import PEERS

CONFIG = """\
[defaults]
forks = 50
gathering = explicit
host_key_checking = False
stdout_callback = minimal
display_ok_hosts = False
interpreter_python = /usr/bin/python3
retry_files_enabled = False
[ssh_connection]
pipelining = True
control_path_dir = {root}/cp
ssh_args = -o ControlMaster=auto -o ControlPersist=600s {words}
"""


@dataclass(frozen=True)
class Check:
    """A command, and what it is to print."""

    command: str
    expected: str


def checks_of(versions: Sequence[str], services: Sequence[str], settings: Sequence[str]) -> list[Check]:
    """One for each version, service and setting."""
    return [
        *(Check(f"hero/bin/{each} --version", f"{each} 1.2.3") for each in versions),
        *(Check(f"hero/bin/hero_proc service status {each}", f"{each} running") for each in services),
        *(Check(f"hero/bin/hero_proc secret get --context core {each}", f"value of {each}") for each in settings),
    ]


def all_in_one(checks: Sequence[Check]) -> Check:
    return Check("; ".join(each.command for each in checks), "\n".join(each.expected for each in checks))


def told_by(checks: Sequence[Check]) -> dict[str, str]:
    """What the machine prints, by command."""
    whole = all_in_one(checks)
    return {whole.command: whole.expected, **{each.command: each.expected for each in checks}}


class Ansible:
    """ansible-playbook, with whatever makes it quick."""

    def __init__(self, server: Loopback, root: Path, number: int) -> None:
        self.root = root
        root.mkdir()
        words = " ".join(ssh_words(server))
        (root / "ansible.cfg").write_text(CONFIG.format(root=root, words=words))
        rows = [f"m{each} ansible_host={address(each)}" for each in range(number)]
        common = {"port": server.port, "user": server.user, "ssh_private_key_file": server.key}
        rows += ["[all:vars]", *(f"ansible_{name}={value}" for name, value in common.items()), ""]
        (root / "hosts").write_text("\n".join(rows))

    def cpu(self, checks: Sequence[Check]) -> float:
        """CPU seconds of one run. Raises RuntimeError when it does not find everything as it should be."""
        tasks = [_task(each) for each in checks]
        playbook = self.root / "check.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return _cpu_of([str(PEERS / "bin/ansible-playbook"), "-i", "hosts", playbook.name], self.root, {})

    def close(self) -> None:
        """End the masters."""
        for path in (self.root / "cp").glob("*"):
            subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "none"], capture_output=True, check=False)


def _task(check: Check) -> dict[str, Any]:
    """A raw command has a terminal, and its lines another end."""
    compared = {"changed_when": False, "failed_when": "told.stdout_lines != expected"}
    return {"raw": check.command, "register": "told", **compared, "vars": {"expected": check.expected.splitlines()}}


class Pyinfra:
    """pyinfra, with a fact for each check."""

    def __init__(self, server: Loopback, root: Path, number: int) -> None:
        self.root = root
        root.mkdir()
        common = {
            "ssh_port": server.port,
            "ssh_user": server.user,
            "ssh_key": str(server.key),
            "ssh_strict_host_key_checking": "off",
            "ssh_known_hosts_file": "/dev/null",
            "ssh_config_file": "/dev/null",
        }
        hosts = [(address(each), common) for each in range(number)]
        (root / "inventory.py").write_text(f"hosts = {hosts!r}\n")

    def cpu(self, checks: Sequence[Check]) -> float:
        """CPU seconds of one run. Raises RuntimeError when it does not find everything as it should be."""
        told = self.root / "checks.json"
        told.write_text(json.dumps([(each.command, each.expected) for each in checks]))
        deploy = Path(__file__).with_name("peers") / "pyinfra_check.py"
        words = [str(PEERS / "bin/pyinfra"), "-y", "--parallel", "50", "inventory.py", str(deploy)]
        return _cpu_of(words, self.root, {"BENCH_CHECKS": str(told)})


def _cpu_of(words: Sequence[str], folder: Path, more: dict[str, str]) -> float:
    """CPU seconds of a program and of all that it started and waited for."""
    before = _children()
    paths = f"{PEERS / 'bin'}{os.pathsep}{os.environ['PATH']}"
    known = {
        "PATH": paths,
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        **more,
    }
    done = subprocess.run(words, cwd=folder, env=known, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed ({done.returncode}): {(done.stdout + done.stderr)[-2000:]}")
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
