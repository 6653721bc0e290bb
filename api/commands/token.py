"""`testerctl token`: bearer tokens for programs that read the API. Shown once; only their hash is kept."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from api.books import books, places
from api.complaint import Complaint
from api.options import FLEET, STATE, OutputForm, StateFolder
from api.terminal import Output, err, out, print_json, table, text
from api.words import ago, ahead
from controller.admission import hash_of, new_token
from controller.places import opened_store
from controller.tokens import DropToken, PutToken, TokenRecord
from reconcilers.clock import SystemClock
from reconcilers.secret import Secret

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
DAYS = 90
MOST_DAYS = 3650
MOST = 200  # tokens: each request with one is compared with all of them

group = typer.Typer(
    name="token",
    help="Tokens for programs that look through the windows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="What the token is called: who or what uses it.")]


@group.command("make")
def make(
    name: Name,
    days: Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="How long it holds.")] = DAYS,
    state: StateFolder = STATE,
) -> None:
    """Make a token. It is printed once, alone on standard output; only its hash is kept."""
    if not NAME.fullmatch(name):
        raise Complaint("A token's name is small letters, digits and dashes, at most 40 of them, like prometheus.")
    token = new_token()
    until = asyncio.run(_keep(name, token, timedelta(days=days), state))
    err().print(text(f"{name} holds until {until:%d %B %Y}. It is not shown again; send it as Authorization: Bearer …"))
    print(token.text())


@group.command("list")
def list_tokens(state: StateFolder = STATE, output: OutputForm = Output.TEXT) -> None:
    """Show what tokens there are, how long they hold and when they were last used; never they themselves."""
    found, now = asyncio.run(_known(state)), SystemClock().now()
    if output is Output.JSON:
        print_json([_as_json(one) for one in found])
        return
    shown = table("TOKEN", "MADE", "HOLDS", "LAST USED")
    for one in found:
        holds = f"ends {ahead(one.expires_at, now)}" if now < one.expires_at else "over"
        used = ago(one.last_used_at, now) if one.last_used_at is not None else "never"
        shown.add_row(text(one.name), text(ago(one.made_at, now)), text(holds), text(used))
    out().print(shown)


@group.command("revoke")
def revoke(name: Name, state: StateFolder = STATE) -> None:
    """Make a token worthless, at once."""
    asyncio.run(_revoke(name, state))
    err().print(text(f"{name} opens nothing any more."))


async def _keep(name: str, token: Secret, span: timedelta, state: Path) -> datetime:
    """Until when it holds. Raises Complaint for a name that is in use."""
    clock = SystemClock()
    async with opened_store(places(FLEET, state), clock) as store:
        known = await store.tokens()
        if any(one.name == name for one in known):
            raise Complaint(f"There is a token {name} already: revoke it first, or choose another name.")
        if len(known) >= MOST:
            raise Complaint(f"There are {MOST} tokens already: revoke those that nobody uses (`testerctl token list`).")
        now = clock.now()
        await store.write(PutToken(TokenRecord(name, hash_of(token), now, now + span)))
        return now + span


async def _known(state: Path) -> tuple[TokenRecord, ...]:
    async with books(state) as store:
        return await store.tokens()


async def _revoke(name: str, state: Path) -> None:
    async with books(state) as store:
        if all(one.name != name for one in await store.tokens()):
            raise Complaint(f"There is no token {name}; `testerctl token list` shows those that there are.")
        await store.write(DropToken(name))


def _as_json(one: TokenRecord) -> dict[str, str | None]:
    return {
        "name": one.name,
        "madeAt": _moment(one.made_at),
        "expiresAt": _moment(one.expires_at),
        "lastUsedAt": _moment(one.last_used_at) if one.last_used_at is not None else None,
    }


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
