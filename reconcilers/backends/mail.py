"""Mail: one letter at a time, by Resend, by an SMTP server, or, where neither is named, not at all. See CONTRACTS.md, "Mail".

What is never repeated in an error: the key, the password of the mail server, and words of the letter, which holds a
one-time password. Assumptions (A): none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Protocol

import httpx

from reconcilers.backends.transport import Wire, said
from reconcilers.errors import Blocked, OutsideError, Rejected
from reconcilers.secret import Secret

NOT_SENT = "dev-mode-no-send"  # the id of a letter that was only logged (S)
MailKind = Literal["resend", "smtp", "none"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter. `key` makes it the same letter when it is sent again: it must then be the same to the last byte (P)."""

    to: str
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)
    key: str


class Mailer(Protocol):
    """The way out for letters.

    `kind` says whether an unknown outcome can be asked for: with "resend" the same letter with the same key within 24 hours
    is not sent twice (P); with "smtp" nobody can tell.
    """

    @property
    def kind(self) -> MailKind: ...

    async def send(self, letter: Letter) -> str:
        """The provider's id. Raises Unreachable, Transient, Throttled, Rejected LetterRefused or AddressRefused, Blocked
        MailRefused, SenderRefused or LetterDiffers, and OutcomeUnknown: it may have gone out."""
        ...

    async def aclose(self) -> None: ...


@dataclass
class NoMailer:
    """Nothing is sent: the log says so, without what the letter says (S)."""

    kind: MailKind = "none"

    async def send(self, letter: Letter) -> str:
        """See `Mailer.send`. Never raises."""
        logger.warning("No way out for mail is configured: %r to %s is not sent", letter.subject, letter.to)
        return NOT_SENT

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class UnusableMailer:
    """Mail is configured and cannot work: whoever sends a letter is told why. Everything else goes on."""

    kind: MailKind
    reason: Blocked

    async def send(self, letter: Letter) -> str:
        """Raises Blocked, for instance SecretMissing."""
        raise Blocked(self.reason.message, system=self.reason.system, reason=self.reason.reason)

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class ResendMailer:
    """Resend over HTTP (P). `wire` carries the key."""

    wire: Wire
    sender: str
    reply_to: str | None = None
    kind: MailKind = "resend"

    async def send(self, letter: Letter) -> str:
        """See `Mailer.send`. Sent again with the same key within 24 hours: the first one's id (P)."""
        body: dict[str, object] = {
            "from": self.sender,
            "to": [letter.to],
            "subject": letter.subject,
            "text": Secret(letter.text),
            "html": Secret(letter.html),
        }
        if self.reply_to:
            body["reply_to"] = self.reply_to
        answer = await self.wire.send(
            "POST", "/emails", writing=True, body=body, name="send", headers={"Idempotency-Key": letter.key}
        )
        if answer.status_code not in (200, 201):
            self._refused(answer, letter)
        sent = self.wire.json(answer, writing=True)
        if not (isinstance(sent, dict) and isinstance(sent.get("id"), str) and sent["id"]):
            self.wire.unclear(True, "the answer holds no id")
        return str(sent["id"])

    def _refused(self, answer: httpx.Response, letter: Letter) -> NoReturn:
        status = answer.status_code
        words = said(answer)
        if status in (401, 403):
            raise self._error(
                Blocked, f"the key or the sender {self.sender} is refused{words}: an admin mends it", "Mail"
            )
        if status == 409 and self.problem(answer) == "invalid_idempotent_request":
            message = "another letter went out under the same key: raise welcomeEmail.resend to send this one as well"
            raise Blocked(message, system=self.wire.system, reason="LetterDiffers")
        if status == 409 or not 400 <= status < 500:
            # The first attempt with this key is still under way (P), or this is no answer of Resend's.
            self.wire.unclear(True, f"the answer is {status}{words}")
        raise self._error(Rejected, f"the letter to {letter.to} is refused{words}", "Letter")

    def problem(self, answer: httpx.Response) -> str:
        """The stable name of one of Resend's errors, "" when the answer tells none (P)."""
        try:
            body = answer.json()
        except ValueError:
            return ""
        return str(body.get("name", "")) if isinstance(body, dict) else ""

    def _error(self, kind: type[OutsideError], message: str, what: str) -> OutsideError:
        return kind(message, system=self.wire.system, reason=f"{what}Refused")

    async def aclose(self) -> None:
        """Close the connections."""
        await self.wire.aclose()
