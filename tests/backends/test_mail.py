"""Mail over Resend's API and over a real SMTP server on loopback: what was sent, what each end means, what is never said."""

from __future__ import annotations

import asyncio
import json
import smtplib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconcilers.backends.hiding import without
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.mail import NOT_SENT, Letter, NoMailer, ResendMailer
from reconcilers.backends.mail_smtp import ANSWER_LIMIT, SmtpMailer
from reconcilers.backends.mail_smtp import SmtpServer as Where
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import (
    Blocked,
    OutcomeUnknown,
    OutsideError,
    Rejected,
    Throttled,
    Transient,
    Unreachable,
)
from reconcilers.secret import Secret
from tests.backends.smtp_server import HANG_UP, SILENCE, SmtpServer, self_signed

PASSWORD = "One-Time.Pass_word=24"
KEY = "re_secret-key-of-resend"
SMTP_PASSWORD = Secret("smtp-password-123456\n")
LETTER = Letter(
    "alice@example.org",
    "Hero OS ist bereit – los!",
    f"Grüße, Alice\n\n.One line begins with a dot\nYour password: {PASSWORD}.\nhttps://alicex1.gent.example.org/hero_cockpit/web/\n",
    f"<p>Grüße, Alice: <b>{PASSWORD}</b></p>",
    "welcome-alice-x7k2p9-0",
)


def gate() -> Gate:
    return Gate("mail", SystemClock(), 2, 1000)


# -- Resend


class Resend:
    """Answers one after the other, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def mailer(self, reply_to: str | None = None) -> ResendMailer:
        headers = {"Authorization": f"Bearer {KEY}"}
        wire = Wire("https://api.resend.test", httpx.MockTransport(self), gate(), headers)
        return ResendMailer(wire, "hero@example.org", reply_to)


def refusal(status: int, name: str = "validation_error", message: str = "Invalid `to` field.") -> httpx.Response:
    return httpx.Response(status, json={"name": name, "message": message, "statusCode": status})


async def test_resend_gets_the_letter_and_its_key() -> None:
    resend = Resend(httpx.Response(200, json={"id": "id-1"}), httpx.Response(200, json={"id": "id-1"}))
    assert await resend.mailer("sara@example.org").send(LETTER) == "id-1"
    assert await resend.mailer().send(LETTER) == "id-1"
    first, second = resend.asked
    assert (first.method, str(first.url)) == ("POST", "https://api.resend.test/emails")
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == LETTER.key
    assert json.loads(first.content) == {
        "from": "hero@example.org",
        "to": ["alice@example.org"],
        "subject": LETTER.subject,
        "text": LETTER.text,
        "html": LETTER.html,
        "reply_to": "sara@example.org",
    }
    assert "reply_to" not in json.loads(second.content)


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (refusal(400), Rejected, "LetterRefused"),
        (refusal(422), Rejected, "LetterRefused"),
        (refusal(400, "invalid_idempotency_key"), Rejected, "LetterRefused"),
        (httpx.Response(404, text="not found"), Rejected, "LetterRefused"),
        (refusal(401, "missing_api_key"), Blocked, "MailRefused"),
        (refusal(403, "invalid_api_key"), Blocked, "MailRefused"),
        (refusal(403), Blocked, "MailRefused"),
        (refusal(409, "invalid_idempotent_request"), Blocked, "LetterDiffers"),
        (refusal(409, "concurrent_idempotent_requests"), OutcomeUnknown, "OutcomeUnknown"),
        (refusal(500, "application_error"), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(502, html="<h1>"), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(302, headers={"Location": "/"}), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(200, text='{"id": "half'), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(200, json={}), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(200, json={"id": 7}), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.Response(200, html="<html>"), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.ReadTimeout("slow"), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.RemoteProtocolError("cut"), OutcomeUnknown, "OutcomeUnknown"),
        (httpx.ConnectError("refused"), Unreachable, "Unreachable"),
    ],
)
async def test_what_resends_answers_mean(
    answer: httpx.Response | Exception, kind: type[OutsideError], reason: str
) -> None:
    with pytest.raises(OutsideError) as caught:
        await Resend(answer).mailer().send(LETTER)
    assert type(caught.value) is kind
    assert caught.value.reason == reason


async def test_too_many_letters_rest_together() -> None:
    resend = Resend(httpx.Response(429, headers={"Retry-After": "60"}, json={"name": "rate_limit_exceeded"}))
    mailer = resend.mailer()
    for _ in range(2):
        with pytest.raises(Throttled) as caught:
            await mailer.send(LETTER)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > timedelta(seconds=50)
    assert len(resend.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 500])
async def test_a_server_that_repeats_the_letter_gives_nothing_away(status: int) -> None:
    with pytest.raises(OutsideError) as caught:
        await (
            Resend(refusal(status, "validation_error", f"cannot send {LETTER.text} {KEY}"[:280])).mailer().send(LETTER)
        )
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(caught.value.__cause__)
    assert PASSWORD not in repr(LETTER)


def test_only_long_words_of_the_letter_are_hidden() -> None:
    assert without(f"no {PASSWORD}, no {PASSWORD}.", [Secret(LETTER.text)]) == "no (secret), no (secret)"
    assert without("Invalid `to` field: alice@example.org, password", [Secret(LETTER.text)]) == (
        "Invalid `to` field: alice@example.org, password"
    )


async def test_without_a_way_out_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    mailer = NoMailer()
    assert (mailer.kind, await mailer.send(LETTER)) == ("none", NOT_SENT)
    assert "alice@example.org" in caplog.text
    assert PASSWORD not in caplog.text


# -- SMTP


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    here = SmtpServer()
    await here.start()
    yield here
    await here.stop()


def mailer_at(server: SmtpServer, **where: Any) -> SmtpMailer:
    place = Where("127.0.0.1", server.port, **{"start_tls": False, **where})
    return SmtpMailer(place, "hero@example.org", gate(), ssl.create_default_context(), "sara@example.org")


async def test_a_letter_arrives_whole(server: SmtpServer) -> None:
    sent = await mailer_at(server).send(LETTER)
    assert sent == f"{LETTER.key}@example.org"
    (mail,) = server.mails
    assert (mail["From"], mail["To"], mail["Reply-To"]) == ("hero@example.org", LETTER.to, "sara@example.org")
    assert (mail["Subject"], mail["Message-ID"]) == (LETTER.subject, f"<{sent}>")
    assert mail["Date"].datetime is not None
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().replace("\r\n", "\n") == LETTER.text
    assert rich.get_content().strip() == LETTER.html
    assert all(byte < 128 for byte in server.raw[0]), "not every server takes eight bits"
    said = [line.casefold() for line in server.said[:3]]  # Pythons spell it one way or the other
    assert said == ["ehlo example.org", "mail from:<hero@example.org>", "rcpt to:<alice@example.org>"]


async def test_any_key_makes_a_message_id_the_same_each_time(server: SmtpServer) -> None:
    odd = replace(LETTER, key="welcome/alice <1>\r\nBcc: eve@example.org")
    first, second = await mailer_at(server).send(odd), await mailer_at(server).send(odd)
    assert first == second
    assert all(mail["Bcc"] is None and mail["Message-ID"] == f"<{first}>" for mail in server.mails)


@pytest.mark.parametrize("field", ["to", "subject"])
async def test_no_header_is_smuggled_in(field: str, server: SmtpServer) -> None:
    with pytest.raises(Rejected) as caught:
        await mailer_at(server).send(replace(LETTER, **{field: "x@example.org\r\nBcc: eve@example.org"}))  # type: ignore[arg-type]
    assert caught.value.reason == "LetterRefused"
    assert server.mails == []


async def test_it_signs_in_over_an_encrypted_connection_only(server: SmtpServer, tmp_path: Path) -> None:
    server.tls, trust = self_signed(tmp_path)
    server.user = f"hero:{SMTP_PASSWORD.text().strip()}"
    mailer = mailer_at(server, start_tls=True, user="hero", password=SMTP_PASSWORD)
    with pytest.raises(Transient) as caught:
        await mailer.send(LETTER)
    assert caught.value.reason == "CertificateRefused"
    await replace(mailer, trust=trust).send(LETTER)
    assert server.encrypted == [True]


async def test_a_server_without_encryption_is_told_nothing(server: SmtpServer) -> None:
    server.user = "hero:x"
    with pytest.raises(Blocked, match="STARTTLS") as caught:
        await mailer_at(server, start_tls=True, user="hero", password=SMTP_PASSWORD).send(LETTER)
    assert caught.value.reason == "MailRefused"
    assert [line.partition(" ")[0] for line in server.said] == ["ehlo"]


async def test_a_refused_sign_in_blocks_and_shows_no_password(server: SmtpServer) -> None:
    server.user = "hero:other"
    with pytest.raises(Blocked, match="535") as caught:
        await mailer_at(server, user="hero", password=SMTP_PASSWORD).send(LETTER)
    assert caught.value.reason == "MailRefused"
    assert SMTP_PASSWORD.text().strip() not in str(caught.value)
    assert SMTP_PASSWORD.text().strip() not in repr(mailer_at(server, user="hero", password=SMTP_PASSWORD))
    told = b64encode(f"\0hero\0{SMTP_PASSWORD.text().strip()}".encode()).decode()
    server.answers["AUTH"] = f"535 5.7.8 cannot take {told}"
    with pytest.raises(Blocked, match=r"cannot take \(secret\)"):
        await mailer_at(server, user="hero", password=SMTP_PASSWORD).send(LETTER)
    assert any(told in line for line in server.said)
    server.user = None
    with pytest.raises(Blocked):
        await mailer_at(server, user="hero", password=SMTP_PASSWORD).send(LETTER)
    with pytest.raises(Blocked, match="ASCII"):
        await mailer_at(server, user="hero", password=Secret("pässword")).send(LETTER)


@pytest.mark.parametrize(
    ("command", "answer", "kind", "reason"),
    [
        ("hello", "554 go away", Blocked, "MailRefused"),
        ("hello", "421 busy", Transient, "Transient"),
        ("hello", HANG_UP, Unreachable, "Unreachable"),
        ("hello", "what?", Transient, "Transient"),
        ("MAIL", "550 not from you", Blocked, "SenderRefused"),
        ("MAIL", "530 sign in first", Blocked, "MailRefused"),
        ("MAIL", "452 no room", Transient, "Transient"),
        ("MAIL", HANG_UP, Transient, "Transient"),
        ("RCPT", "550 no such user", Rejected, "AddressRefused"),
        ("RCPT", "450 greylisted", Transient, "Transient"),
        ("RCPT", HANG_UP, Transient, "Transient"),
        ("RCPT", "251 will forward", None, ""),
        ("DATA", "554 no", Rejected, "LetterRefused"),
        ("DATA", "451 slow down", Transient, "Transient"),
        (".", "554 spam", Rejected, "LetterRefused"),
        (".", "552 too large", Rejected, "LetterRefused"),
        (".", "451 4.7.1 slow down", Transient, "Transient"),
        (".", "421 closing", Transient, "Transient"),
        (".", HANG_UP, OutcomeUnknown, "OutcomeUnknown"),
        (".", "what?", OutcomeUnknown, "OutcomeUnknown"),
        ("QUIT", HANG_UP, None, ""),
    ],
)
async def test_what_the_servers_answers_mean(
    command: str, answer: str, kind: type[OutsideError] | None, reason: str, server: SmtpServer
) -> None:
    server.answers[command] = answer
    if kind is None:
        await mailer_at(server).send(LETTER)
        return
    with pytest.raises(OutsideError) as caught:
        await mailer_at(server).send(LETTER)
    assert type(caught.value) is kind
    assert caught.value.reason == reason


async def test_nobody_there(server: SmtpServer) -> None:
    await server.stop()
    with pytest.raises(Unreachable):
        await mailer_at(server).send(LETTER)


@pytest.mark.parametrize("stage", ["RCPT", "."])
async def test_a_server_that_falls_silent_is_left(
    stage: str, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundredth of the time that it is given is waited for, at that stage alone."""
    command = {"RCPT": "rcpt", ".": "data"}[stage]
    told = getattr(smtplib.SMTP, command)

    def impatient(smtp: smtplib.SMTP, *words: Any) -> Any:
        assert smtp.sock is not None
        assert smtp.sock.gettimeout() == ANSWER_LIMIT
        smtp.sock.settimeout(ANSWER_LIMIT / 100)
        return told(smtp, *words)

    monkeypatch.setattr(smtplib.SMTP, command, impatient)
    server.answers[stage] = SILENCE
    with pytest.raises(Transient if stage == "RCPT" else OutcomeUnknown):
        await mailer_at(server).send(LETTER)


async def test_a_letter_that_takes_too_long_is_broken_off(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconcilers.backends.mail_smtp.LETTER_LIMIT", 0.2)
    server.answers["RCPT"] = SILENCE
    with pytest.raises(OutcomeUnknown):
        await mailer_at(server).send(LETTER)
    monkeypatch.undo()
    server.answers.clear()
    await mailer_at(server).send(LETTER)
    assert len(server.mails) == 1


async def test_a_cancelled_letter_is_not_sent_behind_our_back(server: SmtpServer) -> None:
    server.answers["MAIL"] = SILENCE
    sending = asyncio.create_task(mailer_at(server).send(LETTER))
    async with asyncio.timeout(20):
        while not any(line.startswith("mail") for line in server.said):  # noqa: ASYNC110 - it happens in a thread
            await asyncio.sleep(0.01)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert server.mails == []


class AnothersByThen:
    """A limit kept together with others: while the server was being talked to, somebody else has got the tester."""

    among = 1

    def __init__(self, server: SmtpServer) -> None:
        self.server = server

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        yield

    async def leaving(self, call: Call) -> None:
        last = self.server.said[-1].casefold()
        assert (call.name, last) == ("send", f"rcpt to:<{LETTER.to}>"), "asked when all but it is said"
        raise Blocked("it is another's", system="mail")


async def test_the_last_question_is_asked_when_nothing_but_the_letter_is_left_to_be_said(server: SmtpServer) -> None:
    mailer = mailer_at(server)
    mailer.gate.shared = AnothersByThen(server)
    with pytest.raises(Blocked):
        await mailer.send(LETTER)
    assert server.mails == []
    assert not any(line.startswith("data") for line in server.said)
    mailer.gate.shared = None
    await mailer.send(LETTER)
    assert len(server.mails) == 1


async def test_a_server_that_repeats_the_letter_by_smtp_gives_nothing_away(server: SmtpServer) -> None:
    server.answers["."] = f"554 refused: {PASSWORD}."
    with pytest.raises(Rejected) as caught:
        await mailer_at(server).send(LETTER)
    assert PASSWORD not in str(caught.value)
