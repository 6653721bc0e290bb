"""Long listings that nobody has changed: an answer that is the same to the byte is not read a second time.

It is compared by digest, so that no other side has to know conditional requests. What was made of an answer is handed out again,
the very same values, so that whoever looked something up in them finds it where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

MOST = 2000  # questions: pages of listings
EDGE = 64  # bytes


class Unchanged:
    """By question: the digest of its last answer, and what was made of that."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, object]] = {}

    def made(self, question: str, answer: bytes, make: Callable[[], T]) -> T:
        """What `make` makes of the answer; it always makes the same of the same question. What it raises is not kept."""
        digest = blake2b(answer, digest_size=16).digest()
        known = self._known.get(question)
        if known is not None and known[0] == digest:
            return known[1]  # type: ignore[return-value]
        found = make()
        if len(self._known) >= MOST:
            self._known.clear()  # of pages that there are not any more
        self._known[question] = digest, found
        return found


def unnumbered(answer: bytes, number: int) -> bytes:
    """A JSON-RPC answer without the number of its call, which stands at its beginning or at its end; of another call's it is not
    taken away."""
    told = re.compile(rb'"id"\s*:\s*%d(?=\s*[,}])' % number)
    end = max(EDGE, len(answer) - EDGE)
    head, tail = answer[:EDGE], answer[end:]
    return told.sub(b"", head, count=1) + answer[EDGE:end] + told.sub(b"", tail, count=1)
