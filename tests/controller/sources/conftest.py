"""What the tests of git sources share: a repository to push to, and sources of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.sources.git import GitSource
from controller.sources.mirror import Mirror, Repository
from reconcilers.clock import SystemClock
from tests.controller.sources.upstream import FLEET, Upstream, nobody, tester


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    made.save("fleet/fleet.yaml", FLEET)
    made.save("fleet/alice.yaml", tester("alice"))
    made.save("README.md", "not a spec")
    made.commit("alice comes")
    return made


@pytest.fixture
def before() -> list[str]:
    """The revision in force, as the store would tell."""
    return [""]


@pytest.fixture
def source_of(tmp_path: Path, before: list[str]) -> Callable[..., GitSource]:
    async def in_force() -> str:
        return before[0]

    def make(url: str, branch: str = "main", folder: str = "fleet") -> GitSource:
        mirror = Mirror(Repository(url, branch, folder), tmp_path / "mirror")
        return GitSource(mirror, SystemClock(), nobody, in_force)

    return make
