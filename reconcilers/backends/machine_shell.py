"""A shell on a machine, and the frames in which scripts answer through it.

A script prints a frame as a line that begins with a random word which only this call knows, so that whatever a command
prints between two frames, with or without a last newline, is taken byte for byte and can pass for nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol

from reconcilers.backends.machine import MachineAddress

SCRIPT_LIMIT = 150  # seconds that a script may take on the machine; there it is ended, hard after 5 more
ANSWER_LIMIT = SCRIPT_LIMIT + 20.0  # seconds that we wait for it


@dataclass(frozen=True, slots=True)
class Ran:
    """How a script ended: its exit code, what it printed, and the host key of the machine that ran it."""

    rc: int
    out: bytes
    err: bytes
    host_key: str


class Shell(Protocol):
    """Runs a script with /bin/sh on a machine.

    Raises Unreachable, Blocked HostKeyChanged, Transient LoginRefused; and when the connection goes away under a running
    script OutcomeUnknown (writing) or Transient (reading).
    """

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran: ...

    async def forget(self, key: str) -> None: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its words, and everything up to the next one."""

    words: tuple[str, ...]
    body: bytes

    @property
    def kind(self) -> str:
        return self.words[0] if self.words else ""


def new_nonce() -> str:
    """A word that no output contains by chance or by intent."""
    return f"@{secrets.token_hex(16)}"


def frames(out: bytes, nonce: str) -> tuple[Frame, ...] | None:
    """The frames of an answer, without the last, `end`. None when that one is missing: the answer is not whole."""
    pieces = out.split(b"\n" + nonce.encode() + b" ")[1:]
    found = []
    for piece in pieces:
        head, _, body = piece.partition(b"\n")
        found.append(Frame(tuple(head.decode("ascii", "replace").split()), body))
    if not found or found[-1].kind != "end":
        return None
    return tuple(found[:-1])


def whole(body: str, nonce: str) -> bytes:
    """A script that does nothing unless all of it has arrived: a line cut in two must never run.

    `surrogateescape` carries bytes that are not UTF-8 through text unchanged.
    """
    text = f"main() {{\n{PRELUDE}N={nonce}\n{body}\nframe end\n}}\nmain </dev/null\n"
    return text.encode("utf-8", "surrogateescape")


PRELUDE = """\
umask 077
LC_ALL=C; export LC_ALL
D="$HOME/.tester-controller"
frame() { printf '\\n%s %s\\n' "$N" "$*"; }
within() { timeout -k 1 "$@"; }
"""
