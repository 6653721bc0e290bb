"""Real replicas, real PostgreSQL: testers are shared, and taken over from those that fail."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.rig import FEW
from tests.replicas.fleet import replicas_of


@pytest.mark.long
async def test_testers_are_shared_and_taken_over(tmp_path: Path, empty_postgres_url: str) -> None:
    names = [f"t{number}" for number in range(6)]
    async with replicas_of(tmp_path, empty_postgres_url, {name: {} for name in names}, **FEW) as fleet:
        first = await fleet.begin()
        await fleet.begin()
        await fleet.shared_by(2)
        await fleet.ready(names)
        first.send(signal.SIGKILL)
        await fleet.shared_by(1)
        assert await fleet.looked_at_again() == set()
        assert await fleet.begun_too_late() == []
