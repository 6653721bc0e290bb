"""Where the edits of `tests/bench/one_edit.py` come from: the watched folder, and then a repository whose pushes are rung for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from api.routes.hook import Doorbell
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.intake import Revision
from controller.sources.folder import FolderSource
from controller.sources.git import GitSource
from controller.sources.mirror import Mirror, Repository
from controller.sources.source import Known, Source
from reconcilers.clock import Clock
from reconcilers.secret import Secret
from tests.bench.ten_thousand import Fleet

SECRET = Secret("a webhook's secret of the benchmark")


class Switched:
    """A folder at first, and from then on another source: one life of ten thousand testers serves for both."""

    def __init__(self, folder: Path, clock: Clock, known: Known) -> None:
        self.known = known
        self._now: Source = FolderSource(folder, clock, known)
        self._turn = asyncio.Event()

    @property
    def name(self) -> str:
        return self._now.name

    @property
    def good_at(self) -> datetime | None:
        return self._now.good_at

    def rescan(self) -> None:
        self._now.rescan()

    def to(self, other: Source) -> None:
        self._now = other
        self._turn.set()

    async def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        async with aclosing(self._now.revisions(self._turn)) as first:
            async for each in first:
                yield each
        async with aclosing(self._now.revisions(stop)) as second:
            async for each in second:
                yield each


class Pushed:
    """A bare repository with the folder in it, and a clone to push from."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.bare, self._clone = root / "fleet.git", folder
        root.mkdir()
        _git(root, "init", "--quiet", "--bare", "--initial-branch", "main", str(self.bare))
        _git(folder, "init", "--quiet", "--initial-branch", "main")
        _git(folder, "remote", "add", "origin", str(self.bare))
        self._commit("all")

    def push(self, name: str, text: str) -> None:
        (self._clone / f"{name}.yaml").write_text(text)
        self._commit(name)

    def _commit(self, words: str) -> None:
        _git(self._clone, "add", "--all")
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
        _git(self._clone, *who, "commit", "--quiet", "--message", words)
        _git(self._clone, "push", "--quiet", "origin", "main")


@dataclass
class Bell:
    """Tells of pushes as Forge does."""

    client: httpx.AsyncClient
    url: str
    rang: int = 0

    async def ring(self) -> None:
        self.rang += 1
        body = json.dumps({"ref": "refs/heads/main", "number": self.rang}).encode()
        signature = hmac.new(SECRET.reveal(), body, hashlib.sha256).hexdigest()
        headers = {"X-Forgejo-Event": "push", "X-Forgejo-Delivery": str(self.rang), "X-Forgejo-Signature": signature}
        (await self.client.post(self.url, content=body, headers=headers)).raise_for_status()


@asynccontextmanager
async def rung(fleet: Fleet, source: Switched, pushed: Pushed) -> AsyncIterator[Bell]:
    """The fleet's source is the repository from now on. Gives what delivers a webhook to the controller's own API."""
    controller = fleet.controller

    async def in_force() -> str:
        state = await fleet.store.source()
        return state.revision if state is not None else ""

    mirror = Mirror(Repository(f"file://{pushed.bare}"), fleet.places.mirror)
    git = GitSource(mirror, fleet.clock, source.known, in_force)
    taken = asyncio.Event()
    controller.listeners.append(lambda revision, _: taken.set() if revision.source == git.name else None)
    source.to(git)
    await taken.wait()
    sock, where = bound(place("127.0.0.1:0"))
    bell = Doorbell(SECRET, "main", git.rescan)
    serving = asyncio.ensure_future(serve(make_app(Window(controller), bell), sock, controller.stop))
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            yield Bell(client, f"{where.url}/hooks/forge")
    finally:
        controller.stop.set()
        await serving


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
