"""Looks for secrets in bytes: in all their spellings, all at once, in time that hardly depends on how many there are.

    leaks({"Forge's token": b"…"}, {"log": b"…", "controller.db": b"…"}) == ["Forge's token in log"]

What was cut off counts as well: the first or the last half of a secret is as good as found. A secret is looked for as it is, in
hexadecimal, in base64 wherever in the coded text it may begin, and as addresses, JSON and HTML write any of its characters.

Places are first reduced to the different words in them (`_words`): a database's file says the same thousands of times.
"""

from __future__ import annotations

import re
import string
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from html import unescape
from urllib.parse import unquote

SHORTEST = 8
"""Bytes of the least part that counts: what is shorter stands in innocent words too."""
_MADE_OF = frozenset(b"%+/=_.!*&#;~@$^|?<>\\-" + string.ascii_letters.encode() + string.digits.encode())
_GAPS = bytes(each if each in _MADE_OF else ord(" ") for each in range(256))
"""What a secret in any spelling is made of, as it is; a gap for everything else."""
_BLOCK = 412
"""Bytes: a tenth of a frame of SQLite's log, so that a page's second writing falls into the same blocks as its first."""
LONGEST = 160
"""Bytes of the longest spelling of a part that is looked for."""
_LINE = 16
"""Bytes of the least line of a secret that has several."""
_IN_JSON = re.compile(r"\\+u([0-9a-fA-F]{4})")
DEEP = 3
"""How many spellings may lie in each other: an address in JSON on a page."""


def leaks(secrets: Mapping[str, bytes], places: Mapping[str, bytes]) -> list[str]:
    """`<secret> in <place>` for every secret that stands somewhere, by name; never the secret itself."""
    whole = _words(places.values())
    suspects = {name: value for name, value in secrets.items() if _stands_in(value, whole)}
    return sorted(
        f"{name} in {place}"
        for place, text in (places.items() if suspects else ())
        for words in (_words((text,)),)
        for name, value in suspects.items()
        if _stands_in(value, words)
    )


def _stands_in(secret: bytes, words: bytes) -> bool:
    return any(spelling in words for spelling in _spellings(secret))


@lru_cache(maxsize=1024)
def _spellings(secret: bytes) -> tuple[bytes, ...]:
    """What of a secret may stand nowhere: the first half and the last, however written; characters that are written otherwise
    were read before (`_read`). Of a private key each line as it is: they are base64 already."""
    if secret.count(b"\n"):
        lines = [line for line in secret.split() if len(line) >= _LINE]
        return tuple(half for line in lines for half in ((line,) if _is_public(line) else _halves(line)))
    found = (each for half in _halves(secret.strip()) for each in (half, half.hex().encode(), *_in_base64(half)))
    return tuple({each[:LONGEST] for each in found if len(each) >= SHORTEST})


def _is_public(line: bytes) -> bool:
    """Whether it is the end of an OpenSSH key: there the public key stands once more, without a comment, and the padding."""
    return line.endswith(b"AAAAAECAwQF")


def _halves(text: bytes) -> set[bytes]:
    half = max(SHORTEST, (len(text) + 1) // 2)
    return {text[:half], text[-half:]}


def _in_base64(part: bytes) -> Iterator[bytes]:
    """What it becomes wherever in a longer text it begins: without the characters that its neighbours decide too."""
    for before in range(3):
        begins, ends = -(-before * 4 // 3), (before + len(part)) // 3 * 4
        for code in (b64encode, urlsafe_b64encode):
            yield code(b"\0" * before + part)[begins:ends]


def _words(texts: Iterable[bytes]) -> bytes:
    """The different words of all texts. A page of a database that was written again differs in few places: what it had before at
    the same place is not looked through again."""
    different: set[bytes] = set()
    for text in texts:
        blocks = {text[at : at + _BLOCK + LONGEST] for at in range(0, len(text), _BLOCK)}
        words = set(b" ".join(blocks).translate(_GAPS).split())
        different.update(word for word in words if len(word) >= SHORTEST)
    return b"\n".join(different | {_read(word) for word in different if b"%" in word or b"\\" in word or b"&" in word})


def _read(word: bytes) -> bytes:
    """With its characters as they are, however addresses, JSON and HTML write them."""
    text = word.decode("latin-1")
    for _ in range(DEEP):
        plain = unquote(unescape(_IN_JSON.sub(lambda found: chr(int(found[1], 16)), text)), "latin-1").replace("\\", "")
        if plain == text:
            break
        text = plain
    return text.encode("utf-8", "replace")
