"""Mail through an SMTP server: the standard library's client, in a thread of its own, told stage by stage.

Until the letter's last byte has left, the server cannot have taken it: what fails before is Transient, Blocked or Rejected,
what fails after is OutcomeUnknown. SMTP knows no key by which a second attempt would be recognised; the Message-ID is made
of the letter's key, so that a person can find out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from reconcilers.backends.hiding import without
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.mail import Letter, MailKind
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Rejected, Transient, Unreachable
from reconcilers.secret import Secret

ANSWER_LIMIT = 20.0  # seconds for one answer of the server
LETTER_LIMIT = 60.0  # seconds for a whole letter
IMPLICIT_TLS = 465  # the port on which the connection is encrypted from its first byte (RFC 8314)
Answer = tuple[int, bytes]
POLICY = SMTP.clone(cte_type="7bit")  # not every server takes eight bits


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where letters are handed in, and as whom."""

    host: str
    port: int = 587
    start_tls: bool = True
    user: str | None = None
    password: Secret | None = None


@dataclass
class SmtpMailer:
    """Hands letters to a mail server. `trust` holds the certificates that are believed."""

    server: SmtpServer
    sender: str
    gate: Gate
    trust: ssl.SSLContext
    reply_to: str | None = None
    kind: MailKind = "smtp"

    async def send(self, letter: Letter) -> str:
        """See `Mailer.send`. The id is the Message-ID, without its brackets."""
        try:
            message = self._message(letter)
        except ValueError:
            raise Rejected(
                "the letter's address or subject is not one line", system=self.gate.system, reason="LetterRefused"
            ) from None
        call = Call(self.gate.system, "send", True)
        async with self.gate.passing(call):
            talk = _Talk(self, letter, message.as_bytes())
            try:
                async with asyncio.timeout(LETTER_LIMIT):
                    await asyncio.to_thread(talk.begin)
                    await self.gate.leaving(call)
                    await asyncio.to_thread(talk.hand_in)
            except TimeoutError as error:
                raise OutcomeUnknown("it took too long to take the letter", system=self.gate.system) from error
            finally:
                talk.end()
        return str(message["Message-ID"]).strip("<>")

    def _message(self, letter: Letter) -> EmailMessage:
        """The letter as it travels. Raises ValueError for a line break in a header."""
        message = EmailMessage(policy=POLICY)
        message["From"] = self.sender
        message["To"] = letter.to
        if self.reply_to:
            message["Reply-To"] = self.reply_to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(self.gate.clock.now())
        message["Message-ID"] = f"<{_id_of(letter.key)}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        message.add_alternative(letter.html, subtype="html")
        return message

    async def aclose(self) -> None:
        """Nothing is kept open between letters."""


@dataclass
class _Talk:
    """One conversation with the server, in threads. `end` may be called from another one and breaks it off. `begin` goes as far
    as can be gone without the letter: before `hand_in` the last question about the call is asked."""

    mailer: SmtpMailer
    letter: Letter
    message: bytes = field(repr=False)
    _smtp: smtplib.SMTP | None = None  # while no thread has it
    _socket: socket.socket | None = None
    _ended: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Raises OutsideError."""
        smtp = self._connected()
        try:
            self._signed_in(smtp)
            sender, to = self.mailer.sender, self.letter.to
            self._asked(lambda: smtp.mail(sender), f"the sender {sender}", Blocked, "SenderRefused")
            self._asked(lambda: smtp.rcpt(to), f"the address {to}", Rejected, "AddressRefused")
            self._lay_down(smtp)
        except BaseException:
            smtp.close()
            raise

    def hand_in(self) -> None:
        """Raises OutsideError."""
        smtp = self._taken_up()
        try:
            self._handed_in(smtp)
        finally:
            smtp.close()

    def end(self) -> None:
        """Nothing more is said: a thread that still waits for an answer must not go on to send the letter."""
        with self._guard:
            self._ended = True
            if self._smtp is not None:
                self._smtp.close()
            elif self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return

    def _connected(self) -> smtplib.SMTP:
        server = self.mailer.server
        # Its own name is what a client says first; the default would ask the name service for it.
        name = self.mailer.sender.rpartition("@")[2]
        smtp = (
            smtplib.SMTP_SSL(local_hostname=name, timeout=ANSWER_LIMIT, context=self.mailer.trust)
            if server.port == IMPLICIT_TLS
            else smtplib.SMTP(local_hostname=name, timeout=ANSWER_LIMIT)
        )
        # STARTTLS compares the certificate with the name kept here, which otherwise only the constructor sets.
        smtp._host = server.host  # type: ignore[attr-defined]
        try:
            code, words = smtp.connect(server.host, server.port)
        except ssl.SSLError as error:
            raise self._untrusted(error) from None
        except (OSError, smtplib.SMTPException) as error:
            raise self._error(
                Unreachable, f"no connection to {server.host}:{server.port} ({self._brief(error)})"
            ) from None
        self._keep(smtp.sock)
        if code != 220:
            smtp.close()
            raise self._refusal("a conversation", code, words, Blocked, "MailRefused")
        return smtp

    def _signed_in(self, smtp: smtplib.SMTP) -> None:
        server = self.mailer.server
        password = server.password.text().strip() if server.password else None
        if not f"{server.user}{password}".isascii():
            raise self._error(Blocked, "its user and password must be plain ASCII: an admin sets others", "MailRefused")
        try:
            smtp.ehlo_or_helo_if_needed()
            if server.start_tls and server.port != IMPLICIT_TLS:
                smtp.starttls(context=self.mailer.trust)
                self._keep(smtp.sock)
                smtp.ehlo()
            if server.user is not None and password is not None:
                smtp.login(server.user, password)
        except smtplib.SMTPResponseException as error:
            raise self._refusal("the sign-in", error.smtp_code, error.smtp_error, Blocked, "MailRefused") from None
        except ssl.SSLError as error:
            raise self._untrusted(error) from None
        except smtplib.SMTPServerDisconnected as error:
            raise self._error(Transient, f"the conversation broke off at the sign-in ({self._brief(error)})") from None
        except smtplib.SMTPException as error:
            # It offers no STARTTLS, or no way to sign in that we know.
            words = f"{self._brief(error).rstrip('.')}: an admin changes spec.mail.smtp"
            raise self._error(Blocked, words, "MailRefused") from None
        except OSError as error:
            raise self._error(Transient, f"the conversation broke off at the sign-in ({self._brief(error)})") from None

    def _handed_in(self, smtp: smtplib.SMTP) -> None:
        try:
            code, words = smtp.data(self.message)
        except smtplib.SMTPDataError as error:
            raise self._refusal("the letter", error.smtp_code, error.smtp_error, Rejected, "LetterRefused") from None
        except (OSError, smtplib.SMTPException) as error:
            message = f"the connection was lost while it took the letter ({self._brief(error)})"
            raise self._error(OutcomeUnknown, message) from None
        if not 200 <= code < 600:
            raise self._error(OutcomeUnknown, "it took the letter and answered what nobody understands")
        if code >= 300:
            raise self._refusal("the letter", code, words, Rejected, "LetterRefused")
        try:
            smtp.quit()
        except (OSError, smtplib.SMTPException):
            return  # it has the letter; how it says goodbye does not matter

    def _asked(self, ask: Callable[[], Answer], what: str, kind: type[OutsideError], reason: str) -> None:
        """One step before the letter itself: whatever goes wrong here, nothing was handed in."""
        try:
            code, words = ask()
        except (OSError, smtplib.SMTPException) as error:
            raise self._error(Transient, f"the conversation broke off at {what} ({self._brief(error)})") from None
        if not 200 <= code < 300:
            raise self._refusal(what, code, words, kind, reason)

    def _keep(self, link: socket.socket | None) -> None:
        with self._guard:
            self._socket = link
            if self._ended:
                raise self._called_back()

    def _lay_down(self, smtp: smtplib.SMTP) -> None:
        with self._guard:
            if self._ended:
                raise self._called_back()
            self._smtp = smtp

    def _taken_up(self) -> smtplib.SMTP:
        with self._guard:
            smtp, self._smtp = self._smtp, None
            if self._ended or smtp is None:
                raise self._called_back()
            return smtp

    def _called_back(self) -> OutsideError:
        return self._error(Transient, "the letter was called back")

    def _refusal(self, what: str, code: int, words: bytes | str, kind: type[OutsideError], reason: str) -> OutsideError:
        """A no: for ever with 5xx, for now with 4xx."""
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        message = f"{what} is refused: {code} {self._without(text)[:300]}"
        if 500 <= code < 600:
            # 530 and its like: sign in first, which is nobody's fault but the Fleet's (RFC 4954).
            unauthenticated = code in (530, 534, 535, 538)
            return self._error(
                Blocked if unauthenticated else kind, message, "MailRefused" if unauthenticated else reason
            )
        return self._error(Transient, message)

    def _untrusted(self, error: ssl.SSLError) -> OutsideError:
        message = f"its certificate or encryption is not accepted ({self._brief(error)})"
        return self._error(Transient, message, "CertificateRefused")

    def _error(self, kind: type[OutsideError], message: str, reason: str | None = None) -> OutsideError:
        return kind(self._without(message), system=self.mailer.gate.system, reason=reason)

    def _brief(self, error: Exception) -> str:
        return self._without(str(error))[:200] or type(error).__name__

    def _without(self, text: str) -> str:
        """The server's words without what it was told: the password, in AUTH PLAIN's form too, and what the letter says."""
        server = self.mailer.server
        secrets: list[Secret | str] = [Secret(self.letter.text)]
        if server.password:
            password = server.password.text().strip()
            secrets += [password, f"\0{server.user}\0{password}"]
        return without(text, secrets)


def _id_of(key: str) -> str:
    """A key as the left half of a Message-ID."""
    safe = re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key) is not None and len(key) <= 64
    return key if safe else hashlib.sha256(key.encode()).hexdigest()
