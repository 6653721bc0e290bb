"""The options of `testerctl run` that say who may look, and what they come to."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from api.access.access import LOOPBACK_NAMES, Access, host_of
from api.access.sign_in import CALLBACK, SignIn
from api.complaint import Complaint
from api.git_options import given_secret
from api.server import Place
from controller.admission import Admission
from controller.running import Controller

SignInClient = Annotated[
    str,
    typer.Option("--sign-in-client", envvar="TESTERCTL_SIGN_IN_CLIENT", help="Id of our OAuth application at Forge."),
]
SignInSecret = Annotated[
    str, typer.Option("--sign-in-secret", help="Where its secret is: env:NAME, file:path, a/name.")
]

log = logging.getLogger("controller")

HTTPS: Final = "https://"


@dataclass(frozen=True)
class AskedAccess:
    """What was asked for. `secret` is a reference; "" for none of any."""

    client: str
    secret: str
    public_url: str


async def access_of(asked: AskedAccess, controller: Controller, where: Place) -> Access:
    """Who may look. Raises Complaint for what cannot be, and where anybody could look who should not; StoreError."""
    admission = Admission(controller.store, controller.clock)
    base = asked.public_url or where.url
    local = where.address.is_loopback
    if (asked.client or asked.secret) and not local and not asked.public_url:
        raise Complaint(
            f"Sign-in beyond loopback needs --public-url: Forge sends people back to <public url>{CALLBACK}."
        )
    sign_in = await _sign_in(asked, controller, admission, base) if asked.client or asked.secret else None
    if not local and sign_in is None and not await admission.has_tokens():
        raise Complaint(
            f"{where.address} is not on loopback, and nobody could prove who they are: give --sign-in-client and "
            "--sign-in-secret for people, make a token for programs (`testerctl token make NAME`), or both. "
            f"To look from elsewhere without either: ssh -L {where.port}:127.0.0.1:{where.port} <host>."
        )
    if not local and not asked.public_url:
        log.warning("what is told beyond loopback goes in clear: let something that speaks TLS stand before it")
    demanded = sign_in is not None or not local or not _is_loopback(base)
    if demanded and sign_in is None and not await admission.has_tokens():
        log.warning(
            "nobody can look: --public-url is no place on this machine, nobody can sign in, and there is no token"
        )
    return Access(admission, base, demanded, sign_in, numbers=not local)


async def _sign_in(asked: AskedAccess, controller: Controller, admission: Admission, base: str) -> SignIn:
    if not (asked.client and asked.secret):
        raise Complaint(
            "--sign-in-client and --sign-in-secret belong together: both come from one application at Forge."
        )
    if not base.startswith(HTTPS) and not _is_loopback(base):
        raise Complaint(
            "--public-url must begin with https:// for the sign-in: else a session could be read on its way."
        )
    if urlsplit(base).path:
        raise Complaint("--public-url must be a whole host for the sign-in, without a path: cookies know no paths.")
    secret = await given_secret(asked.secret, "--sign-in-secret", controller.places, controller.store)
    way = replace(controller.options, folder=controller.places.files)
    return SignIn(admission, asked.client, secret, base, way)


def _is_loopback(base: str) -> bool:
    return host_of(urlsplit(base).netloc) in LOOPBACK_NAMES
