"""A test that is skipped for want of a tool says which package has it; on a build machine it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
OURS = ("CI", "PYTEST_ADDOPTS", "STORE")
WITHOUT_TOOL = """
import shutil

def test_it(needs, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *arguments, **more: None)
    needs("busybox")
"""


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("variables", "code", "words"), [({}, 0, "1 skipped"), ({"CI": "true"}, 1, "1 failed")])
def test_a_missing_tool(tmp_path: Path, variables: dict[str, str], code: int, words: str) -> None:
    (tmp_path / "test_it.py").write_text(WITHOUT_TOOL)
    done = run(tmp_path, **variables)
    assert done.returncode == code, done.stdout
    assert words in done.stdout
    assert "apt-get install busybox" in done.stdout
