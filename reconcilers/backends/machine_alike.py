"""Looks that are alike: their script, made once for all machines of which the same is asked; and what tells two answers apart.

Testers' questions differ in their public names and addresses only, and making the script takes longer than sending it. So it
is made for stand-ins, and these are replaced.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256

from reconcilers.backends.machine import HOSTS_STAND_IN, Question, Shape, stand_in
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_look import look_script
from reconcilers.backends.machine_shell import Ran

MOST_HOSTS = 9
HOSTS = tuple(map(stand_in, range(MOST_HOSTS)))
ADDRESS, NONCE = "a7d3e5f9", "@9f5e3d7a"  # stand-ins: an address has hexadecimal digits
PLAIN = re.compile(r"[A-Za-z0-9.:-]+")  # nothing in it means anything to a shell
STAND_INS = re.compile(f"({HOSTS_STAND_IN.replace('.', '[.]').format('[0-9]+')}|{ADDRESS}|{NONCE})")
PASSING = {
    word: re.compile(rb"%s(?<=[?&]%s)[^&\s]+" % (word, word)) for word in (b"state=", b"nonce=", b"code_challenge=")
}
"""Parts of a redirect to the sign-in that are drawn anew for each stranger, and prove nothing."""


def script_of(dialect: MachineDialect, address: str, question: Question, nonce: str) -> bytes:
    """As `look_script`."""
    hosts = question.hosts
    if len(hosts) > MOST_HOSTS or not all(map(PLAIN.fullmatch, (address, *hosts))):
        return look_script(dialect, address, question.query, nonce)
    told = {ADDRESS: address, NONCE: nonce, **dict(zip(HOSTS, hosts, strict=False))}
    pieces, stand_ins = _template(dialect, question.shape)
    filled = list(pieces)
    filled[1::2] = [told[each] for each in stand_ins]
    return "".join(filled).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=64)
def _template(dialect: MachineDialect, shape: Shape) -> tuple[list[str], list[str]]:
    """The script in pieces, and every other of them once more: these are stand-ins."""
    text = look_script(dialect, ADDRESS, shape.query, NONCE).decode("utf-8", "surrogateescape")
    pieces = STAND_INS.split(text)
    return pieces, pieces[1::2]


def answer_digest(ran: Ran, nonce: str) -> bytes:
    """What stands for a whole answer, to be shown to nobody: there are secrets in it. b"" for one that is not whole."""
    mark = nonce.encode()
    if ran.rc != 0 or not ran.out.endswith(b"\n" + mark + b" end\n"):
        return b""
    said = without_passing(ran.out.replace(mark, b"@"))
    return sha256(said + ran.host_key.encode()).digest()


def without_passing(said: bytes) -> bytes:
    """What lasts of what was said."""
    for word, parameter in PASSING.items():
        if word in said:
            said = parameter.sub(word + b"*", said)
    return said
