"""How often something is looked at that needs no hurry, spread so that not all testers ask at the same time. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from reconcilers.facts import Facts

AT_ONCE = datetime.min.replace(tzinfo=UTC)
"""A moment that is always over."""


def outside_interval(facts: Facts) -> timedelta:
    """The fleet's interval, up to a sixth shorter or longer by the tester's uid, so that not all are asked at once."""
    return facts.fleet.spec.timing.outside_proof_every * (5 / 6 + spread_of(facts.uid) / 3)


def spread_of(uid: str) -> float:
    """From 0 to 1, evenly, and always the same for one tester."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]) / 2**32
