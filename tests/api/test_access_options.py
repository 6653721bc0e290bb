"""What the options of `run` come to: who may look, and what is refused because anybody could."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from api.access.access import Access
from api.access.options import AskedAccess, access_of
from api.complaint import Complaint
from api.server import place
from controller.admission import hash_of, new_token
from controller.records import Seal
from controller.running import Controller
from controller.tokens import PutToken, TokenRecord
from reconcilers.secret import Secret
from tests.controller.fakes import START

PUBLIC = "https://testers.example.org"


@pytest.fixture
async def ready(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """With the application's secret sealed."""
    await controller.store.write(Seal("shared/sign-in", Secret("gto_secret-of-the-application"), START))
    return controller


async def come_to(
    controller: Controller, listen: str = "127.0.0.1:8484", *, app: tuple[str, str] = ("", ""), public: str = ""
) -> Access:
    return await access_of(AskedAccess(*app, public), controller, place(listen))


APP = ("id-1", "shared/sign-in")


async def test_on_loopback_with_nothing_asked_for_nobody_proves_anything(ready: Controller) -> None:
    for public in ("", "http://localhost:8484", "http://127.0.0.1:9000"):
        access = await come_to(ready, public=public)
        assert (access.demanded, access.sign_in) == (False, None)


async def test_a_public_address_means_that_people_come_from_elsewhere(
    ready: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a proxy everybody seems to be on this machine."""
    with caplog.at_level(logging.WARNING, logger="controller"):
        assert (await come_to(ready, public=PUBLIC)).demanded
    assert "nobody can look" in caplog.text


async def test_with_a_sign_in_everybody_proves_who_they_are(ready: Controller) -> None:
    here = await come_to(ready, app=APP)
    assert here.demanded
    assert here.base == "http://127.0.0.1:8484"
    assert not here.jar.secure
    there = await come_to(ready, app=APP, public=PUBLIC)
    assert there.jar.secure
    assert there.is_ours("testers.example.org")
    assert not there.is_ours("10.0.0.1")


async def test_beyond_loopback_one_of_the_two_is_needed(ready: Controller) -> None:
    for listen in ("0.0.0.0:8484", "[::]:8484", "192.168.1.4:80", "[::ffff:10.0.0.1]:80"):
        with pytest.raises(Complaint, match="nobody could prove who they are"):
            await come_to(ready, listen)
    await ready.store.write(PutToken(TokenRecord("old", hash_of(new_token()), START, START)))
    with pytest.raises(Complaint, match="nobody could prove"):
        await come_to(ready, "0.0.0.0:8484")
    await ready.store.write(PutToken(TokenRecord("new", hash_of(new_token()), START, START.replace(year=2027))))
    access = await come_to(ready, "0.0.0.0:8484")
    assert access.demanded
    assert access.is_ours("10.0.0.1:8484")
    assert access.is_ours("[fd00::1]:8484")
    assert not access.is_ours("evil.example")
    assert (await come_to(ready, "0.0.0.0:8484", app=APP, public=PUBLIC)).demanded


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"app": ("id-1", "")}, "belong together"),
        ({"app": ("", "shared/sign-in")}, "belong together"),
        ({"app": ("id-1", "shared/nothing")}, "is not there"),
        ({"app": ("id-1", "Not A Reference")}, "--sign-in-secret"),
        ({"app": APP, "listen": "0.0.0.0:80"}, "needs --public-url"),
        ({"app": APP, "public": "http://testers.example.org"}, "must begin with https://"),
        ({"app": APP, "public": f"{PUBLIC}/testers"}, "without a path"),
    ],
)
async def test_what_cannot_be_is_said(ready: Controller, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(Complaint, match=words):
        await come_to(ready, **asked)


async def test_the_secret_may_come_from_a_file(ready: Controller, tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "sign-in").write_text("gto_secret-from-a-file\n")
    access = await come_to(ready, app=("id-1", "file:sign-in"))
    assert access.sign_in is not None
    assert access.sign_in.secret.text() == "gto_secret-from-a-file"
    assert "gto_" not in repr(access)
