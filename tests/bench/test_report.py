"""Figures as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.report import Figure, Report, median


def a_report() -> Report:
    report = Report("noop", versions={"asyncssh": "2.24"})
    ours = report.add(median("ours", [1.2, 0.9, 1.0], "ms", 200, goal=1.0))
    theirs = report.add(Figure("theirs", 50.0, "ms", 20))
    report.ratio("theirs / ours", theirs, ours, goal=75, least=True)
    return report


def test_the_ratio_comes_first_and_a_missed_goal_is_said() -> None:
    lines = a_report().as_text().splitlines()
    assert lines[0] == "noop"
    assert lines[2].startswith("theirs / ours")
    assert lines[2].endswith("n=20  goal >= 75: MISSED")
    assert lines[4].startswith("ours")
    assert lines[4].endswith("(0.9 to 1.2)  n=200  goal <= 1: met")


def test_every_figure_is_a_record_with_its_machine_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench" / "noop.json"
    a_report().told(file)
    told = json.loads(file.read_text())
    ratio, ours, _ = told["figures"]
    assert (ratio["ratio"], ratio["peer"], ratio["n"], ratio["met"]) == (50.0, "ours", 20, False)
    assert (ours["value"], ours["rounds"], ours["met"]) == (1.0, [1.2, 0.9, 1.0], True)
    assert {"processor", "cores", "load at start", "asyncssh"} <= told["measured"].keys()
    assert "theirs / ours" in capsys.readouterr().out
