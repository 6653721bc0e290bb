"""Who may look through the windows, by the books as they are at this moment: the Fleet's admins, and holders of tokens.

Asked anew for every request, so that an admin who is taken out and a token that is revoked have no access from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from controller.store import SealingError, Store, StoreError
from controller.tokens import EndSession, NoteTokenUse, TokenRecord
from reconcilers.clock import Clock
from reconcilers.secret import Secret
from specs.fleet import Fleet

log = logging.getLogger("api")

MARK: Final = "tct_"
"""What every token begins with, so that one in the wrong place is known for what it is."""

USE_NOTED_EVERY: Final = timedelta(minutes=10)
LARGEST_BOX: Final = 4096  # characters: what a browser keeps of a cookie


def new_token() -> Secret:
    """A fresh bearer token: 256 random bits."""
    return Secret(MARK + secrets.token_urlsafe(32))


def hash_of(token: Secret) -> str:
    """What is kept of a token, or of a session's id. It is random, so that no salt and no slow hash is needed."""
    return hashlib.sha256(token.reveal()).hexdigest()


@dataclass
class Admission:
    """The books as far as they tell who may look."""

    store: Store
    clock: Clock
    _read: tuple[str, Fleet | None] = field(default=("", None), repr=False)

    async def fleet(self) -> Fleet | None:
        """The last good Fleet; None while there is none that this program understands. Raises StoreError."""
        known = await self.store.fleet()
        text = known[0] if known is not None else ""
        if text != self._read[0]:
            self._read = (text, _understood(text))
        return self._read[1]

    async def is_admin(self, account: str) -> bool:
        """Whether a Forge account is an admin of the Fleet now. Forge's names do not tell small letters from large ones."""
        fleet = await self.fleet()
        return fleet is not None and account.lower() in {each.account.lower() for each in fleet.spec.admins}

    async def holder(self, token: Secret) -> str | None:
        """The name of a token that holds now, and its use is noted; None for any other. Raises StoreError."""
        given, now, found = hash_of(token), self.clock.now(), None
        for record in await self.store.tokens():
            # All are compared, each in constant time: how long it takes tells nothing.
            if hmac.compare_digest(record.hash, given) and now < record.expires_at:
                found = record
        if found is not None:
            await self._note_use(found)
        return found.name if found is not None else None

    async def has_tokens(self) -> bool:
        """Whether there is a token that holds now. Raises StoreError."""
        now = self.clock.now()
        return any(now < record.expires_at for record in await self.store.tokens())

    async def _note_use(self, record: TokenRecord) -> None:
        now = self.clock.now()
        if record.last_used_at is not None and now - record.last_used_at < USE_NOTED_EVERY:
            return
        try:
            await self.store.write(NoteTokenUse(record.name, record.hash, now))
        except StoreError as error:
            log.warning("the use of token %s is not noted: %s", record.name, error)

    async def has_ended(self, session: Secret) -> bool:
        """Whether somebody signed out of the session of this id, here or at another replica. Raises StoreError."""
        return await self.store.has_ended(hash_of(session))

    async def end(self, session: Secret, until: datetime) -> None:
        """It opens nothing any more, at no replica. `until`: when it would have ended by itself. Raises StoreError."""
        await self.store.write(EndSession(hash_of(session), until))

    def sealed(self, purpose: str, content: bytes) -> str:
        """Text that only this controller can read, and nobody can change or use for another purpose."""
        key, box = self.store.keyring.current().seal(f"window {purpose}", Secret(content))
        return f"{key}.{urlsafe_b64encode(box).decode().rstrip('=')}"

    def opened(self, purpose: str, text: str) -> bytes | None:
        """What was sealed for this purpose; None for anything else."""
        key, _, box = text.partition(".")
        if len(text) > LARGEST_BOX or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(box + "=" * (-len(box) % 4))
            return self.store.keyring.current().open(f"window {purpose}", key, raw).reveal()
        except (Base64Error, ValueError, SealingError):
            return None


def _understood(text: str) -> Fleet | None:
    try:
        return Fleet.from_books(text)
    except ValidationError:
        return None
