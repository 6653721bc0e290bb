"""What befalls the demo's world by wish: faults drawn from a profile and a seed, given to the world, and told as they befall.

A *spell* lasts a while, whoever calls meanwhile. A *blow* falls on one call, whenever that is made. The world keeps them among
its own things, so what they are is read from there: who starts in the middle can tell them too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from api.complaint import Complaint
from api.demo.world import World
from api.words import span
from reconcilers.clock import Clock

SPREAD = 20.0  # real seconds, over which spells begin
LENGTH = (2, 5)  # of a spell, in real seconds
LASTS = 600.0  # real seconds, for which a blow waits for its call

Row = Mapping[str, Any]
"""One fault, as the world tells it: `at` and `until` are moments of its clock, `times` how often it is still to befall."""


@dataclass(frozen=True)
class Kind:
    """One thing that can befall. `seconds`: real ones, of a kind that is told how late something is."""

    system: str
    method: str
    kind: str
    words: str
    seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """What a profile draws from, and how many of each."""

    spells: tuple[Kind, ...] = ()
    blows: tuple[Kind, ...] = ()
    drawn: tuple[int, int] = (0, 0)


USERS, APPS = "POST /api/v1/admin/users", "POST /api/v1/user/applications/oauth2"
MILD_SPELLS = (
    Kind("compute", "*", "http_502", "the daemon answers 502"),
    Kind("forge", "*", "http_502", "Forge answers 502"),
    Kind("forge", "*", "throttled", "Forge answers 429, come again in 1 s", options={"retry_after": 1}),
    Kind("compute", "list_*", "slow", "the daemon's listings come 2 s late", 2),
    Kind("compute", "list_vms", "half_json", "the daemon's list of machines breaks off in the middle"),
    Kind(
        "compute", "list_webgateways", "listing_lags", "the daemon's list of gateways lacks what is younger than 3 s", 3
    ),
    Kind("forge", "GET *", "html_200", "Forge answers every question with a page of HTML"),
)
MILD_BLOWS = (
    Kind("compute", "deploy_vm", "cut_mid_answer", "deploy_vm was done, and the connection broke in the answer"),
    Kind("compute", "deploy_vm", "error_reported_though_created", "deploy_vm was done, and answered with an error"),
    Kind("compute", "deploy_webgateway", "cut_mid_answer", "deploy_webgateway was done, and the answer was lost"),
    Kind("forge", APPS, "cut_mid_answer", "a sign-in app was made, and the answer was lost"),
    Kind("forge", APPS, "http_502", "a sign-in app was refused with 502"),
    Kind("forge", USERS, "http_502", "an account was refused with 502"),
    Kind("mail", "POST /emails", "answer_lost", "a letter was delivered, and the answer was lost"),
    Kind("machine", "lab build", "install_fails", "an install's download broke off"),
)
ROUGH_SPELLS = (
    Kind("compute", "*", "down", "the daemon is down"),
    Kind("forge", "*", "down", "Forge is down"),
    Kind("forge", "*", "read_only", "Forge is read-only"),
    Kind("forge", "*", "slow", "Forge answers 3 s late", 3),
    Kind("compute", "list_vms", "listing_lags", "the daemon's list of machines lacks what is younger than 4 s", 4),
    Kind("machine", "lab build", "install_fails", "every install's download breaks off"),
    Kind("machine", "service start", "slow_start", "services take 3 s to start", 3),
)
ROUGH_BLOWS = (
    Kind("compute", "deploy_vm", "timeout_after_effect", "deploy_vm was done, and answered 8 s late", 8),
    Kind("compute", "deploy_webgateway", "slow_chain", "the chain takes 5 s for a gateway", 5),
    Kind("compute", "deploy_webgateway", "error_reported_though_created", "a gateway was made, and told as failed"),
    Kind("forge", USERS, "error_reported_though_created", "an account was made, and answered with 500"),
    Kind("forge", APPS, "error_reported_though_created", "a sign-in app was made, and answered with 500"),
    Kind("machine", "lab build*", "cut_mid_command", "SSH broke under an install, which goes on"),
    Kind("machine", "secret get", "secret_reads_empty", "a stored secret read back empty"),
    Kind("mail", "POST /emails", "rate_limited", "a letter was put off with 429"),
)
PROFILES = {
    "none": Profile(),
    "mild": Profile(MILD_SPELLS, MILD_BLOWS, (3, 4)),
    "rough": Profile((*MILD_SPELLS, *ROUGH_SPELLS), (*MILD_BLOWS, *ROUGH_BLOWS), (6, 9)),
}


def _words() -> Iterator[tuple[tuple[bool, str, str, str], str]]:
    for profile in PROFILES.values():
        for spell, kinds in ((True, profile.spells), (False, profile.blows)):
            yield from (((spell, kind.system, kind.method, kind.kind), kind.words) for kind in kinds)


WORDS = dict(_words())
"""By whether it is a spell, system, method and kind."""


def profile_of(name: str) -> Profile:
    """Raises Complaint for one that there is not."""
    if name not in PROFILES:
        raise Complaint(f"There is no profile of faults {name!r}. The profiles are: {', '.join(PROFILES)}.")
    return PROFILES[name]


def drawn(name: str, seed: int, now: float, speed: float) -> tuple[dict[str, Any], ...]:
    """The faults of a profile from a moment of the world's clock on: the same ones for the same seed."""
    profile = profile_of(name)
    chance = random.Random(f"{name}/{seed}")  # noqa: S311 - the same for the same seed is what is wanted
    spells, blows = profile.drawn
    rows = []
    for kind in chance.sample(profile.spells, spells):
        at = now + chance.uniform(0.5, SPREAD) * speed
        rows.append(_row(kind, speed) | {"times": None, "at": at, "until": at + chance.uniform(*LENGTH) * speed})
    until = now + LASTS * speed
    rows += [_row(kind, speed) | {"times": 1, "until": until} for kind in chance.sample(profile.blows, blows)]
    return tuple(rows)


def _row(kind: Kind, speed: float) -> dict[str, Any]:
    late = {} if kind.seconds is None else {"seconds": kind.seconds * speed}
    return {"system": kind.system, "method": kind.method, "kind": kind.kind, "options": {**kind.options, **late}}


def told(row: Row, speed: float) -> str:
    """`the daemon answers 502 for 4 s`."""
    what = row["system"], row["method"], row["kind"]
    words = WORDS.get((_is_spell(row), *what), " ".join(what))
    if not _is_spell(row):
        return words
    return f"{words}, for {span(timedelta(seconds=round((row['until'] - row['at']) / speed)))}"


@dataclass
class Narrator:
    """Tells of the faults as they befall. `began`: the world's clock and ours, at one and the same moment. `told`: the places,
    in the world's list, of those that were told."""

    world: World
    clock: Clock
    began: tuple[float, datetime]
    told: set[int]
    pending: bool = True  # a spell is still to come, or lasts

    async def news(self) -> tuple[str, ...]:
        """What has befallen since it was asked last."""
        rows, now = await self.world.faults(), self.now
        fresh = [number for number, row in enumerate(rows) if number not in self.told and _has_befallen(row, now)]
        self.told.update(fresh)
        self.pending = any(_is_spell(row) and now < row["until"] for row in rows)
        return tuple(told(rows[number], self.world.addresses.speed) for number in fresh)

    @property
    def now(self) -> float:
        """The world's clock."""
        world, ours = self.began
        return world + (self.clock.now() - ours).total_seconds() * self.world.addresses.speed


async def befallen(world: World, now: float) -> str:
    """`5 of 7 faults have befallen`: in all lives, by what the world says."""
    rows = await world.faults()
    return f"{sum(_has_befallen(row, now) for row in rows)} of {len(rows)} faults have befallen"


def _is_spell(row: Row) -> bool:
    return row["times"] is None and row["at"] is not None and row["until"] is not None


def _has_befallen(row: Row, now: float) -> bool:
    return bool(row["at"] <= now) if _is_spell(row) else row["times"] == 0
