"""Mail: Resend's answers, its memory for keys, and what reaches the mailbox, by HTTP and by SMTP."""

import asyncio
import json
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.simulator.http import Answer, Request
from examples.simulator.post import KEY_KEPT
from examples.simulator.records import Fault
from examples.simulator.server import serving
from examples.simulator.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.conftest import Town, Virtually

MAIL = {"from": "Hero <hero@example.org>", "to": ["alice@example.org"], "subject": "Welcome", "text": "password: hush"}


async def sent(town: "Town", body: Any = MAIL, key: str | None = "k-1", bearer: str | None = None) -> Answer:
    token = town.world.post.state.resend_key if bearer is None else bearer
    headers = {"authorization": f"Bearer {token}"} | ({"idempotency-key": key} if key is not None else {})
    return await town.world.ask_mail(Request("POST", "/emails", headers=headers, body=json.dumps(body).encode()))


def test_the_same_key_sends_once_for_a_day(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        first = await sent(town)
        assert first.status == 200
        assert (await sent(town)).json() == first.json()
        assert len(town.world.mailbox) == 1
        other = await sent(town, {**MAIL, "text": "something else"})
        assert (other.status, other.json()["name"]) == (409, "invalid_idempotent_request")
        assert town.world.violations == []
        await town.world.clock.sleep(KEY_KEPT)
        assert (await sent(town)).json() != first.json()
        assert [one.kind for one in town.world.violations] == ["SecondMail"]

    virtually(scenario())


def test_other_keys_and_other_people_are_other_mails(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await sent(town)
        await sent(town, key="k-2")
        await sent(town, key=None)
        await sent(town, key=None)
        assert [mail.key for mail in town.world.mailbox] == ["k-1", "k-2", "", ""]
        assert town.world.violations == []

    virtually(scenario())


@pytest.mark.parametrize(
    ("body", "key", "bearer", "status", "name"),
    [
        (MAIL, "k", "", 401, "missing_api_key"),
        (MAIL, "k", "re_wrong", 403, "invalid_api_key"),
        (MAIL, "", None, 400, "invalid_idempotency_key"),
        (MAIL, "k" * 257, None, 400, "invalid_idempotency_key"),
        ({**MAIL, "to": []}, "k", None, 422, "missing_required_field"),
        ({**MAIL, "text": ""}, "k", None, 422, "missing_required_field"),
        ({**MAIL, "to": "nobody"}, "k", None, 422, "validation_error"),
        ({**MAIL, "from": "nobody"}, "k", None, 422, "invalid_from_address"),
        ([], "k", None, 422, "validation_error"),
    ],
)
def test_refusals(
    town: "Town", virtually: "Virtually", body: Any, key: str, bearer: str | None, status: int, name: str
) -> None:
    async def scenario() -> None:
        answer = await sent(town, body, key, bearer)
        said = answer.json()
        assert (answer.status, said["statusCode"], said["name"]) == (status, status, name)
        assert said["message"]
        assert town.world.mailbox == []

    virtually(scenario())


def test_a_lost_answer_is_still_a_mail(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.faults.add(Fault(system="mail", method="POST /emails", kind="answer_lost", target="alice@*"))
        assert (await sent(town)).delivery == "cut"
        assert (await sent(town)).json() == {"id": town.world.mailbox[0].id}
        assert len(town.world.mailbox) == 1

    virtually(scenario())


def test_too_many_mails(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        options = {"retry_after": 7}
        town.world.faults.add(Fault(system="mail", method="POST /emails", kind="rate_limited", options=options))
        answer = await sent(town)
        assert (answer.status, answer.json()["name"], answer.header("retry-after")) == (
            *(429, "rate_limit_exceeded"),
            "7",
        )
        town.world.faults.add(Fault(system="mail", method="POST *", kind="refused", target="alice*"))
        assert (await sent(town)).status == 403
        assert (await sent(town)).status == 200

    virtually(scenario())


def test_the_books_keep_the_content_to_themselves(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await sent(town)
        assert "hush" not in json.dumps(town.world.books())
        assert [row["subject"] for row in town.world.books()["mailbox"]] == ["Welcome"]
        newest = town.world.drift.do("mail")
        assert newest["text"] == "password: hush"
        assert town.world.drift.mail("Alice@example.org") == newest == town.world.drift.mail(newest["id"])
        with pytest.raises(KeyError):
            town.world.drift.mail("bob@example.org")
        assert all("hush" not in entry.what for entry in town.world.log)

    virtually(scenario())


def letter(key: str = "welcome-1@example.org") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "hero@example.org", "alice@example.org", "Grüße"
    mail["Message-ID"], mail["Reply-To"] = f"<{key}>", "mik@example.org"
    mail.set_content("Zeile\n.Punkt\n")
    mail.add_alternative("<p>Zeile</p>", subtype="html")
    return mail


async def test_smtp(tmp_path: "Path") -> None:
    world = World(speed=600, state_dir=tmp_path)
    async with serving(world, tmp_path) as addresses:

        def posted(login: str | None = None) -> None:
            with smtplib.SMTP(addresses.smtp_host, addresses.smtp_port, timeout=30) as smtp:
                if login is not None:
                    smtp.login(addresses.smtp_user, login)
                smtp.send_message(letter())

        async def fails(error: type[Exception], act: Callable[[], None] = posted) -> int:
            with pytest.raises(error):
                await asyncio.to_thread(act)
            return len(world.mailbox)

        assert await fails(smtplib.SMTPAuthenticationError, lambda: posted("wrong")) == 0
        world.faults.add(Fault(system="mail", method="smtp RCPT", kind="refused", target="alice*"))
        assert await fails(smtplib.SMTPRecipientsRefused) == 0
        world.faults.add(Fault(system="mail", method="smtp DATA", kind="rate_limited"))
        assert await fails(smtplib.SMTPDataError) == 0
        world.faults.add(Fault(system="mail", method="smtp DATA", kind="answer_lost"))
        assert await fails(smtplib.SMTPServerDisconnected) == 1
        mail = world.mailbox[0]
        assert (mail.how, mail.to, mail.subject, mail.key) == (
            *("smtp", ["alice@example.org"], "Grüße"),
            "welcome-1@example.org",
        )
        assert (mail.text, mail.html, mail.reply_to) == ("Zeile\n.Punkt\n", "<p>Zeile</p>\n", ["mik@example.org"])
        await asyncio.to_thread(posted, addresses.smtp_password)
        assert [one.kind for one in world.violations] == ["SecondMail"]
        async with httpx.AsyncClient(base_url=addresses.resend_url, timeout=30) as resend:
            headers = {"Authorization": f"Bearer {addresses.resend_key}", "Idempotency-Key": "k"}
            assert (await resend.post("/emails", json=MAIL, headers=headers)).json() == {"id": world.mailbox[-1].id}
            assert (await resend.get("/emails")).status_code == 405
    again = World(speed=600, state_dir=tmp_path)
    assert again.mailbox == world.mailbox
