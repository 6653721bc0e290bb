"""Lesson 39: the welcome letter, exactly once, with everything in it, and nothing secret kept longer than needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from api.commands.reveal import reveal
from api.complaint import Complaint
from examples.simulator.forge import digest
from reconcilers.letters import EARLIER_PASSWORD, OWN_PASSWORD
from tests.lessons.conftest import LEAN, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

BOB = {"identity": {"account": "bob", "email": "bob@example.org", "existing": True}}


def letter_to(w: Rig, address: str) -> str:
    """The text of the one letter that this person got."""
    (mail,) = [mail for mail in w.world.mailbox if mail.to == [address]]
    return mail.text


async def sealed(w: Rig, name: str) -> set[str]:
    """What of this tester is kept encrypted, by short name."""
    books = await w.store.books(name)
    assert books is not None
    return {each.partition("/")[2] for each in books.sealed}


@in_virtual_time
async def test_lesson_39_the_letter_tells_account_password_and_link_and_the_password_is_erased(tmp_path: Path) -> None:
    alice = {"identity": {"account": "Alice-B", "email": "alice@example.org"}}
    async with world(tmp_path, {"alice": alice}, fleet=LEAN) as w:
        await w.until(lambda: w.books()["made_accounts"], "her account")
        assert "one_time_password" in await sealed(w, "alice")
        await w.ready("alice")
        text = letter_to(w, "alice@example.org")
        assert re.search(r"^\s*Account: +Alice-B$", text, re.M), text
        assert f"https://{w.fqdn('alice')}/hero_cockpit/web/" in text
        passwords = [word for word in text.split() if digest(word) == w.world.forge.need_account("Alice-B").password]
        assert len(passwords) == 1
        assert await sealed(w, "alice") & {"one_time_password", "welcome_letter"} == set()
        with pytest.raises(Complaint, match=r"was mailed to alice@example\.org and erased"):
            await reveal("alice", w.store, w.clock)
        state = b"".join(each.read_bytes() for each in w.places.state.iterdir() if each.is_file())
        assert passwords[0].encode() not in state


@in_virtual_time
async def test_lesson_39_who_had_an_account_is_told_to_use_their_own_password(tmp_path: Path) -> None:
    async with world(tmp_path, {"robert": BOB}, fleet=LEAN) as w:
        await w.ready("robert")
        text = letter_to(w, "bob@example.org")
        assert OWN_PASSWORD in text
        assert re.search(r"^\s*Account: +bob$", text, re.M), text
        assert f"https://{w.fqdn('robert')}/hero_cockpit/web/" in text
        assert "one-time" not in text


def account_deleted(w: Rig) -> str:
    w.world.drift.delete_account("alice")
    return "alice"


def account_renamed_in_the_spec(w: Rig) -> str:
    w.edit("alice", identity={"account": "alice-c", "email": "alice-c@example.org"})
    return "alice-c"


@pytest.mark.parametrize("harm", [account_deleted, account_renamed_in_the_spec])
def test_lesson_39_the_password_of_an_account_that_is_made_anew_is_told(
    tmp_path: Path, harm: Callable[[Rig], str]
) -> None:
    """Whatever the reason, once, and only when Forge has the account; a repeated welcome then points to that letter."""

    @in_virtual_time
    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            await w.ready("alice")
            broken = fault("forge", "POST *users", "throttled", times=3, retry_after=30)
            w.world.drift.add_fault(**broken)
            account = harm(w)
            await w.until(lambda: len(w.world.mailbox) == 2, "the letter")
            assert w.world.faults.rows[-1].times == 0, "the first tries to make it were refused"
            password = w.world.forge.need_account(account).password
            letter = w.world.mailbox[-1]
            assert [digest(word) for word in letter.text.split()].count(password) == 1
            assert re.search(rf"^\s*Account: +{account}$", letter.text, re.M), letter.text
            await w.run_for(timedelta(hours=1))
            await w.ready("alice")
            assert len(w.world.mailbox) == 2
            assert await sealed(w, "alice") & {"one_time_password", "welcome_letter"} == set()

            w.edit("alice", welcomeEmail={"resend": 1})
            await w.until(lambda: len(w.world.mailbox) == 3, "the welcome, repeated")
            assert EARLIER_PASSWORD in w.world.mailbox[-1].text
            assert OWN_PASSWORD not in w.world.mailbox[-1].text

    life()


@pytest.mark.parametrize(
    ("kind", "killed"),
    [("answer_lost", False), ("answer_lost", True), ("timeout_after_effect", True), ("rate_limited", False)],
)
def test_lesson_39_one_letter_goes_out_whatever_becomes_of_the_answer(tmp_path: Path, kind: str, killed: bool) -> None:
    """A lost answer is asked for with the same key, also by the next life of the controller."""

    @in_virtual_time
    async def life() -> None:
        spoilt = fault("mail", "POST /emails", kind)
        async with world(tmp_path, ["alice"], fleet=LEAN, faults=[spoilt]) as w:
            await w.until(lambda: w.world.faults.rows[0].times == 0, "the provider is asked")
            if killed:
                await w.restart()
            await w.ready("alice")
            await w.run_for(timedelta(hours=2))
            assert len(w.world.mailbox) == 1
            assert await sealed(w, "alice") & {"one_time_password", "welcome_letter"} == set()

    life()


@in_virtual_time
async def test_lesson_39_a_refused_letter_is_told_and_sent_when_it_can_be(tmp_path: Path) -> None:
    refused = fault("mail", "POST /emails", "refused", times=None)
    async with world(tmp_path, ["alice"], fleet=LEAN, faults=[refused]) as w:

        async def stopped() -> bool:
            found = (await w.conditions("alice")).get("Welcome")
            return found is not None and "not verified" in found.message

        await w.until(stopped, "the refusal is told")
        assert "one_time_password" in await sealed(w, "alice"), "nobody has it yet"
        assert w.world.mailbox == []
        w.world.drift.clear_faults()
        await w.ready("alice")
        assert len(w.world.mailbox) == 1


@in_virtual_time
async def test_lesson_39_without_a_key_for_mail_it_is_logged_as_not_sent(tmp_path: Path) -> None:
    """The password is kept then: an admin hands it over."""
    async with world(tmp_path, ["alice"], fleet={**LEAN, "mail": None}) as w:
        await w.ready("alice")
        sent = (await w.conditions("alice"))["WelcomeSent"]
        assert (sent.status, sent.reason) == ("False", "NotSent")
        assert "testerctl reveal alice" in sent.message
        assert [each for each in await told(w, "alice") if each.startswith("LetterLogged: ")]
        assert w.world.mailbox == []
        _, password = await reveal("alice", w.store, w.clock)
        assert digest(password.text()) == w.world.forge.need_account("alice").password
        await w.run_for(timedelta(hours=2))
        assert "one_time_password" in await sealed(w, "alice")
