"""Many machines on loopback behind one real OpenSSH server: 127.0.1.1, 127.0.1.2 and so on, each with answers of its own.

What a machine would run is not run: a small shell script stands for it, whoever asks, and tells what it would have told. So a
check costs the client what it always does, and the far side as little as can be, and the same for all. For our shell that
stays (`machine_channels`) a small program stands, which stays as well.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = """\
Port {port}
ListenAddress 0.0.0.0
HostKey {root}/host_key
PidFile none
AuthorizedKeysFile {root}/key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
LogLevel ERROR
MaxStartups 2000
MaxSessions 200
PerSourceMaxStartups none
SetEnv SHLVL=9 HOME={root}
ForceCommand exec /bin/sh {root}/machine
"""
"""SHLVL and HOME keep a login shell from reading the files of whoever runs this."""
MACHINE = """\
set -- $SSH_CONNECTION
case $SSH_ORIGINAL_COMMAND in
*"done'") exec {python} -I -S {root}/staying {root}/answers/$3.plain ;;
*' sh')  # a script comes in: all that is needed of it is the word by which it knows its answers
  while IFS= read -r row; do case $row in N=*) N=${{row#N=}}; break ;; esac; done
  . {root}/answers/$3 ;;
*) . {root}/commands ;;
esac
"""
STAYING = """\
import sys
told = open(sys.argv[1], "rb").read()
for row in sys.stdin.buffer:
    if row.startswith(b"@"):
        word = row[:-1]
    elif row.startswith(b"N="):
        mark = row[2:-1]
    elif row == b"exit\\n":
        sys.stdout.buffer.write(told.replace(b"@@", mark) + b"\\n" + word + b" 0\\n")
        sys.stdout.buffer.flush()
"""
"""Takes each script to its end, and tells it what it asks."""


@dataclass(frozen=True)
class Loopback:
    """A server with its keys. `user`: who we are there, the one who runs this."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        return self.root / "key"

    @property
    def host_key(self) -> str:
        return " ".join((self.root / "host_key.pub").read_text().split()[:2])

    @property
    def user(self) -> str:
        return pwd.getpwuid(os.getuid()).pw_name

    def answers(self, number: int, told: bytes, mark: bytes) -> None:
        """What a machine prints when it is given a script; `mark` stands for the script's own word."""
        text = told
        for special in (b"\\", b'"', b"$", b"`"):
            text = text.replace(special, b"\\" + special)
        whole = b"printf '%s' \"" + text.replace(mark, b"$N") + b'"\n'
        (self.root / "answers" / address(number)).write_bytes(whole)
        (self.root / "answers" / f"{address(number)}.plain").write_bytes(told.replace(mark, b"@@"))

    def commands(self, told: Mapping[str, str], seconds: float = 0.0) -> None:
        """What all machines print when they are given a command, by a part of it, the longest first; and how long it takes."""
        longest = sorted(told, key=len, reverse=True)
        rows = [f"*{_quoted(part)}*) printf '%s\\n' {_quoted(told[part])} ;;" for part in longest]
        wait = f"sleep {seconds}\n" if seconds else ""
        (self.root / "commands").write_text(
            "\n".join([f"{wait}case $SSH_ORIGINAL_COMMAND in", *rows, "*) : ;;", "esac", ""])
        )


def address(number: int) -> str:
    """Where a machine is, from 0 on."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


@contextmanager
def loopback(root: Path) -> Iterator[Loopback]:
    """Raises FileNotFoundError when OpenSSH is not there."""
    program = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if program is None:
        raise FileNotFoundError("sshd is not there: apt-get install openssh-server")
    (root / "answers").mkdir(parents=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the server wants to be shut in
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    port = _free_port()
    (root / "sshd.conf").write_text(SSHD.format(port=port, root=root))
    (root / "machine").write_text(MACHINE.format(root=root, python=sys.executable))
    (root / "staying").write_text(STAYING)
    (root / "commands").write_text("")
    process = subprocess.Popen([program, "-D", "-e", "-f", root / "sshd.conf"], stderr=(root / "sshd.log").open("wb"))
    try:
        _wait_for(port, process)
        yield Loopback(root, port, process)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], limit: float = 30.0) -> None:
    until = time.monotonic() + limit
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("sshd does not begin to listen")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def ssh_words(server: Loopback) -> Sequence[str]:
    """For a client that uses OpenSSH's own."""
    return (
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-F",
        "none",
    )
