"""The sign-in with Forge, from the link to the session: what is sent, what comes back, and what is believed of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import httpx

from api.access.coming_back import ours
from controller.admission import Admission
from reconcilers.backends import forge_sign_in as forge
from reconcilers.backends.limits import Gate
from reconcilers.backends.opening import Options, open_sign_in
from reconcilers.errors import OutsideError, Rejected
from reconcilers.secret import Secret
from specs.fleet import Fleet

log = logging.getLogger("api")

CALLBACK: Final = "/sign-in/callback"
PATIENCE: Final = timedelta(minutes=10)
"""So long a sign-in at Forge may take; its codes live as long (V)."""

AT_ONCE: Final = 4
LONGEST_CODE: Final = 1000
PURPOSE: Final = "sign-in"


class Refused(Exception):
    """Nobody was signed in; the message is for the person, `status` for the browser."""

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the browser goes, and what it keeps for us meanwhile."""

    location: str
    kept: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What the browser brought back: `kept` from its cookie, the others from the address."""

    kept: str
    state: str = ""
    code: str = ""
    error: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An admin, at which Forge, and where they wanted to go."""

    person: forge.Person
    forge: str
    coming_back: str


@dataclass
class SignIn:
    """The OAuth application of these windows. `base`: where people reach them; `options`: the way out, with its folder."""

    admission: Admission
    client: str
    secret: Secret = field(repr=False)
    base: str
    options: Options = field(repr=False)
    _gate: Gate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._gate = Gate("Forge sign-in", self.admission.clock, in_flight=AT_ONCE, hooks=self.options.hooks)

    async def begin(self, coming_back: str) -> Begun:
        """Raises Refused while there is no Fleet that names a Forge, StoreError."""
        app = self._application(await self._fleet())
        attempt = forge.Attempt.fresh()
        kept = {
            "state": attempt.state,
            "nonce": attempt.nonce,
            "verifier": attempt.verifier,
            "back": ours(coming_back),
            "until": (self.admission.clock.now() + PATIENCE).timestamp(),
            "forge": app.url,
        }
        return Begun(forge.address(app, attempt), self.admission.sealed(PURPOSE, json.dumps(kept).encode()))

    async def finish(self, returned: Returned) -> SignedIn:
        """Raises Refused, with a reason that a person can do something with; the log has Forge's. StoreError."""
        fleet = await self._fleet()
        app = self._application(fleet)
        attempt, back = self._attempt(returned, app)
        if returned.error or not returned.code or len(returned.code) > LONGEST_CODE:
            raise Refused("Forge did not let you in, or you said no there.")
        person = await self._person(fleet, app, attempt, returned.code)
        if not await self.admission.is_admin(person.name):
            log.warning("sign-in refused: %s is no admin of the Fleet", person.name)
            raise Refused(
                f"You are {person.name} at Forge, who is no admin of this fleet. An admin can add you to spec.admins of the "
                "Fleet."
            )
        log.info("%s signed in", person.name)
        return SignedIn(person, app.url, back)

    def _attempt(self, returned: Returned, app: forge.Application) -> tuple[forge.Attempt, str]:
        """What this browser began, and where it wanted to go. Raises Refused when it is not what comes back."""
        content = self.admission.opened(PURPOSE, returned.kept) if returned.kept else None
        kept = json.loads(content) if content is not None else None
        if kept is None or self.admission.clock.now().timestamp() >= kept["until"] or kept["forge"] != app.url:
            raise Refused("This sign-in was not begun in this browser, or too long ago: begin it again.", 400)
        if not hmac.compare_digest(returned.state.encode(), kept["state"].encode()):
            raise Refused("What came back belongs to another sign-in: begin it again.", 400)
        if returned.issuer and returned.issuer.rstrip("/") != app.url:
            raise Refused("The answer came from another place than the fleet's Forge.", 400)
        return forge.Attempt(kept["state"], kept["nonce"], kept["verifier"]), kept["back"]

    async def _person(self, fleet: Fleet, app: forge.Application, attempt: forge.Attempt, code: str) -> forge.Person:
        now = self.admission.clock.now()
        try:
            async with asyncio.timeout(PATIENCE.total_seconds() / 20), self._way(fleet) as way:
                return await forge.person(app, attempt, code, way, now)
        except Rejected as error:
            log.warning("sign-in refused: %s", error)
            raise Refused(
                "Forge's answer does not prove who you are. Begin again; the controller's log has more."
            ) from None
        except (OutsideError, TimeoutError) as error:
            log.warning("sign-in failed: %s", error or "no answer in time")
            raise Refused("Forge cannot be asked who you are now. Try again in a minute.", 503) from None

    def _way(self, fleet: Fleet) -> httpx.AsyncClient:
        return open_sign_in(fleet, self._gate, self.options)

    async def _fleet(self) -> Fleet:
        fleet = await self.admission.fleet()
        if fleet is None:
            raise Refused("There is no usable Fleet yet, so nobody knows who its admins are, nor its Forge.", 503)
        return fleet

    def _application(self, fleet: Fleet) -> forge.Application:
        url = str(fleet.spec.forge.url).rstrip("/")
        return forge.Application(url, self.client, self.secret, f"{self.base}{CALLBACK}")
