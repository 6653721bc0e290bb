"""What an unquoted word of YAML means here.

YAML 1.1 and 1.2 disagree about `no`, `0001`, `1.10` or `12:30`. Where they do, or where digits would be lost, we take
neither side: the word becomes a `Plain`, which no field accepts, and the error asks for quotes.
"""

import re
from dataclasses import dataclass
from typing import Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_OLD_TRUTH: Final = frozenset({"yes", "no", "on", "off", "y", "n"})
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER_LIKE = re.compile(
    r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
    r"|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)


@dataclass(frozen=True, slots=True)
class Plain:
    """An unquoted word that different YAML readers take for different things."""

    text: str
    """As it is written."""
    reading: str
    """What a YAML reader may take it for: `a number` or `true or false`."""

    def __str__(self) -> str:
        return self.text


def meaning(word: str) -> str | int | bool | Plain | None:
    """The value of an unquoted word."""
    if word in _NULL:
        return None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    if word.lower() in _OLD_TRUTH:
        return Plain(word, "true or false")
    if _WHOLE.fullmatch(word) and word != "-0":
        return int(word)
    return Plain(word, "a number") if _NUMBER_LIKE.fullmatch(word) else word
