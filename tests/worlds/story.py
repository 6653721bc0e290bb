"""What happens in a seeded world, as data: edits of the folder, mishaps, kills, and what kind of Fleet it is.

    story = Story.drawn(seed=17, testers=3, span=timedelta(hours=6))
    Story.of_text(story.text()) == story

A story can be drawn from a seed, kept, pasted, shortened (`shrinking.py`) and lived (`living.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tests.worlds import edits as editing
from tests.worlds.edits import Edit
from tests.worlds.mishaps import Mishap
from tests.worlds.mishaps import drawn as drawn_mishaps
from tests.worlds.occasions import occasions_of

SECOND = timedelta(seconds=1)
CALM = 0.6
"""The share of the span in which things happen."""
A_DAEMONS = 20
"""Testers for whom a daemon has room, with something to spare."""
NAMES = ("alice", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "karl")


@dataclass(frozen=True)
class Kill:
    """The controller's process ends, by kill -9 or by SIGTERM, and begins again `down` later."""

    at: timedelta
    down: timedelta
    graceful: bool = False

    def line(self) -> str:
        how = "stop" if self.graceful else "kill"
        return f"+{self.at / SECOND:.3f} {how} {self.down / SECOND:.3f}"

    @staticmethod
    def of_line(text: str) -> Kill:
        at, how, down = text.split()
        return Kill(float(at) * SECOND, float(down) * SECOND, graceful=how == "stop")


Event = Edit | Kill | Mishap
KINDS: dict[str, tuple[type[Event], Callable[[str], Event]]] = {
    "edit": (Edit, Edit.of_line),
    "kill": (Kill, Kill.of_line),
    "fate": (Mishap, Mishap.of_line),
}


@dataclass(frozen=True)
class Story:
    """Everything that a world's course depends on."""

    seed: int
    testers: int
    span: timedelta
    hour: int = 0
    """Of the day on which it begins (UTC): whether there is a midnight in it."""
    fleet: dict[str, Any] = field(default_factory=dict)
    """Laid over the rig's Fleet."""
    events: tuple[Event, ...] = ()
    daemons: int = 1

    @staticmethod
    def drawn(
        seed: int, testers: int, span: timedelta, *, profile: str = "all", density: float = 4.0, edits: float = 1.0
    ) -> Story:
        """`edits` and `density`: so many edits and mishaps for every tester in six hours."""
        chance = random.Random(f"story {seed}")
        eventful = span * CALM
        names = names_of(testers)
        many = testers * (span / timedelta(hours=6))
        number = max(2, round(chance.uniform(0.5, 1.5) * edits * many))
        edited = editing.drawn(random.Random(f"edits {seed}"), eventful, names, count=number)
        mishaps, occasions = random.Random(f"mishaps {seed}"), occasions_of(names, edited)
        events: list[Event] = [*edited]
        drawn = drawn_mishaps(mishaps, span, names, profile=profile, density=density, occasions=occasions)
        events += [one for one in drawn if one.kind != "release_broken" or not editing.is_only_told(edited)]
        events += _kills(random.Random(f"kills {seed}"), eventful)
        events.sort(key=lambda event: event.at)
        hour, fleet, daemons = chance.randrange(24), _fleet(chance), testers // A_DAEMONS + chance.choice((1, 1, 2))
        return Story(seed, testers, span, hour, fleet, tuple(events), daemons)

    def text(self) -> str:
        """To be kept and pasted."""
        head = [
            f"seed {self.seed}",
            f"testers {self.testers}",
            f"span {self.span / SECOND:.0f}",
            f"hour {self.hour}",
            f"daemons {self.daemons}",
            f"fleet {json.dumps(self.fleet)}",
        ]
        return "".join(f"{line}\n" for line in [*head, *map(line_of, self.events)])

    @staticmethod
    def of_text(text: str) -> Story:
        """Raises ValueError or KeyError for anything else. Lines that begin with # say nothing."""
        head: dict[str, str] = {}
        events: list[Event] = []
        for line in filter(None, map(str.strip, text.splitlines())):
            word, _, rest = line.partition(" ")
            if word in KINDS:
                events.append(KINDS[word][1](rest))
            elif not word.startswith("#"):
                head[word] = rest
        span = float(head["span"]) * SECOND
        size = int(head["seed"]), int(head["testers"]), span, int(head["hour"])
        return Story(*size, json.loads(head["fleet"]), tuple(events), int(head.get("daemons", 1)))

    def of(self, events: Iterable[Event]) -> Story:
        """The same with only these of its events."""
        return replace(self, events=tuple(events))


def line_of(event: Event) -> str:
    word = next(word for word, (kind, _) in KINDS.items() if isinstance(event, kind))
    return f"{word} {event.line()}"


def names_of(count: int) -> tuple[str, ...]:
    """Those who are there from the beginning."""
    return tuple(f"{NAMES[each % len(NAMES)]}{each // len(NAMES) or ''}" for each in range(count))


def _kills(rng: random.Random, span: timedelta) -> list[Kill]:
    """The process ends now and then, mostly for a moment, sometimes for longer than any call may take."""
    return [
        Kill(
            round(rng.random() * (span / SECOND), 3) * SECOND,
            rng.choice((1, 5, 30, 400, 1800)) * SECOND,
            graceful=rng.random() < 0.25,
        )
        for _ in range(rng.choice((0, 1, 1, 2, 3)))
    ]


POLLS = ("10s", "20s", "30s")
ENGINES: tuple[dict[str, Any], ...] = ({}, {"engines": []}, {"engines": []})


def _fleet(rng: random.Random) -> dict[str, Any]:
    """A small Fleet, as slow as a person might set it: what is looked at more often only costs the tests' time."""
    timing = {"poll": rng.choice(POLLS), "resync": "30m", "outsideProofEvery": "2h", "releasesEvery": "3h"}
    return {"componentSets": {"demo": ["hero_books"]}, "timing": timing, **rng.choice(ENGINES)}
