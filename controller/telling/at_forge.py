"""The repository of the specs at Forge: what became of a revision, and what a pull request would do, are told there.

Only where the repository is one of the Fleet's own Forge; everything goes through the world in force, with its token and limits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from controller.records import RevisionRecord
from controller.world import World
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.forge_telling import CommitStatus, repository_of, set_status

CONTEXT: Final = "testers"
"""The context of the commit status that says what became of a revision."""


@dataclass(frozen=True)
class Place:
    """A repository at Forge, while the world that it is reached through is held open."""

    world: World
    forge: ForgeClient
    owner: str
    name: str


@dataclass(frozen=True)
class AtForge:
    """`world`: the one in force, None while there is none. `url`: the repository's address. `dashboard`: the public address
    of this controller's pages, "" for none."""

    world: Callable[[], World | None]
    url: str
    dashboard: str = ""

    async def tell(self, record: RevisionRecord) -> bool:
        """The commit status of a revision; False where there is nowhere to tell it. Raises what a call to Forge may."""
        async with self.reached() as place:
            if place is None:
                return False
            link = f"{self.dashboard}/revisions/{record.revision}" if self.dashboard else ""
            status = CommitStatus(record.state, record.text, CONTEXT, link)
            await set_status(place.forge, place.owner, place.name, record.revision, status)
            return True

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[Place | None]:
        """The repository at Forge; None without a Fleet in force, and when it is somewhere else."""
        world = self.world()
        if world is None:
            yield None
            return
        world.users += 1
        try:
            forge = world.backends.forge
            there = repository_of(forge.url, self.url)
            yield None if there is None else Place(world, forge, *there)
        finally:
            await world.leave()
