"""How long to leave alone what fails: doubling, with a ceiling, and with jitter against marching in step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

MOST_JITTER = 1.25


def backoff(failures: int, base: timedelta, ceiling: timedelta, chance: random.Random) -> timedelta:
    """The wait after the given number of failures in a row (from 1), between 75 and 125 per cent of base * 2^(n-1)."""
    doubled: timedelta = base * 2.0 ** min(max(failures, 1) - 1, 20)
    return min(doubled, ceiling) * chance.uniform(0.75, MOST_JITTER)


def spread(span: timedelta, chance: random.Random) -> timedelta:
    """`span` give or take a fifth, so that many testers' resyncs do not fall together."""
    return span * chance.uniform(0.8, 1.2)


PATIENCE = 1 / 50  # of what was waited already: what takes an hour is not looked at every two seconds
MOST_PATIENCE = timedelta(minutes=1)


def patient(again: timedelta, waited: timedelta) -> timedelta:
    """When to look again at what is waited for: who waits for long already is looked at less often."""
    return max(again, min(waited * PATIENCE, MOST_PATIENCE))


@dataclass
class Failures:
    """Passes that broke off, in a row, by tester: a mistake of ours or of the store must not spin."""

    counts: dict[str, int]

    def next_wait(self, name: str, chance: random.Random) -> timedelta:
        self.counts[name] = self.counts.get(name, 0) + 1
        return backoff(self.counts[name], timedelta(seconds=2), timedelta(minutes=5), chance)

    def forget(self, name: str) -> None:
        self.counts.pop(name, None)
