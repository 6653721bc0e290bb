"""What `make check` says, the test run says too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("specs", "reconcilers", "controller", "api", "examples", "tests")
CHECKS = {
    "types": ("mypy",),
    "layers": ("lint-imports",),
    "format": ("ruff", "format", "--check", *SOURCES),
    "lint": ("ruff", "check", *SOURCES),
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_of_make_check_pass(name: str) -> None:
    tool, *arguments = CHECKS[name]
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(CHECKS[name])}\n{done.stdout}\n{done.stderr}"
