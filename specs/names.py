"""Names of things in the outside world, derived from (name, uid, incarnation, attempt) and from nothing else.

A name is unique to a machine, not only to a person: a name left behind by an earlier attempt or incarnation never
blocks the next one. Names are safe everywhere they go, and different inputs give different names, also where a long
name is cut: whenever something is left out, a digest of the whole input takes its place.
"""

import hashlib
import re
import string
from random import Random
from typing import Final

GATEWAY_LIMIT: Final = 36
VM_LIMIT: Final = 36
UID_LENGTH: Final = 6

_ALPHABET: Final = string.ascii_lowercase + string.digits
_DIGEST_LENGTH: Final = 10
_SURELY_TOLD: Final = VM_LIMIT - UID_LENGTH - _DIGEST_LENGTH - 2
"""So much of a tester's name is in every name of its, without hyphens."""

_UID: Final = rf"(?P<uid>[a-z][a-z0-9]{{{UID_LENGTH - 1}}})"
_VM: Final = re.compile(rf"(?P<name>[a-z][a-z0-9]*)_{_UID}_([1-9][0-9]*_[1-9][0-9]*|[a-z0-9]{{{_DIGEST_LENGTH}}})")
_APP: Final = re.compile(rf"Hero OS (?P<name>[a-z][a-z0-9-]*) {_UID}-[1-9][0-9]*-[1-9][0-9]*")


def new_uid(random: Random) -> str:
    """Six of [a-z0-9], a letter first: tells this tester from an earlier one of the same name."""
    return random.choice(string.ascii_lowercase) + "".join(random.choices(_ALPHABET, k=UID_LENGTH - 1))


def vm_name(name: str, uid: str, incarnation: int = 1, attempt: int = 1) -> str:
    """`alice_x7k2p9_1_1`; `^[a-zA-Z0-9_]+$`, at most 36 (P)."""
    _check(uid, incarnation, attempt)
    plain = f"{name}_{uid}_{incarnation}_{attempt}"
    if "-" not in name and len(plain) <= VM_LIMIT:
        return plain
    digest = _digest(name, uid, incarnation, attempt)
    return f"{_slug(name)[: VM_LIMIT - UID_LENGTH - _DIGEST_LENGTH - 2]}_{uid}_{digest}"


def gateway_name(name: str, uid: str, incarnation: int = 1, attempt: int = 1) -> str:
    """`alicex7k2p9` at first, `alicex7k2p9` and a digest for every later one; `[a-z0-9]{3,36}` (P)."""
    _check(uid, incarnation, attempt)
    return _joined(name, uid, incarnation, attempt)


def oauth_app_name(name: str, uid: str, incarnation: int = 1, attempt: int = 1) -> str:
    """`Hero OS alice x7k2p9-1-1`: the tester reads it when signing in."""
    _check(uid, incarnation, attempt)
    return f"Hero OS {name} {uid}-{incarnation}-{attempt}"


def tenant_name(name: str, uid: str, incarnation: int = 1, attempt: int = 1) -> str:
    """The tester's name at the shared engines, in the spelling of a gateway's name."""
    _check(uid, incarnation, attempt)
    return _joined(name, uid, incarnation, attempt)


def bearer_of(name: str) -> tuple[str, str] | None:
    """The tester's name, as far as it is told, and uid in a machine's or an OAuth app's name; None: we give no such name."""
    found = _VM.fullmatch(name) or _APP.fullmatch(name)
    return (found["name"], found["uid"]) if found else None


def is_borne_by(name: str, tester: str, uid: str) -> bool:
    """Whether a gateway's or a tenant's name is one that this tester gets, of whatever incarnation and attempt."""
    told = f"{re.escape(_slug(tester)[:_SURELY_TOLD])}[a-z0-9]*?{re.escape(uid)}"
    return re.fullmatch(f"{told}([a-z0-9]{{{_DIGEST_LENGTH}}})?", name) is not None


def _joined(name: str, uid: str, incarnation: int, attempt: int) -> str:
    plain = f"{name}{uid}"
    if (incarnation, attempt) == (1, 1) and "-" not in name and len(plain) <= GATEWAY_LIMIT:
        return plain
    digest = _digest(name, uid, incarnation, attempt)
    return f"{_slug(name)[: GATEWAY_LIMIT - UID_LENGTH - _DIGEST_LENGTH]}{uid}{digest}"


def _slug(name: str) -> str:
    return name.replace("-", "")


def _digest(name: str, uid: str, incarnation: int, attempt: int) -> str:
    """Ten of [a-z0-9], about 51 bits: two of a million names collide with a chance below one in a thousand."""
    number = int.from_bytes(hashlib.sha256(f"{name}/{uid}/{incarnation}/{attempt}".encode()).digest())
    text = ""
    for _ in range(_DIGEST_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        text += _ALPHABET[index]
    return text


def _check(uid: str, incarnation: int, attempt: int) -> None:
    if len(uid) != UID_LENGTH or uid[0] not in string.ascii_lowercase or not set(uid) <= set(_ALPHABET):
        raise ValueError(f"{uid!r} is not a uid")
    if incarnation < 1 or attempt < 1:
        raise ValueError("incarnation and attempt count from 1")
