"""`testerctl token`: shown once, kept as a hash, listed, revoked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from controller.admission import MARK, Admission
from controller.places import Places, opened_store
from reconcilers.clock import SystemClock
from reconcilers.secret import Secret
from tests.api.conftest import Terminal


def holder(state: Path, token: str) -> str | None:
    """Whose token the controller takes it for."""

    async def ask() -> str | None:
        async with opened_store(Places(state, state), SystemClock()) as store:
            return await Admission(store, SystemClock()).holder(Secret(token))

    return asyncio.run(ask())


def test_a_token_is_shown_once_and_opens_until_it_is_revoked(testerctl: Terminal, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert testerctl("token", "make", "prometheus", "--days", 30, "--state", state) == 0
    token = testerctl.out.strip()
    assert token.startswith(MARK)
    assert len(token) > 40
    assert testerctl.out == f"{token}\n", "alone, so that it can go into a file"
    assert token not in testerctl.err

    assert testerctl("token", "list", "--state", state) == 0
    assert [word in testerctl.out for word in ("prometheus", "in 29 d", "never", token)] == [True, True, True, False]
    assert holder(state, token) == "prometheus"
    assert testerctl("token", "list", "--state", state, "-o", "json") == 0
    [told] = json.loads(testerctl.out)
    assert set(told) == {"name", "madeAt", "expiresAt", "lastUsedAt"}
    assert told["lastUsedAt"] is not None

    assert testerctl("token", "make", "prometheus", "--state", state) == 1
    assert "revoke it first" in testerctl.err
    assert testerctl("token", "revoke", "prometheus", "--state", state) == 0
    assert holder(state, token) is None
    assert testerctl("token", "revoke", "prometheus", "--state", state) == 1


def test_two_tokens_are_two(testerctl: Terminal, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        assert testerctl("token", "make", name, "--state", tmp_path / "state") == 0
        made.append(testerctl.out.strip())
    assert made[0] != made[1]
    assert [holder(tmp_path / "state", one) for one in made] == ["one", "two"]
    for file in (tmp_path / "state").iterdir():
        assert not any(one.encode() in file.read_bytes() for one in made), file


@pytest.mark.parametrize("days", ["0", "-1", "4000", "x"])
def test_a_token_holds_some_days(testerctl: Terminal, tmp_path: Path, days: str) -> None:
    assert testerctl("token", "make", "one", "--days", days, "--state", tmp_path / "state") == 1
    assert testerctl.out == ""
