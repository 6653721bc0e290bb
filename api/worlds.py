"""Opening the outside for one command: the clients that a Fleet describes, with the secrets that can be found from here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.complaint import Complaint
from controller.engine import fleet_references
from controller.in_use import last_good_fleet
from controller.references import References
from controller.running import open_world
from controller.store import Store
from controller.world import World
from reconcilers.clock import Clock
from reconcilers.errors import Blocked
from specs.fleet import Fleet


@asynccontextmanager
async def opened_world(fleet: Fleet, folder: Path, store: Store, clock: Clock) -> AsyncIterator[World]:
    """The world of a Fleet; closed at the end. Raises Blocked for a credential that is not there, and Complaint
    when the folder that it may be in is not."""
    secrets = await References(store, folder).resolve(fleet_references(fleet))
    try:
        world = open_world(fleet, secrets, folder, clock)
    except Blocked as error:
        complaint = _lacking(error, folder)
        if complaint is None:
            raise
        raise complaint from error
    try:
        yield world
    finally:
        await world.backends.aclose()


def _lacking(error: Blocked, folder: Path) -> Complaint | None:
    """Of a credential that may be lacking because it was looked for in the wrong folder."""
    if folder.is_dir():
        return None
    return Complaint(
        f"{error}. There is no folder {folder}, and relative `file:` references of the Fleet start in the folder of specs: "
        "point --fleet (or TESTERCTL_FLEET) to it."
    )


async def stored_fleet(store: Store) -> Fleet:
    """The Fleet that the controller took in last. Raises Complaint when it never did, or another program did."""
    fleet = await last_good_fleet(store)
    if fleet is None:
        raise Complaint(
            "The controller has not read a Fleet yet that this program understands: start `testerctl run` of this version, or "
            "use the testerctl of the version that runs."
        )
    return fleet
