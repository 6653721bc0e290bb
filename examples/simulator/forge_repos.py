"""Forge's repositories as far as the field needs them: releases with assets, commit statuses, collaborators. No
HTTP here.
"""

import re
from typing import TYPE_CHECKING

from examples.simulator.catalogue import OWNER
from examples.simulator.realm import Realm
from examples.simulator.records import Asset, Pull, Release, Repository, Status

if TYPE_CHECKING:
    from examples.simulator.forge import Forge

_FULL_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Repositories:
    """Keyed by `owner/name` in lower case."""

    def __init__(self, forge: "Forge", realm: Realm) -> None:
        self._forge = forge
        self._realm = realm

    def find(self, owner: str, name: str) -> Repository | None:
        return self._forge.state.repositories.get(f"{owner}/{name}".lower())

    def create(self, owner: str, name: str) -> Repository:
        made = Repository(id=self._forge.next_id(), owner=owner, name=name)
        self._forge.state.repositories[f"{owner}/{name}".lower()] = made
        return made

    def commit(self, repository: Repository, sha: str = "") -> str:
        """A new commit, by itself or as pushed somewhere else; returns its full sha."""
        sha = sha or self._realm.draw(40)
        if sha not in repository.commits:
            repository.commits.append(sha)
        return sha

    def pull(self, repository: Repository, number: int) -> Pull | None:
        return next((one for one in repository.pulls if one.number == number), None)

    # -- releases

    def publish(self, owner: str, name: str, tag: str, title: str, content: str) -> Release:
        """Makes or replaces the release of a tag, with the one asset `<name>-linux-x86_64`."""
        repository = self.find(owner, name) or self.create(owner, name)
        asset = Asset(id=self._forge.next_id(), name=f"{name}-linux-x86_64", content=content)
        made = Release(
            id=self._forge.next_id(),
            tag=tag,
            name=title,
            target=self.commit(repository),
            published=self._realm.now(),
            assets=[asset],
        )
        repository.releases = [made, *(other for other in repository.releases if other.tag != tag)]
        return made

    def release(self, owner: str, name: str, tag: str) -> Release | None:
        repository = self.find(owner, name)
        return next((one for one in repository.releases if one.tag == tag), None) if repository else None

    def newest_release(self, owner: str, name: str) -> Release | None:
        """What `/releases/latest` means: the newest by time, which is another thing than the tag `latest`."""
        repository = self.find(owner, name)
        return max(repository.releases, key=lambda one: (one.published, one.id), default=None) if repository else None

    def asset(self, owner: str, name: str, tag: str, asset_name: str) -> Asset | None:
        release = self.release(owner, name, tag)
        return next((one for one in release.assets if one.name == asset_name), None) if release else None

    def version(self, component: str, wanted: str | None) -> str | None:
        """The version that lab would install; the channel's newest is the title of the release `latest`."""
        release = self.release(OWNER, component, wanted or "latest")
        return release.name if release else None

    def broken(self, component: str, version: str) -> str:
        """How the published version is broken: `install`, `start`, or not at all."""
        repository = self.find(OWNER, component)
        rows = repository.releases if repository else []
        return next((release.broken for release in rows if release.name == version and release.broken), "")

    # -- statuses

    def add_status(self, repository: Repository, sha: str, fields: dict[str, str], creator: str) -> Status | None:
        """Each call adds a row; the newest of a context counts (V). None: no such commit; only the full sha is known."""
        if not _FULL_SHA.fullmatch(sha) or sha not in repository.commits:
            return None
        made = Status(id=self._forge.next_id(), sha=sha, creator=creator, created=self._realm.now(), **fields)
        repository.statuses.append(made)
        return made

    def statuses(self, repository: Repository, sha: str) -> list[Status]:
        """Newest first."""
        return [status for status in reversed(repository.statuses) if status.sha == sha]
