"""Sessions of people who signed in: kept sealed by their own browser, for eight hours, and only as long as they are admins.

Nothing of a session is kept here but that it was ended. A restart forgets that: whoever has stolen a cookie before its owner
signed out could use it again after a restart, until its eight hours are over.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Final

from controller.admission import Admission
from reconcilers.backends.forge_sign_in import Person

LIVES: Final = timedelta(hours=8)
PURPOSE: Final = "session"
ENDED_KEPT: Final = 10_000


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
    _ended: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def begin(self, who: Person, forge: str) -> str:
        """What the browser keeps. Always a new one: what the browser brought before is worth nothing."""
        until = (self.admission.clock.now() + LIVES).timestamp()
        made = Session(secrets.token_hex(16), who.name, who.id, forge, until)
        return self.admission.sealed(PURPOSE, json.dumps(asdict(made)).encode())

    async def admin_of(self, sealed: str) -> str | None:
        """The account whose session it is, if it is one that has not ended, and the account is still an admin of a Fleet
        that still has this Forge. Raises StoreError."""
        session = self._opened(sealed)
        if session is None or session.id in self._ended or self._is_over(session):
            return None
        fleet = await self.admission.fleet()
        if fleet is None or str(fleet.spec.forge.url).rstrip("/") != session.forge:
            return None
        return session.name if await self.admission.is_admin(session.name) else None

    def end(self, sealed: str) -> None:
        """Nobody is signed in with it any more."""
        session = self._opened(sealed)
        if session is None:
            return
        self._ended[session.id] = None
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _opened(self, sealed: str) -> Session | None:
        content = self.admission.opened(PURPOSE, sealed) if sealed else None
        try:
            return Session(**json.loads(content)) if content is not None else None
        except TypeError:  # of another version of this program
            return None

    def _is_over(self, session: Session) -> bool:
        return self.admission.clock.now().timestamp() >= session.until
