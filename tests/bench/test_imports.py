"""Every benchmark begins: what it takes from the program is still there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

PARTS = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("test_"))


@pytest.mark.parametrize("part", PARTS)
def test_a_benchmark_can_be_begun(part: str) -> None:
    assert import_module(f"tests.bench.{part}").__doc__
