"""What a mishap is, and what its kinds are made of; the kinds themselves are in `mishaps_*`, all of them in `mishaps`.

A mishap is told in one line, which can be read again:

    +0:12:05..+0:20:00 http_502 - {"method": "deploy_*", "times": 2}
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from examples.simulator.records import Fault, Vm

if TYPE_CHECKING:
    from examples.simulator.machine import Machine
    from tests.worlds.rig import Rig

T = TypeVar("T")

LOOKED_FOR = timedelta(seconds=5)
"""How often a mishap that waits for its victim looks whether it is there."""
_MOMENT = re.compile(r"\+(\d+):(\d\d):(\d\d)(?:\.(\d{6}))?")


@dataclass(frozen=True)
class Mishap:
    """One thing that befalls a world: from `at`, counted from the world's start, to `until`.

    What happens in an instant happens as soon as there is something that it can happen to, until then. `target`: a tester, a
    daemon or an engine, as the kind has it; "" for all, or none.
    """

    at: timedelta
    until: timedelta | None
    kind: str
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        end = "" if self.until is None else _told(self.until)
        options = f" {json.dumps(dict(self.options), sort_keys=True)}" if self.options else ""
        return f"{_told(self.at)}..{end} {self.kind} {self.target or '-'}{options}"

    @classmethod
    def of_line(cls, text: str) -> Mishap:
        """Raises ValueError for a line that is none."""
        span, kind, target, *rest = text.strip().split(" ", 3)
        at, _, until = span.partition("..")
        options = json.loads(rest[0]) if rest else {}
        return cls(_moment(at), _moment(until) if until else None, kind, "" if target == "-" else target, options)

    @property
    def ended(self) -> timedelta:
        """From when on it does nothing any more."""
        return self.at if self.until is None else self.until


def _told(moment: timedelta) -> str:
    seconds, rest = divmod(moment, timedelta(seconds=1))
    minutes, hours = seconds // 60 % 60, seconds // 3600
    return f"+{hours}:{minutes:02}:{seconds % 60:02}" + (f".{rest.microseconds:06}" if rest else "")


def _moment(text: str) -> timedelta:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"no moment: {text!r}")
    hours, minutes, seconds, rest = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=rest)


Severity = Literal["mild", "rough"]
Victim = Literal["tester", "daemon", "engine", ""]
Ending = Callable[[], object]
"""Ends a mishap; may be called when what it befell is no more."""


class Missed(Exception):
    """There was nothing that it could befall, as long as it lasted."""


@dataclass(frozen=True)
class Spell:
    """Ends a fault of the simulator when it is called, and knows whether it has spoilt anything.

    `then`: what else is put right.
    """

    rig: Rig
    fault: Fault
    then: Ending = lambda: None

    @property
    def bit(self) -> bool:
        return self.fault.bit > 0

    def __call__(self) -> object:
        rows = self.rig.world.faults.rows
        rows[:] = [row for row in rows if row is not self.fault]
        return self.then()


Befall = Callable[["Rig", Mishap], Awaitable[Ending | None]]
Draw = Callable[[random.Random], dict[str, Any]]


def nothing(rng: random.Random) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Kind:
    """A kind of mishap.

    weight    how often it is drawn, beside the others
    severity  mild: every day; rough: rare, and then somebody has to do something
    what      in words
    befall    lets it happen; answers how it is ended, None for what nobody ends; raises Missed
    lasts     minutes, least and most
    draw      its options
    victim    what its target is
    """

    weight: int
    severity: Severity
    what: str
    befall: Befall
    lasts: tuple[float, float] = (2.0, 15.0)
    draw: Draw = nothing
    victim: Victim = ""


def spoils(
    kind: str, system: str, method: str, target: Callable[[Rig, Mishap], str] = lambda rig, mishap: "*"
) -> Callable[[Rig, Mishap], Awaitable[Spell]]:
    """A fault of the simulator for as long as the mishap lasts. Its options `system`, `method` and `times` are the fault's
    own, the others are the fault's options."""

    async def befall(rig: Rig, mishap: Mishap) -> Spell:
        rest = dict(mishap.options)
        fault = Fault(
            kind=kind,
            system=rest.pop("system", system),
            method=rest.pop("method", method),
            times=rest.pop("times", None),
            target=target(rig, mishap),
            until=None if mishap.until is None else rig.world.clock.now() + left(rig, mishap).total_seconds(),
            options=rest,
        )
        return Spell(rig, rig.world.faults.add(fault))

    return befall


def left(rig: Rig, mishap: Mishap) -> timedelta:
    """How long it lasts from now on."""
    return max(timedelta(0), mishap.ended - rig.elapsed)


def things_of(rig: Rig, mishap: Mishap) -> str:
    """What a tester's VMs and gateways are called, as a pattern; everybody's without a target."""
    return f"{_slug(mishap)}*"


def _slug(mishap: Mishap) -> str:
    return mishap.target.replace("-", "")


async def found(rig: Rig, mishap: Mishap, look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it is there. Raises Missed when it is not before the mishap is over."""
    while (seen := look()) is None:
        if not left(rig, mishap):
            raise Missed
        await rig.run_for(min(LOOKED_FOR, left(rig, mishap)))
    return seen


async def victim(rig: Rig, mishap: Mishap) -> Machine:
    """The tester's newest machine; anybody's without a target. Raises Missed when there is none in time."""
    prefix = f"{_slug(mishap)}_" if mishap.target else ""

    def look() -> Machine | None:
        rows: list[tuple[float, str, Vm]] = [
            (vm.created_at, f"{daemon.name}/{vm.sid}", vm)
            for daemon in rig.world.state.daemons.values()
            for vm in daemon.vms.values()
            if vm.name.startswith(prefix)
        ]
        return rig.world.machines[max(rows)[1]] if rows else None

    return await found(rig, mishap, look)
