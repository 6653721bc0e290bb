"""One controller to a state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.alone import alone
from api.complaint import Complaint


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path / "state"):
        with pytest.raises(Complaint, match="Another controller works with"), alone(tmp_path / "state"):
            raise AssertionError("two at once")
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "state"):
        pass
