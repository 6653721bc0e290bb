"""Sessions of people who signed in: kept sealed by their own browser, for eight hours, and only as long as they are admins.

Nothing of a session is kept here but that somebody signed out of it: in the store, so that no replica opens a copy of its cookie.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from controller.admission import Admission
from reconcilers.backends.forge_sign_in import Person
from reconcilers.secret import Secret

LIVES: Final = timedelta(hours=8)
PURPOSE: Final = "session"


@dataclass(frozen=True, slots=True)
class Session:
    """`forge`: the address of the Forge that said who it is. `until` in seconds of the epoch."""

    id: str
    name: str
    person: str
    forge: str
    until: float


@dataclass
class Sessions:
    """Makes, opens and ends them."""

    admission: Admission

    def begin(self, who: Person, forge: str) -> str:
        """What the browser keeps. Always a new one: what the browser brought before is worth nothing."""
        until = (self.admission.clock.now() + LIVES).timestamp()
        made = Session(secrets.token_hex(16), who.name, who.id, forge, until)
        return self.admission.sealed(PURPOSE, json.dumps(asdict(made)).encode())

    async def admin_of(self, sealed: str) -> str | None:
        """The account whose session it is, if it is one that has not ended, and the account is still an admin of a Fleet
        that still has this Forge. Raises StoreError."""
        session = await self._going_on(sealed)
        if session is None:
            return None
        fleet = await self.admission.fleet()
        if fleet is None or str(fleet.spec.forge.url).rstrip("/") != session.forge:
            return None
        return session.name if await self.admission.is_admin(session.name) else None

    async def end(self, sealed: str) -> None:
        """Nobody is signed in with it any more. Raises StoreError: then it goes on."""
        session = await self._going_on(sealed)
        if session is not None:
            await self.admission.end(Secret(session.id), datetime.fromtimestamp(session.until, UTC))

    async def _going_on(self, sealed: str) -> Session | None:
        session = self._opened(sealed)
        if session is None or self._is_over(session) or await self.admission.has_ended(Secret(session.id)):
            return None
        return session

    def _opened(self, sealed: str) -> Session | None:
        content = self.admission.opened(PURPOSE, sealed) if sealed else None
        try:
            return Session(**json.loads(content)) if content is not None else None
        except TypeError:  # of another version of this program
            return None

    def _is_over(self, session: Session) -> bool:
        return self.admission.clock.now().timestamp() >= session.until
