"""The options that make a repository the source: what cannot be is said at the start, and secrets come by reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from api.books import IN_MEMORY
from api.complaint import Complaint
from api.git_options import GitOptions, checked_public_url, doorbell_secret, from_git
from controller.places import Places
from controller.store import Keyring, Store
from reconcilers.clock import SystemClock

ASKED = GitOptions(
    url="https://forge.example.test/team/fleet.git",
    branch="main",
    path="/fleet/",
    user="token",
    token="",
    key=None,
    known_hosts=None,
    webhook_secret="",
    public_url="",
    comments=False,
)


@pytest.fixture
async def store() -> Store:
    return await Store.open(IN_MEMORY, Keyring.generate(), SystemClock())


@pytest.fixture
def where(tmp_path: Path) -> Places:
    (tmp_path / "token").write_text("t0ken of the fleet\n")
    (tmp_path / "hook").write_text("a secret that is long enough\n")
    return Places(tmp_path / "fleet", tmp_path / "state", secrets=tmp_path)


async def test_a_repository_with_its_credentials(where: Places, store: Store, tmp_path: Path) -> None:
    asked = replace(ASKED, token="file:token", known_hosts=tmp_path / "hook", webhook_secret="file:hook")
    made = await from_git(asked, where, store)
    assert made is not None
    assert made.repository.token is not None
    assert made.repository.token.text() == "t0ken of the fleet"
    assert made.repository.folder == "fleet"
    secret = await doorbell_secret(asked, where, store)
    assert secret is not None
    assert secret.text() == "a secret that is long enough"
    assert "t0ken" not in repr(made)


async def test_without_a_repository_the_folder_is_the_source(where: Places, store: Store) -> None:
    assert await from_git(replace(ASKED, url="", path=""), where, store) is None
    with pytest.raises(Complaint, match="--path, --comment-plans: of use only with --git"):
        await from_git(replace(ASKED, url="", comments=True), where, store)
    assert await doorbell_secret(ASKED, where, store) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "ftp://forge.example.test/x"}, "ftp"),
        ({"url": "https://mik:pass@forge.example.test/x"}, "--git-token"),
        ({"branch": "-x"}, "no name of a branch"),
        ({"token": "t0ken of the fleet"}, "--git-token"),
        ({"token": "file:nowhere"}, "set it"),
        ({"key": Path("/nowhere/key")}, "--git-key"),
    ],
)
async def test_what_cannot_be_is_said(where: Places, store: Store, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(Complaint, match=said) as caught:
        await from_git(replace(ASKED, **wrong), where, store)  # type: ignore[arg-type]
    assert "pass@" not in str(caught.value).replace(str(wrong.get("url", "")), "")
    assert "t0ken of the fleet" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [("short", "less than 16"), ("", "set it"), ("  \n", "set it")])
async def test_a_secret_of_the_webhook_that_is_none_is_refused(
    where: Places, store: Store, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "hook").write_text(content)
    with pytest.raises(Complaint, match=said):
        await doorbell_secret(replace(ASKED, webhook_secret="file:hook"), where, store)


async def test_a_webhook_without_a_repository_is_refused(where: Places, store: Store) -> None:
    with pytest.raises(Complaint, match="--git"):
        await doorbell_secret(replace(ASKED, url="", webhook_secret="file:hook"), where, store)


@pytest.mark.parametrize(
    "url", ["testers.example.test", "javascript:alert(1)", "https://a b", "https://x/?q", "https://u@x"]
)
def test_an_address_of_the_pages_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Complaint, match="--public-url"):
        checked_public_url(url)
    assert checked_public_url("https://testers.example.test/") == "https://testers.example.test"
