"""Mishaps on our own side: the clock, and the disk that the store is on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.worlds.mishap import Ending, Kind, Mishap

if TYPE_CHECKING:
    from tests.worlds.rig import Rig


async def _clock(rig: Rig, mishap: Mishap) -> Ending:
    """Ours only; in the end it is set right."""
    jump = timedelta(seconds=int(mishap.options.get("seconds", 3600)))
    rig.clock.offset += jump

    def set_right() -> None:
        rig.clock.offset -= jump

    return set_right


async def _locked(rig: Rig, mishap: Mishap) -> Ending:
    await rig.disk.lock()
    return rig.disk.unlock


async def _full(rig: Rig, mishap: Mishap) -> Ending:
    rig.disk.fill()
    return rig.disk.free


def _jump(rng: random.Random) -> dict[str, Any]:
    return {"seconds": rng.choice((-1, 1)) * rng.choice((5, 60, 600, 3600, 86_400))}


KINDS: Mapping[str, Kind] = {
    "clock_jumps": Kind(2, "rough", "our clock jumps, and is set right later", _clock, (1.0, 60.0), _jump),
    "store_locked": Kind(2, "mild", "another process holds our database", _locked, (0.1, 5.0)),
    "store_full": Kind(2, "rough", "the disk that our database is on is full", _full, (0.5, 10.0)),
}
