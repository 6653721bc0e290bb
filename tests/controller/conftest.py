"""What the engine's tests share: a clock that stands still, and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store import KeySource, Store
from tests.controller.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """A real SQLite store with a key of its own."""
    opened = await Store.open(f"sqlite:///{tmp_path / 'controller.db'}", KeySource({}, tmp_path / "sealing.key"), clock)
    yield opened
    await opened.aclose()
