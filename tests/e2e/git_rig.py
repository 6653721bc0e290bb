"""A repository of specs on a real git server, the clone that an admin pushes from, and a controller that follows it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.routes.hook import Doorbell
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.places import Places, opened_store
from controller.records import RevisionRecord
from controller.running import Controller, FromGit
from controller.sources.mirror import Repository
from examples.simulator.records import Status
from examples.simulator.server import Addresses, serving
from examples.simulator.world import World
from reconcilers.clock import Clock, SystemClock
from reconcilers.secret import Secret
from tests.e2e.git_server import deliver
from tests.e2e.rig import SPEED, Fleet, Passes, fleet_document, save, tester_document

OWNER, NAME = "geomind", "fleet"
TOKEN = "git-token-of-the-fleet"
HOOK_SECRET = "the webhook's secret"
WHO = (
    *("-c", "user.name=Mik", "-c", "user.email=mik@example.test", "-c", "commit.gpgsign=false"),
    *("-c", "http.postBuffer=16777216"),  # the server does not know bodies in pieces
)
DASHBOARD = "https://testers.example.test"


@dataclass
class Server:
    """The git server; `stop` and `start` again on the same port."""

    root: Path
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{OWNER}/{NAME}.git"

    @property
    def bare(self) -> Path:
        return self.root / OWNER / f"{NAME}.git"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parent / "git_server.py"),
            *(str(self.root), str(self.port), TOKEN),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(await self.process.stdout.readline())

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None

    def after_each_push(self, **where: str) -> None:
        (self.root / "after.json").write_text(json.dumps(where))


@dataclass
class Clone:
    """A work tree. Everything is under `fleet/` of the repository."""

    path: Path
    server: Server

    @property
    def folder(self) -> Path:
        return self.path / "fleet"

    async def git(self, *arguments: str, at: Path | None = None) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        process = await asyncio.create_subprocess_exec(
            *("git", *WHO, *arguments),
            cwd=at or self.path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()

    def write(self, name: str, **spec: Any) -> None:
        save(self.folder / f"{name}.yaml", tester_document(name, **spec))

    def remove(self, *names: str) -> None:
        for name in names:
            (self.folder / f"{name}.yaml").unlink()

    async def commit(self, subject: str) -> str:
        await self.git("add", "--all")
        await self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        return await self.git("rev-parse", "HEAD")

    async def push(self, subject: str, *options: str, to: str = "main") -> str:
        """Commit what was changed and push it; the commit's sha."""
        sha = await self.commit(subject)
        await self.push_commits(*options, to=to)
        return sha

    async def push_commits(self, *options: str, to: str = "main") -> None:
        with_token = self.server.url.replace("//", f"//mik:{TOKEN}@")
        await self.git("push", "--quiet", *options, with_token, f"HEAD:{to}")


@dataclass
class GitFleet(Fleet):
    """A running fleet whose specs are pushed."""

    clone: Clone = field(kw_only=True)
    server: Server = field(kw_only=True)
    hook: str = field(kw_only=True)

    def statuses(self, sha: str, context: str = "testers") -> list[Status]:
        """Of a commit, in the order in which Forge got them."""
        repository = self.world.forge.repositories.find(OWNER, NAME)
        assert repository is not None
        return [one for one in repository.statuses if one.sha == sha and one.context == context]

    async def verdict(self, sha: str, state: str, context: str = "testers") -> Status:
        """Until Forge's newest status of a commit is this one."""

        async def holds() -> bool:
            found = self.statuses(sha, context)
            return bool(found) and found[-1].state == state

        await self.until(holds, f"{context} {state} at {sha[:12]}: {self.statuses(sha, context)}")
        return self.statuses(sha, context)[-1]

    async def revision(self, sha: str) -> RevisionRecord:
        """Until this commit is in force."""

        async def holds() -> bool:
            source = await self.store.source()
            return source is not None and source.revision == sha

        await self.until(holds, f"revision {sha[:12]} in force")
        found = await self.store.revision(sha)
        assert found is not None
        return found


@asynccontextmanager
async def git_server(
    root: Path, testers: Mapping[str, Mapping[str, Any]], fleet: Mapping[str, Any]
) -> AsyncIterator[Clone]:
    """A server with one repository, and a clone of it with these files; nothing is pushed yet."""
    server = Server(root / "forge")
    server.bare.mkdir(parents=True)
    clone = Clone(root / "clone", server)
    await clone.git("init", "--quiet", "--bare", "--initial-branch", "main", ".", at=server.bare)
    await clone.git("config", "http.receivepack", "true", at=server.bare)
    await clone.git("init", "--quiet", "--initial-branch", "main", str(clone.path), at=root)
    clone.folder.mkdir()
    save(clone.folder / "fleet.yaml", dict(fleet))
    for name, spec in testers.items():
        clone.write(name, **spec)
    await server.start()
    try:
        yield clone
    finally:
        await server.stop()


@asynccontextmanager
async def following(
    world: World, addresses: Addresses, root: Path, clone: Clone, clock: Clock | None = None, comments: bool = False
) -> AsyncIterator[GitFleet]:
    """One life of a controller that follows the repository, with its API on loopback and a webhook that leads there."""
    places = Places(root / "fleet", root / "state", secrets=root)
    sock, where = bound(place("127.0.0.1:0"))
    hook = f"{where.url}/hooks/forge"
    clone.server.after_each_push(control=addresses.control_url, hook=hook, secret=HOOK_SECRET)
    repository = Repository(clone.server.url, "main", "fleet", token=Secret(TOKEN))
    async with opened_store(places, clock or SystemClock()) as store:
        from_git = FromGit(repository, comments)
        chance = random.Random(1)
        controller = Controller(places, store, clock or SystemClock(), chance, git=from_git, dashboard=DASHBOARD)
        passes, readings = Passes(world), list[str]()
        passes.watch(controller.engine)
        controller.listeners.append(lambda revision, _: readings.append(revision.id))
        assert controller.pulls is not None
        bell = Doorbell(Secret(HOOK_SECRET), "main", controller.source.rescan, controller.pulls.ring)
        app = make_app(Window(controller), bell)
        done = asyncio.ensure_future(controller.run(serve(app, sock, controller.stop)))
        try:
            yield GitFleet(
                world,
                addresses,
                places,
                store,
                controller,
                done,
                passes,
                readings,
                clone=clone,
                server=clone.server,
                hook=hook,
            )
        finally:
            controller.stop.set()
            await done
            sock.close()


@asynccontextmanager
async def pushed_fleet(
    root: Path,
    testers: Mapping[str, Mapping[str, Any]],
    *,
    clock: Clock | None = None,
    comments: bool = False,
    **fleet_spec: Any,
) -> AsyncIterator[GitFleet]:
    """A world, a git server, a first push of these testers, and a controller that follows."""
    state = root / "world"
    world = World(seed=1, speed=SPEED, state_dir=state)
    async with serving(world, state) as addresses:
        document = fleet_document(addresses, **fleet_spec)
        async with git_server(root, testers, document) as clone:
            clone.server.after_each_push(control=addresses.control_url)
            await clone.push("the fleet")
            async with following(world, addresses, root, clone, clock, comments) as fleet:
                yield fleet


async def propose(fleet: GitFleet, number: int, subject: str) -> str:
    """Commit what was changed in the clone on a branch of its own, and have Forge know it as a pull request."""
    branch = f"change-{number}"
    sha = await fleet.clone.push(subject, "--force", to=branch)
    await fleet.clone.git("update-ref", f"refs/pull/{number}/head", sha, at=fleet.server.bare)
    fleet.world.drift.put_pull(OWNER, NAME, number, sha, subject)
    word = {"action": "synchronized", "number": number, "pull_request": {"head": {"sha": sha}}}
    await asyncio.to_thread(deliver, fleet.hook, HOOK_SECRET, "pull_request", word)
    return sha
