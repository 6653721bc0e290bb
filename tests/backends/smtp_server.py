"""A small real SMTP server on loopback that answers as a test says, with STARTTLS and signing in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import ssl
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HANG_UP, SILENCE = "hang up", "silence"


@dataclass
class SmtpServer:
    """`answers`: what is said to a command instead of the usual, by its first word; `.` is the end of the letter.

    An answer is a line, HANG_UP, or SILENCE. `user`: "name:password" that may sign in; None: nobody need to, or can.
    """

    answers: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    tls: ssl.SSLContext | None = None
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._talk(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted = False
        if not await self._say(writer, self.answers.get("hello", "220 mail.test ESMTP")):
            return
        while line := await reader.readline():
            words = line.decode("latin-1").strip()
            self.said.append(words)
            verb = words.partition(" ")[0].upper()
            if verb == "STARTTLS" and self.tls is not None and verb not in self.answers:
                await self._say(writer, "220 go ahead")
                await writer.start_tls(self.tls)
                encrypted = True
                continue
            if not await self._say(writer, self.answers.get(verb) or self._usual(verb, words, encrypted)):
                return
            if verb == "DATA" and verb not in self.answers:
                letter = await reader.readuntil(b"\r\n.\r\n")
                if not await self._take(writer, letter[:-3], encrypted):
                    return

    async def _take(self, writer: asyncio.StreamWriter, letter: bytes, encrypted: bool) -> bool:
        self.raw.append(letter)
        self.mails.append(message_from_bytes(letter.replace(b"\r\n..", b"\r\n."), policy=policy.default))  # type: ignore[arg-type]
        self.encrypted.append(encrypted)
        return await self._say(writer, self.answers.get(".", "250 queued"))

    def _usual(self, verb: str, words: str, encrypted: bool) -> str:
        if verb == "EHLO":
            offers = ["STARTTLS"] if self.tls is not None and not encrypted else []
            offers += ["AUTH PLAIN"] if self.user else []
            return "\r\n".join([*(f"250-{each}" for each in ["mail.test", *offers]), "250 SIZE 1000000"])
        if verb == "AUTH":
            given = base64.b64decode(words.split()[-1]).decode().split("\0")[1:]
            return "235 welcome" if ":".join(given) == self.user else f"535 5.7.8 no: {' '.join(given)}"
        return {"DATA": "354 go on", "QUIT": "221 bye"}.get(verb, "250 fine")

    async def _say(self, writer: asyncio.StreamWriter, answer: str) -> bool:
        if answer == HANG_UP:
            return False
        if answer == SILENCE:
            await asyncio.Event().wait()
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()
        return True


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server at 127.0.0.1 and of a client that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))
