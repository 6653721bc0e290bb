"""The scripts for a repository of specs: what is broken is not committed, and does not pass where it is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "repository"
TESTERCTL = Path(sys.executable).parent / "testerctl"
WHO = ("-c", "user.name=Mik", "-c", "user.email=mik@example.test", "-c", "commit.gpgsign=false")


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch", "main", str(path), at=path.parent)
        shutil.copytree(ROOT / "examples" / "fleet", path / "fleet")
        shutil.copy(SCRIPTS / "hooks" / "pre-commit", path / ".git" / "hooks" / "pre-commit")

    def git(self, *arguments: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "TESTERCTL": str(TESTERCTL)}
        command = ["git", *WHO, *arguments]
        return subprocess.run(command, cwd=at or self.path, env=environment, capture_output=True, text=True)

    def break_alice(self) -> str:
        path = self.path / "fleet" / "alice.yaml"
        whole = path.read_text()
        path.write_text(whole + "nonsense: true\n")
        return whole


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_a_broken_file_is_not_committed_and_a_sound_one_is(repository: Repository) -> None:
    whole = repository.break_alice()
    repository.git("add", "--all")
    (repository.path / "fleet" / "alice.yaml").write_text(whole)  # mended in the work tree, and not staged
    refused = repository.git("commit", "-m", "a slip of the pen")
    assert refused.returncode != 0
    assert "alice.yaml:" in refused.stdout + refused.stderr
    repository.git("add", "--all")
    assert repository.git("commit", "-m", "mended").returncode == 0


def test_what_is_no_spec_is_nobodys_affair(repository: Repository) -> None:
    repository.break_alice()
    (repository.path / "README.md").write_text("About us\n")
    repository.git("add", "README.md")
    assert repository.git("commit", "-m", "words").returncode == 0


def test_the_script_of_the_workflow_fails_where_a_file_is_broken(repository: Repository) -> None:
    environment = {"PATH": f"{TESTERCTL.parent}:/usr/bin:/bin", "HOME": str(repository.path)}
    script = [str(SCRIPTS / "validate.sh"), "fleet"]
    good = subprocess.run(script, cwd=repository.path, env=environment, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    repository.break_alice()
    bad = subprocess.run(script, cwd=repository.path, env=environment, capture_output=True, text=True)
    assert bad.returncode != 0
    assert "alice.yaml:" in bad.stdout + bad.stderr


def test_without_the_program_the_script_says_what_to_do(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([str(SCRIPTS / "validate.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "TESTERCTL_FROM" in done.stderr


def test_the_workflow_runs_the_script() -> None:
    workflow = yaml.safe_load((SCRIPTS / ".forgejo" / "workflows" / "validate.yaml").read_text())
    steps = workflow["jobs"]["specs"]["steps"]
    assert "./validate.sh fleet" in [step.get("run") for step in steps]
