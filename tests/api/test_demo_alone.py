"""One demo to a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.complaint import Complaint
from api.demo.alone import alone


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with alone(tmp_path / "state"):
        with pytest.raises(Complaint, match="Another demo runs in"), alone(tmp_path / "state"):
            raise AssertionError("two at once")
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "state"):
        pass
