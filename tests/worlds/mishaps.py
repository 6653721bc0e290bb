"""What can befall a world, as data: every kind of mishap, schedules drawn from a seed, and what lets them happen.

    schedule = drawn(random.Random(7), timedelta(hours=6), ["alice"], density=4)
    async with fate(w, schedule):
        ...

`ISSUE` says which of the kinds stands for which sentence of the list that the worlds were made for.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from tests.worlds import mishaps_forge, mishaps_grid, mishaps_machine, mishaps_own, mishaps_wire
from tests.worlds.loop import outliving
from tests.worlds.mishap import Ending, Kind, Mishap, Missed, Spell
from tests.worlds.occasions import OFTEN, Occasion, chosen, moved

if TYPE_CHECKING:
    from tests.worlds.rig import Rig

KINDS: Mapping[str, Kind] = {
    **mishaps_wire.KINDS,
    **mishaps_grid.KINDS,
    **mishaps_machine.KINDS,
    **mishaps_forge.KINDS,
    **mishaps_own.KINDS,
}

ENGINES, DAEMONS = ("embedder", "voice"), ("compute1", "compute2")
CALM = 0.6
"""The share of a span after which nothing befalls anybody any more."""
COUNTED = timedelta(hours=6)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)

ISSUE: Mapping[str, tuple[str, ...]] = {
    "time-out after the effect": ("timeout_after_effect",),
    "time-out before": ("timeout_before",),
    "error reported though created": ("error_reported_though_created", "gateway_failed_but_exists"),
    "created though rolled back later": ("rolled_back_later", "deploy_rolls_back"),
    "listing that lags 0 to 60 s": ("listing_lags",),
    "listing that omits or is truncated": ("listing_omits", "listing_truncated"),
    "502": ("http_502",),
    "429 with and without Retry-After": ("throttled", "throttled_without_a_word"),
    "connection cut mid-answer": ("cut_mid_answer",),
    "half-written JSON": ("half_json",),
    "whoever fails repeats what it was told in confidence": ("server_echoes",),
    "HTML with status 200": ("html_200",),
    "slow (up to 300 s)": ("slow", "slow_chain"),
    "daemon client dead until restarted": ("daemon_client_dead",),
    "daemon restarted": ("daemon_restarted",),
    'node offline, "up" but dead': ("node_offline", "node_dead"),
    "capacity readout stale": ("capacity_stale", "capacity_overstated"),
    "disk pools fragmented": ("pools_fragmented",),
    "name taken by a stranger, by our own leftover": (
        "name_taken_by_a_stranger",
        "account_of_a_stranger",
        "name_taken_by_our_leftover",
    ),
    "cancel accepted but the node tears down later or only after an hour": ("teardown_lags", "teardown_takes_an_hour"),
    "VM crash-loops and vanishes": ("vm_crash_loops", "vm_vanishes"),
    "VM never reachable": ("vm_never_reachable", "vm_cut_off", "outside_unroutable"),
    "host key changed by a rebuild, host key changed **without** a rebuild (refuse, say so)": (
        "host_key_of_a_rebuild",
        "host_key_changed",
    ),
    "SSH cut mid-command": ("ssh_cut",),
    "command hangs": ("command_hangs",),
    "disk full on the VM": ("vm_disk_full",),
    "supervisor lies both ways": ("said_to_run_and_dead", "said_to_be_dead_and_runs", "start_lies"),
    "service start races": ("start_races", "slow_start"),
    "a stored value reads back empty": ("secret_reads_empty",),
    "component install fails once, always": ("install_fails_once", "install_fails_always"),
    "release published broken": ("release_broken",),
    "Forge down, read-only, token revoked, user renamed, user deleted by hand, OAuth app deleted or duplicated by hand": (
        "forge_down",
        "forge_read_only",
        "token_revoked",
        "user_renamed",
        "user_deleted",
        "app_deleted",
        "app_duplicated",
    ),
    "mail accepted but the answer lost": ("mail_answer_lost",),
    "secret store of an engine unreachable": ("engine_store_unreachable", "engines_unreachable"),
    "clock jumps": ("clock_jumps",),
    "database locked, disk full for our own store": ("store_locked", "store_full"),
}


def drawn(
    rng: random.Random,
    span: timedelta,
    testers: Sequence[str],
    *,
    profile: str = "all",
    density: float,
    occasions: Sequence[Occasion] = (),
) -> tuple[Mishap, ...]:
    """A schedule, by moment: `density` mishaps for every tester in six hours, each of them over when `CALM` of the span is.

    Most of them wait for one of the `occasions`, and befall whoever it is that comes or goes. `profile`: all, mild, rough, or
    one kind. Raises KeyError for another one.
    """
    names = of_profile(profile)
    weights = [KINDS[name].weight for name in names]
    count = round(density * len(testers) * (span / COUNTED))
    everybody = list(dict.fromkeys([*testers, *(each.tester for each in occasions)]))
    made = []
    for _ in range(count):
        one = draw(rng, rng.choices(names, weights)[0], span * CALM, everybody)
        occasion = chosen(rng, one, occasions) if rng.random() < OFTEN else None
        made.append(waiting(rng, one, occasion, span * CALM) if occasion is not None else one)
    return tuple(sorted(made, key=lambda one: (one.at, one.line())))


def of_profile(profile: str) -> tuple[str, ...]:
    """The kinds of a profile. Raises KeyError."""
    if profile in ("all", "mild", "rough"):
        return tuple(name for name, kind in KINDS.items() if profile in ("all", kind.severity))
    return (profile,) if KINDS[profile] else ()


def draw(rng: random.Random, name: str, before: timedelta, testers: Sequence[str]) -> Mishap:
    """One mishap of a kind, over before that."""
    kind = KINDS[name]
    least, most = kind.lasts
    lasts = min(timedelta(minutes=rng.uniform(least, most)), before)
    lasts -= lasts % SECOND
    at = timedelta(seconds=rng.randint(0, int((before - lasts) / SECOND)))
    return Mishap(at, at + lasts, name, _victim(rng, kind, testers), kind.draw(rng))


def waiting(rng: random.Random, mishap: Mishap, occasion: Occasion, before: timedelta) -> Mishap:
    """The same, from shortly before it finds what it waits for at this occasion, over before that."""
    target = occasion.tester if KINDS[mishap.kind].victim == "tester" else mishap.target
    return replace(moved(rng, mishap, occasion, before), target=target)


def _victim(rng: random.Random, kind: Kind, testers: Sequence[str]) -> str:
    return rng.choice({"tester": testers, "engine": ENGINES, "daemon": DAEMONS, "": ("",)}[kind.victim])


class Fate:
    """Lets a schedule happen, beside every life of the controller. What has not ended when the block does is ended then."""

    def __init__(self, rig: Rig, schedule: Iterable[Mishap]) -> None:
        self._rig = rig
        self._schedule = tuple(schedule)
        self._tasks: list[asyncio.Task[None]] = []
        self._befallen: list[tuple[str, Ending | None]] = []

    async def __aenter__(self) -> Fate:
        for mishap in self._schedule:
            self.add(mishap)
        return self

    def add(self, mishap: Mishap) -> None:
        """One more."""
        self._tasks.append(outliving(self._one(mishap)))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in ended:
            if error is None and isinstance(result, Exception):
                raise result

    def bit(self) -> tuple[str, ...]:
        """The kinds of those that have found something to befall, each as often as one has."""
        return tuple(kind for kind, ending in self._befallen if not isinstance(ending, Spell) or ending.bit)

    async def _one(self, mishap: Mishap) -> None:
        await self._rig.run_for(mishap.at - self._rig.elapsed)
        try:
            ending = await KINDS[mishap.kind].befall(self._rig, mishap)
        except Missed:
            return
        self._befallen.append((mishap.kind, ending))
        try:
            if mishap.until is not None:
                await self._rig.run_for(mishap.until - self._rig.elapsed)
        finally:
            await _ended(ending)
            self._rig.world.changed()


async def _ended(ending: Ending | None) -> None:
    done = ending() if ending is not None else None
    if inspect.isawaitable(done):
        await done


def fate(rig: Rig, schedule: Iterable[Mishap] = ()) -> Fate:
    """`async with fate(rig, schedule):` — see the module."""
    return Fate(rig, schedule)


__all__ = ["CALM", "ISSUE", "KINDS", "Fate", "Kind", "Mishap", "draw", "drawn", "fate", "of_profile", "waiting"]
