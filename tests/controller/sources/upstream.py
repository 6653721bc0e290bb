"""A repository that people push to, and small specs to push."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from specs.fleet import Fleet

FLEET = (Path(__file__).parents[3] / "examples" / "fleet" / "fleet.yaml").read_bytes()
WHO = ("-c", "user.name=Mik", "-c", "user.email=mik@example.test", "-c", "commit.gpgsign=false")


def tester(name: str) -> str:
    body = {"identity": {"email": f"{name}@example.org"}}
    return yaml.safe_dump({"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": name}, "spec": body})


class Upstream:
    """A repository that people push to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch", "main", str(path), at=path.parent)

    def git(self, *arguments: str, at: Path | None = None, feed: str = "") -> str:
        done = subprocess.run(
            ["git", *WHO, *arguments], cwd=at or self.path, input=feed, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def save(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, subject: str = "a change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


async def nobody() -> tuple[frozenset[str], Fleet | None]:
    return frozenset(), None
