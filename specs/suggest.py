"""`did you mean …?` for misspelt fields and values."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_LISTED: Final = 12


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is probably meant; case does not count."""
    by_fold = {each.casefold(): each for each in known}
    found = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or all of them when there are few."""
    words = list(known)
    near = nearest(word, words)
    if near is not None:
        return f"did you mean {near}?"
    if not words:
        return "none is known"
    shown = ", ".join(words[:_LISTED])
    return f"known are: {shown}, …" if len(words) > _LISTED else f"known are: {shown}"
