"""How often something is looked at that needs no hurry, spread so that not all testers ask at the same time. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from reconcilers.facts import Facts

AT_ONCE = datetime.min.replace(tzinfo=UTC)
"""A moment that is always over."""


def outside_interval(facts: Facts) -> timedelta:
    """The fleet's interval, up to a sixth shorter or longer by the tester's uid, so that not all are asked at once."""
    spread = int.from_bytes(hashlib.sha256(facts.uid.encode()).digest()[:4]) / 2**32
    return facts.fleet.spec.timing.outside_proof_every * (5 / 6 + spread / 3)
