"""What servers say, without what they were told in confidence (law 10): many repeat what they refuse, and their words end up in
errors, conditions, events and logs. The one function for all of them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape

from reconcilers.secret import HIDDEN, Secret

SHORTEST = 4  # characters: what is shorter protects nothing, and would garble every sentence
SHORTEST_PART = 12  # characters of one word of a secret that has several; a one-time password has twice as many
SHORTEST_CUT = 8  # characters of the beginning of one that was cut off
LONGEST_CUT = 128  # characters of a secret of which the beginning alone is looked for

_GAP = r"(?:\s|\\+[nrt]|\+|%20|%0[aAdD])+"
"""What stands for the space between two words, a line's end among it."""


_PLAIN = re.compile(r"[A-Za-z0-9]+")
_CONFIDENTIAL = r"[A-Z][A-Z0-9_]*(?:KEY|TOKENS?|SECRETS?|PASSWORD|PASSWD|PASSPHRASE)(?:_\d+)?"
_VALUE = r"""\{.*\}|"(?:[^"\\]|\\.)*"?|'[^']*'?|\S+"""
_NAMED = re.compile(rf"""(\b{_CONFIDENTIAL}"?[ \t]?[=:][ \t]?)(?:{_VALUE})""")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def unnamed(text: str) -> str:
    """Without private keys, and without what a variable holds whose name says that it is confidential: a program that prints its
    environment tells what only the machine knows, such as a tester's own provider key."""
    return _NAMED.sub(rf"\1{HIDDEN}", _PRIVATE_KEY.sub(HIDDEN, text))


def without(text: str, secrets: Iterable[Secret | str]) -> str:
    """The text on one line and without the secrets, be they written as JSON (in JSON), HTML, addresses or mail write them, be it
    a line of a key, or the first half of a secret that was cut off. To be asked before anything more is cut off."""
    said = " ".join(text.split())
    parts = {part for secret in secrets for part in _parts(secret)}
    for part in sorted(parts, key=lambda part: (-len(part), part)):
        if _plainest(part) in said:
            said = re.sub(_pattern(part), HIDDEN, said)
    return said


def _parts(secret: Secret | str) -> Iterator[str]:
    value = secret if isinstance(secret, str) else secret.reveal().decode("utf-8", "replace")
    words = value.split()
    whole = " ".join(words)
    if len(whole) >= SHORTEST:
        yield whole
        yield b64encode(value.strip().encode()).decode().rstrip("=")
    for word in words:
        yield from (part for part in (word, word.strip(".,;:!?()<>\"'")) if len(part) >= SHORTEST_PART)


def _needed(part: str) -> int:
    """How many characters of its beginning must be there: all of what is short, and of what is too long to be cut off."""
    half = max(SHORTEST_CUT, len(part) // 2)
    return len(part) if len(part) > LONGEST_CUT else min(half, len(part))


def _plainest(part: str) -> str:
    """The longest piece of what must be there that nobody writes otherwise (`_letter`): without it the rest need not be looked
    for, and a pattern for it, which takes a hundred times longer to make than to use, need not be made."""
    return max(_PLAIN.findall(part[: _needed(part)]), key=len, default="")


def _pattern(part: str) -> str:
    letters = [_letter(one) for one in part]
    needed = _needed(part)
    if needed == len(part):
        return "".join(letters)
    rest = ""
    for letter in reversed(letters[needed:]):
        rest = f"(?:{letter}{rest})?"
    return "".join(letters[:needed]) + rest


def _letter(one: str) -> str:
    """As it is, or as it is written where it would mean something else; JSON in JSON has any number of backslashes."""
    if one == " ":
        return _GAP
    if one.isascii() and one.isalnum():
        return one
    percent = "".join(f"%{byte:02x}" for byte in one.encode())
    others = (f"u{ord(one):04x}", percent, f"={ord(one):02x}", f"&#{ord(one)};", f"&#x{ord(one):x};", escape(one))
    return rf"\\*(?:{re.escape(one)}|(?i:{'|'.join(map(re.escape, others))}))"
