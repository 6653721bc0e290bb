"""What was seen again, as a change of the books."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconcilers.facts import StepFacts


@dataclass(frozen=True, slots=True)
class FreshenFacts:
    """Only in place of exactly the facts that it was seen of."""

    tester: str
    before: StepFacts
    facts: StepFacts
    machine: str
    at: datetime
