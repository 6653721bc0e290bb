"""A repository over real SSH: the key that was given and no other, and only a server whose host key is known."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from controller.sources.mirror import GitError, Mirror, Repository

WHO = ("-c", "user.name=Mik", "-c", "user.email=mik@example.test", "-c", "commit.gpgsign=false")


@dataclass
class Site:
    """A server on loopback, one repository, and who may come in."""

    url: str
    sha: str
    key: Path
    known_hosts: Path
    root: Path

    def mirror(self, key: Path | None = None, known_hosts: Path | None = None) -> Mirror:
        repository = Repository(self.url, key=key or self.key, known_hosts=known_hosts or self.known_hosts)
        return Mirror(repository, self.root / "mirror")


def written(path: Path) -> asyncssh.SSHKey:
    made = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(made.export_private_key())
    return made


def with_one_commit(repository: Path) -> str:
    """Its sha."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(repository)], check=True)
    subprocess.run(["git", *WHO, "commit", "--quiet", "--allow-empty", "-m", "one"], cwd=repository, check=True)
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    return told.stdout.strip()


async def upload(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """What a git server does for a fetch."""
    assert process.command is not None
    verb, path = process.command.split()
    git = await asyncio.create_subprocess_exec(
        *("git", verb.removeprefix("git-"), path.strip("'")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.redirect(stdin=git.stdin, stdout=git.stdout, stderr=git.stderr)
    process.exit(await git.wait())


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("HOME", str(tmp_path))  # nothing of the developer's own
    repository = tmp_path / "fleet.git"
    sha = with_one_commit(repository)
    host, mine = written(tmp_path / "host_key"), written(tmp_path / "key")
    written(tmp_path / "other_key")
    (tmp_path / "authorized").write_bytes(mine.export_public_key())
    async with asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(tmp_path / "authorized"),
        process_factory=upload,
        encoding=None,
    ) as server:
        port = server.sockets[0].getsockname()[1]
        known = tmp_path / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
        yield Site(f"ssh://git@127.0.0.1:{port}{repository}", sha, tmp_path / "key", known, tmp_path)


async def test_with_our_key_and_its_host_key(site: Site) -> None:
    assert await site.mirror().fetch() == site.sha


async def test_another_key_is_refused_and_nothing_is_asked(site: Site) -> None:
    with pytest.raises(GitError, match="Permission denied"):
        await site.mirror(key=site.root / "other_key").fetch()


async def test_a_server_that_is_not_known_is_not_talked_to(site: Site) -> None:
    (site.root / "nobody").write_text("")
    with pytest.raises(GitError, match="Host key verification failed"):
        await site.mirror(known_hosts=site.root / "nobody").fetch()
    assert not (site.root / ".ssh" / "known_hosts").exists()
