"""What all tests share: skipping for want of a tool says which package has it, and on a build machine it is a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator

import pytest

TOOLS = {"chromium": "chromium", "openssh-server": "sshd", "git": "git", "busybox": "busybox"}
PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

Needs = Callable[[str], str]


@pytest.fixture(scope="session")
def needs() -> Needs:
    """`needs("busybox")` gives the path of the package's tool, or skips the test, naming the Debian package to install."""

    def find(package: str) -> str:
        path = shutil.which(TOOLS[package], path=PATHS)
        if path is None:
            pytest.skip(f"{TOOLS[package]} is not there: apt-get install {package}")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On a build machine (CI) everything is there, so a skip hides something: it counts as a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI is set: {reason}"
    return report
