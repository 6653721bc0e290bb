"""A small SMTP server on loopback: one process, no relaying, every accepted mail lands in the world's mailbox.

AUTH PLAIN is offered; who sends without signing in is welcome too, who signs in wrongly is not. No STARTTLS.
"""

import asyncio
import base64
import binascii
import contextlib
import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from examples.simulator.post import SMTP_USER, Post

LONGEST = 10_000_000
"""Bytes of one mail."""
_HELLO = ("make-believe.test", f"SIZE {LONGEST}", "8BITMIME", "SMTPUTF8", "AUTH PLAIN")


class Smtp:
    """`delivered(to, status)` is told about every mail that came whole, whatever became of it."""

    def __init__(self, post: Post, delivered: Callable[[str, int], None]) -> None:
        self._post = post
        self._delivered = delivered
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._open.add(writer)
        try:
            await _Talk(self._post, self._delivered, reader, writer).go_on()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        for writer in list(self._open):
            writer.close()


class _Talk:
    def __init__(
        self,
        post: Post,
        delivered: Callable[[str, int], None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._post = post
        self._delivered = delivered
        self._reader = reader
        self._writer = writer
        self._sender: str | None = None
        self._to: list[str] = []

    async def go_on(self) -> None:
        await self._say(220, "make-believe.test ESMTP")
        while line := await self._reader.readline():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if verb.upper() == "QUIT":
                await self._say(221, "bye")
                return
            if verb.upper() == "DATA":
                if not await self._data():
                    return
                continue
            await self._say(*await self._answer(verb.upper(), rest))

    async def _answer(self, verb: str, rest: str) -> tuple[Any, ...]:
        match verb:
            case "EHLO":
                return (250, *_HELLO)
            case "HELO":
                return 250, "make-believe.test"
            case "AUTH":
                return await self._auth(rest)
            case "MAIL":
                self._sender, self._to = _address(rest), []
                return 250, "ok"
            case "RCPT":
                return self._recipient(_address(rest))
            case "RSET":
                self._sender, self._to = None, []
                return 250, "ok"
            case "NOOP":
                return 250, "ok"
            case _:
                return 502, "command not implemented"

    async def _auth(self, rest: str) -> tuple[int, str]:
        kind, _, proof = rest.partition(" ")
        if kind.upper() != "PLAIN":
            return 504, "only PLAIN"
        if not proof:
            await self._say(334, "")
            proof = (await self._reader.readline()).decode("ascii", "replace").strip()
        with contextlib.suppress(binascii.Error, UnicodeDecodeError, ValueError):
            _, user, password = base64.b64decode(proof).decode().split("\0")
            if (user, password) == (SMTP_USER, self._post.state.smtp_password):
                return 235, "accepted"
        return 535, "5.7.8 authentication credentials invalid"

    def _recipient(self, to: str) -> tuple[int, str]:
        if self._sender is None:
            return 503, "MAIL first"
        if "@" not in to or self._post.faults.take("mail", "smtp RCPT", ("refused",), to):
            return 550, "5.1.1 no such mailbox"
        self._to.append(to)
        return 250, "ok"

    async def _data(self) -> bool:
        """Whether the connection goes on."""
        if self._sender is None or not self._to:
            await self._say(503, "MAIL and RCPT first")
            return True
        await self._say(354, "end with a dot on a line of its own")
        body = b""
        while (line := await self._reader.readuntil(b"\n")) != b".\r\n":
            body += line[1:] if line.startswith(b".") else line
            if len(body) > LONGEST:
                await self._say(552, "too big")
                return False
        return await self._taken(body)

    async def _taken(self, body: bytes) -> bool:
        faults, to = self._post.faults, self._to[0]
        if faults.take("mail", "smtp DATA", ("rate_limited",), to):
            self._delivered(to, 451)
            await self._say(451, "4.7.1 too many mails, try again later")
            return True
        self._post.deliver("smtp", {"sender": self._sender, "to": self._to, **_content(body)})
        self._delivered(to, 250)
        if faults.take("mail", "smtp DATA", ("answer_lost",), to):
            return False
        await self._say(250, "2.0.0 ok")
        self._sender, self._to = None, []
        return True

    async def _say(self, code: int, *lines: str) -> None:
        for line in lines[:-1]:
            self._writer.write(f"{code}-{line}\r\n".encode())
        self._writer.write(f"{code} {lines[-1]}\r\n".encode())
        await self._writer.drain()


def _address(rest: str) -> str:
    """What stands between the angle brackets."""
    return rest.partition("<")[2].partition(">")[0]


def _content(body: bytes) -> dict[str, Any]:
    """Subject, texts, key and address for answers of a mail as it travels."""
    mail = email.message_from_bytes(body, _class=EmailMessage, policy=email.policy.default)
    parts = {kind: mail.get_body((kind,)) for kind in ("plain", "html")}
    texts = {kind: "" if part is None else str(part.get_content()) for kind, part in parts.items()}
    texts = {kind: content.replace("\r\n", "\n") for kind, content in texts.items()}
    reply_to = [address for _, address in getaddresses([str(mail.get("reply-to", ""))]) if address]
    key = str(mail.get("message-id", "")).strip().strip("<>")
    subject = str(mail.get("subject", ""))
    return {"subject": subject, "text": texts["plain"], "html": texts["html"], "key": key, "reply_to": reply_to}
