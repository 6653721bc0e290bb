"""Lessons 1 to 4: whose account it is, what our token is for and may do, names that are safe everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from examples.simulator.forge import digest
from examples.simulator.seeding import SCOPES
from tests.lessons.conftest import LEAN, asked, doctor, told
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world

ADOPTED = {"account": "bob", "email": "bob@example.org", "existing": True}


def forge_writes(w: Rig) -> list[str]:
    return [f"{entry.method} {entry.what}" for entry in w.writes() if entry.system == "forge"]


# ------------------------------------------------------------------ 1: create or adopt


@in_virtual_time
async def test_lesson_01_a_new_account_gets_a_one_time_password_that_must_be_changed(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        account = w.world.forge.need_account("alice")
        text = str(w.world.drift.mail("alice@example.org")["text"])
        (password,) = [word for word in text.split() if digest(word) == account.password]
        assert account.must_change
        assert len(password) >= 20
        assert password not in await w.trace()


@in_virtual_time
async def test_lesson_01_a_colleagues_account_is_adopted_and_never_changed(tmp_path: Path) -> None:
    """Whatever becomes of the tester, and whatever the spec says about its end."""
    async with world(tmp_path, {"robert": {"identity": ADOPTED}}, fleet=LEAN) as w:
        before = w.world.forge.need_account("bob").model_dump()
        await w.ready("robert")
        assert (await w.sign_in("robert", "bob"))[0] == 200
        assert "your own password" in w.world.drift.mail("bob@example.org")["text"]
        w.world.drift.disable_account("bob")
        await w.run_for(timedelta(minutes=12))
        assert w.books()["disabled_accounts"] == ["bob"], "that is not ours to mend"
        assert (await w.conditions("robert"))["AccountUsable"].reason == "AccountDisabled"
        w.world.drift.disable_account("bob", disabled=False)
        w.edit("robert", identity={**ADOPTED, "whenRemoved": "purge", "passwordReset": 1})
        await w.run_for(timedelta(minutes=1))
        assert "never changed or deleted" in (await asked(w, "/api/v1/testers/robert"))["tester"]["fileError"]
        w.remove("robert")
        await w.gone("robert")
        assert w.books()["vms"] == 0
        assert w.world.forge.need_account("bob").model_dump() == before
        assert not [each for each in forge_writes(w) if "users" in each]


@in_virtual_time
async def test_lesson_01_an_account_that_is_there_already_is_only_taken_when_the_spec_says_so(tmp_path: Path) -> None:
    stranger = {"identity": {"account": "bob", "email": "alice@example.org"}}
    async with world(tmp_path, {"alice": stranger}, fleet=LEAN) as w:
        before = w.world.forge.need_account("bob").model_dump()
        await w.run_for(timedelta(minutes=10))
        account = (await w.conditions("alice"))["Account"]
        assert (account.status, account.reason) == ("False", "AccountExists")
        assert "spec.identity.existing" in account.message
        assert w.books()["vms"] == 0
        w.remove("alice")
        await w.gone("alice")
        assert w.world.forge.need_account("bob").model_dump() == before


# ------------------------------------------------------------------ 2, 3: what our token is for, and what it may do


@in_virtual_time
async def test_lesson_02_nobody_makes_a_token_for_a_tester(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        before = dict(w.world.state.forge.tokens)
        await w.ready("alice")
        w.remove("alice")
        await w.gone("alice")
        calls = [entry for entry in w.world.log if entry.system == "forge" and "/api/v1" in entry.what]
        assert len(calls) > 10
        assert not [entry for entry in calls if entry.what.endswith("/tokens")]
        assert {entry.who for entry in calls} == {"controller"}
        assert w.world.state.forge.tokens == before


def no_site_admin(w: Rig, amiss: bool) -> None:
    w.world.drift.set_admin("controller", admin=not amiss)


def too_few_scopes(w: Rig, amiss: bool) -> None:
    """It may make accounts, and no OAuth apps: that was noticed half-way through."""
    (token,) = [each for each in w.world.state.forge.tokens.values() if each.account == "controller"]
    token.scopes[:] = ["write:admin"] if amiss else SCOPES


@pytest.mark.parametrize(
    ("harm", "lacking", "found", "mend"),
    [
        (no_site_admin, "write:admin", "who is no site admin", "make that account a site admin"),
        (too_few_scopes, "read:user", "is forbidden", ""),
    ],
)
def test_lesson_03_without_every_right_nothing_is_begun(
    tmp_path: Path, harm: Callable[[Rig, bool], None], lacking: str, found: str, mend: str
) -> None:
    async def life() -> None:
        async with world(tmp_path, [], fleet=LEAN) as w:
            harm(w, True)
            w.write("alice")
            await w.run_for(timedelta(minutes=15))
            assert {entry.system for entry in w.writes()} <= {"machine:admin"}, "engines know nothing of Forge's rights"
            account = (await w.conditions("alice"))["Account"]
            assert (account.status, account.reason) == ("False", "MissingRights")
            assert lacking in account.message
            (owner,) = [each for each in await doctor(w) if each.what == "token's owner"]
            assert (owner.verdict, found in owner.detail, mend in owner.mend) == ("wrong", True, True)
            harm(w, False)
            await w.ready("alice")

    run(life())


# ------------------------------------------------------------------ 4: names


@in_virtual_time
async def test_lesson_04_names_are_safe_and_the_account_keeps_its_own_spelling(tmp_path: Path) -> None:
    """Two testers whose safe names begin alike stay two."""
    email = "anna@example.org"
    testers = {"anna-maria": {"identity": {"account": "Anna-Maria.K", "email": email}}, "annamaria": {}}
    async with world(tmp_path, testers, fleet=LEAN) as w:
        await w.ready("anna-maria", "annamaria")
        assert {"Anna-Maria.K", "annamaria"} <= set(w.books()["accounts"])
        gateways = [gateway for _, gateway in w.world.grid.gateways()]
        assert len({gateway.name for gateway in gateways}) == 2
        assert all(re.fullmatch("annamaria[a-z0-9]+", gateway.name) for gateway in gateways)
        assert not [line for line in await told(w) if "invalid name" in line]
        hers = next(app for app in w.books()["apps"] if "anna-maria" in app["name"])
        fqdn = hers["redirect_uris"][0].split("/")[2]
        assert fqdn in {gateway.fqdn for gateway in gateways}
        label = fqdn.split(".")[0]
        assert [(await w.sign_in(label, user))[0] for user in ("Anna-Maria.K", "annamaria")] == [200, 403]
