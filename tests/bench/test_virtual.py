"""What the benchmark says is held for one seed: the controller adds at most a tenth to the waits that nobody can avoid."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.chain import READY, ends
from tests.bench.figures import TARGET_CHAIN, seen_ends
from tests.bench.virtual import measure_ours


def test_a_cold_tester_is_ready_a_tenth_after_the_longest_chain_at_most(tmp_path: Path) -> None:
    cold, waits, log = measure_ours(tmp_path, seed=1)
    least = ends(waits)[READY]
    assert least <= cold.took <= TARGET_CHAIN * least, "\n".join(cold.told())
    assert seen_ends(log, cold)[READY] == pytest.approx(cold.took, abs=0.01), "the letter is the last of it"
