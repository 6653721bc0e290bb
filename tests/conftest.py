"""What all tests share: skipping for want of a tool says which package has it, and on a build machine it is a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import URL

TOOLS = {"chromium": "chromium", "openssh-server": "sshd", "git": "git", "busybox": "busybox"}
PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

Needs = Callable[[str], str]

# An example that takes long has found a busy machine, and no mistake.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if os.environ.get("STORE") == "postgresql":
    pytest_plugins = ["tests.on_postgresql"]


@pytest.fixture(scope="session")
def needs() -> Needs:
    """`needs("busybox")` gives the path of the package's tool, or skips the test, naming the Debian package to install."""

    def find(package: str) -> str:
        path = shutil.which(TOOLS[package], path=PATHS)
        if path is None:
            pytest.skip(f"{TOOLS[package]} is not there: apt-get install {package}")
        return path

    return find


@pytest.fixture(scope="session", autouse=True)
def tables_at_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new store on SQLite begins as a copy of an empty one: to make the tables costs more than most tests. How they are made
    is tried where `migrations` itself is called (tests/controller/store)."""
    from controller.store import migrations, store
    from controller.store.address import is_postgres

    blank: list[bytes] = []

    def upgrade(url: URL) -> None:
        file = Path(str(url.database))
        with contextlib.suppress(OSError):
            if not is_postgres(url) and not file.exists() and file.parent.is_dir():
                if not blank:
                    made = tmp_path_factory.mktemp("blank") / "store.db"
                    migrations.upgrade(url.set(database=str(made)))
                    blank.append(made.read_bytes())
                with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as begun:
                    begun.write(blank[0])
        migrations.upgrade(url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "migrations", SimpleNamespace(upgrade=upgrade))
        yield


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
