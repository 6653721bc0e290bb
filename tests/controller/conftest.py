"""What the engine's tests share: a clock that stands still, and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.places import Places
from controller.store import KeySource, Store
from tests.controller.fakes import ManualClock
from tests.worlds.files import hurried, prepared


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """A real SQLite store with a key of its own. Its tables are copied, and nobody waits for the disk."""
    places = Places(tmp_path / "fleet", tmp_path)
    prepared(places)
    opened = await Store.open(places.url, KeySource({}, places.key_file), clock)
    hurried(opened)
    yield opened
    await opened.aclose()
