"""What only a check-up asks: is there a SOCKS proxy at an address, what time does Forge think it is, what would our credentials
let us do? Nothing is changed by asking.

Assumption (A): Forge looks at a token's rights before it looks at what is asked for. So an order that nobody could carry out,
for nothing, or for a name that no account can have, is told to be senseless (422, or 404) by who would have carried out a
sensible one, and to be forbidden (403) by who would not.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.forge_calls import part, scope_of
from reconcilers.backends.mail import ResendMailer
from reconcilers.backends.transport import said
from reconcilers.errors import Blocked, Transient, Unreachable

SOCKS_PORT = 1080
GREETING = b"\x05\x02\x00\x02"  # SOCKS 5; we could do without a login, or with name and password
REFUSED = 0xFF
ACCOUNTS, APPS = "/admin/users", "/user/applications/oauth2"  # where things are made at Forge
NOBODY = "-"  # no account can be called so (P)
NO_COMMIT = "0" * 40
MAY_ONLY_SEND = "restricted_api_key"  # what Resend calls a key that may do nothing else, which is enough (P)


async def greet_proxy(address: str) -> None:
    """Says good day to a SOCKS5 proxy, and nothing more. Raises Unreachable, Transient NoProxy when something else answers."""
    parts = urlsplit(address)
    place = f"{parts.hostname}:{parts.port or SOCKS_PORT}"
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or SOCKS_PORT)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable(f"no connection to {place} ({why})", system="proxy") from error
    try:
        writer.write(GREETING)
        await writer.drain()
        version, method = await reader.readexactly(2)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Transient(f"what listens at {place} is no SOCKS5 proxy", system="proxy", reason="NoProxy") from error
    finally:
        writer.close()
    if version != GREETING[0] or method == REFUSED:
        raise Transient(f"what listens at {place} is no SOCKS5 proxy for us", system="proxy", reason="NoProxy")


async def forge_time(forge: ForgeClient) -> datetime | None:
    """What Forge's clock showed when it answered, to the second (HTTP's Date); None when it does not tell.

    Raises Unreachable, Transient, Throttled.
    """
    answer = await forge.wire.send("GET", "/api/v1/version", writing=False, name="version")
    try:
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


async def try_order(forge: ForgeClient, path: str) -> None:
    """Whether we could make something there: ACCOUNTS or APPS. Raises Blocked MissingRights, and what every call may raise."""
    await _try(forge, "POST", path, {})


async def try_repository(forge: ForgeClient, owner: str, name: str) -> None:
    """Whether it is there, and we could give people access to it. Raises Blocked RepositoryMissing or MissingRights, and what
    every call may raise."""
    path = await _there(forge, owner, name)
    await _try(forge, "PUT", f"{path}/collaborators/{NOBODY}", {"permission": "read"})


async def try_statuses(forge: ForgeClient, owner: str, name: str) -> None:
    """Whether we could tell a commit's status there. Raises as `try_repository`. A commit that there is not is 404 or, in some
    versions, 500 (V)."""
    path = await _there(forge, owner, name)
    await _try(
        forge, "POST", f"{path}/statuses/{NO_COMMIT}", {"state": "pending", "context": "testers"}, fine=(404, 422, 500)
    )


async def try_comments(forge: ForgeClient, owner: str, name: str) -> None:
    """Whether we could comment on a pull request there. Raises as `try_repository`."""
    path = await _there(forge, owner, name)
    await _try(forge, "POST", f"{path}/issues/0/comments", {})


async def _there(forge: ForgeClient, owner: str, name: str) -> str:
    path = f"/repos/{part(owner)}/{part(name)}"
    answer = await forge.wire.send("GET", f"/api/v1{path}", writing=False)
    if answer.status_code == 404:
        raise Blocked(
            f"the repository {owner}/{name} is not there, or not for us", system="Forge", reason="RepositoryMissing"
        )
    return path


async def _try(
    forge: ForgeClient, method: str, path: str, senseless: object, fine: tuple[int, ...] = (404, 422)
) -> None:
    system = forge.wire.system
    answer = await forge.wire.send(method, f"/api/v1{path}", writing=False, body=senseless)
    if answer.status_code in (401, 403):
        words = f"{method} {path} is forbidden{said(answer)}: give the controller's token {scope_of(answer)}"
        raise Blocked(words, system=system, reason="MissingRights")
    if answer.status_code not in fine:
        words = f"{method} {path} answered {answer.status_code} to what it should call senseless{said(answer)}"
        raise Transient(words, system=system)


async def try_resend(mailer: ResendMailer) -> None:
    """Whether the key is one, without sending anything. Raises Blocked MailRefused, Unreachable, Transient, Throttled."""
    answer = await mailer.wire.send("GET", "/domains", writing=False, name="list domains")
    if answer.status_code == 200 or mailer.problem(answer) == MAY_ONLY_SEND:
        return
    if answer.status_code in (400, 401, 403):
        words = f"the key is refused{said(answer)}"
        raise Blocked(words, system=mailer.wire.system, reason="MailRefused")
    raise Transient(f"it answered {answer.status_code}{said(answer)}", system=mailer.wire.system)
