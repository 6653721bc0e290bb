"""A small crowd, so that the tool for large ones (`make crowd`) is known to work, and finds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replicas.crowd import all_befalls_them, crowd_of


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_small_crowd_bears_what_befalls_it(tmp_path: Path) -> None:
    said: list[str] = []
    async with crowd_of(tmp_path, testers=3, seed=1, speed=120, timing={"resync": "20s"}) as crowd:
        assert await all_befalls_them(crowd, replicas=2, faults=2, limit=300, say=said.append) == [], said
        assert len(crowd.wanted) == 3
        assert crowd.removed
