"""The script of a look, made once for all machines of which the same is asked; and what tells two answers apart.

Testers' questions differ in their public names and addresses only, and making the script takes longer than sending it. So it
is made for stand-ins, and these are replaced.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b

from reconcilers.backends.machine import MachineQuery
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_look import look_script
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.probes import Probe

MOST_HOSTS = 9
ADDRESS, NONCE = "a7d3e5f9", "@9f5e3d7a"  # stand-ins: an address has hexadecimal digits
PLAIN = re.compile(r"[A-Za-z0-9.:-]+")  # nothing in it means anything to a shell
PASSING = re.compile(rb"[?&](?:state|nonce|code_challenge)=[^&\s]+")
"""Parts of a redirect to the sign-in that are drawn anew for each stranger, and prove nothing."""
_KEY = secrets.token_bytes(16)


def script_of(dialect: MachineDialect, address: str, query: MachineQuery, nonce: str) -> bytes:
    """As `look_script`."""
    shape, hosts = shape_of(query)
    plain = all(map(PLAIN.fullmatch, (address, *hosts)))
    if not plain or len(hosts) > MOST_HOSTS:
        return look_script(dialect, address, query, nonce)
    text = _template(dialect, shape)
    for number, host in enumerate(hosts):
        text = text.replace(_stand_in(number), host)
    return text.replace(ADDRESS, address).replace(NONCE, nonce).encode("utf-8", "surrogateescape")


def shape_of(query: MachineQuery) -> tuple[MachineQuery, tuple[str, ...]]:
    """The question without its hosts, which come beside it in their order: most testers have the same one."""
    hosts = tuple(sorted({probe.host for probe in query.probes}))
    stand_in = {host: _stand_in(number) for number, host in enumerate(hosts)}
    probes = tuple([Probe(probe.side, stand_in[probe.host], probe.path) for probe in query.probes])
    return replace(query, probes=probes), hosts


def query_of(shape: MachineQuery, hosts: tuple[str, ...]) -> MachineQuery:
    """The other way round."""
    host_of = {_stand_in(number): host for number, host in enumerate(hosts)}
    probes = tuple([Probe(probe.side, host_of[probe.host], probe.path) for probe in shape.probes])
    return replace(shape, probes=probes)


def _stand_in(number: int) -> str:
    """In the order of what it stands for, since the script asks in the order of the hosts' names."""
    return f"h{number}-b8e4c6a2.invalid"


@lru_cache(maxsize=64)
def _template(dialect: MachineDialect, shape: MachineQuery) -> str:
    return look_script(dialect, ADDRESS, shape, NONCE).decode("utf-8", "surrogateescape")


def answer_digest(ran: Ran, nonce: str) -> bytes:
    """What stands for a whole answer; b"" for one that is not whole."""
    mark = nonce.encode()
    if ran.rc != 0 or not ran.out.endswith(b"\n" + mark + b" end\n"):
        return b""
    said = PASSING.sub(b"&*", ran.out.replace(mark, b"@"))
    return blake2b(said + ran.host_key.encode(), key=_KEY, digest_size=16).digest()
