"""`testerctl reveal`: the one-time password of an account that we made, for when no mail carries it. Every showing is written
down before anything is shown; the password itself stands in no log, event or error."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from api.books import books
from api.complaint import Complaint
from api.options import STATE, StateFolder
from api.terminal import err, out, text
from api.words import ago
from controller.records import AddEvent, Event, TesterBooks
from controller.store import Store
from reconcilers.account import ONE_TIME_PASSWORD
from reconcilers.clock import Clock, SystemClock
from reconcilers.facts import AccountFacts, WelcomeFacts
from reconcilers.secret import Secret

REVEALED = "PasswordRevealed"


def command(
    name: Annotated[str, typer.Argument(help="The tester.")],
    state: StateFolder = STATE,
    yes: Annotated[bool, typer.Option("--yes", help="Show it although nobody looks: into a file or a pipe.")] = False,
) -> None:
    """Show the one-time password of a tester, if one is kept. The showing is written down as an event."""
    if not (yes or sys.stdout.isatty()):
        raise Complaint("A password is shown on a terminal only; --yes prints it into a file or a pipe all the same.")
    words, password = asyncio.run(_revealed(name, state))
    err().print(text(words), soft_wrap=True)
    out().print(text(password.text()), soft_wrap=True)


async def _revealed(name: str, state: Path) -> tuple[str, Secret]:
    async with books(state) as store:
        return await reveal(name, store, SystemClock())


async def reveal(name: str, store: Store, clock: Clock) -> tuple[str, Secret]:
    """What to say, and the password. Raises Complaint, which says why there is none."""
    found = await store.books(name)
    if found is None:
        raise Complaint(f"There is no tester {name}.")
    password = found.sealed.get(f"{name}/{ONE_TIME_PASSWORD}")
    if not password:
        raise Complaint(why_none(found))
    before = next((one for one in await store.events(name, 500) if one.reason == REVEALED), None)
    told = f"the one-time password of {_account(found)} was shown (testerctl reveal)"
    await store.write(AddEvent(Event(name, "account", REVEALED, told, clock.now(), generation=found.record.generation)))
    again = f" It was shown before, {ago(before.last_at or before.at, clock.now())}." if before else ""
    return (
        f"The one-time password of {_account(found)}, to be changed at the first sign-in; it stays kept until a mail carries "
        f"it out or the tester is removed.{again}",
        password,
    )


def why_none(found: TesterBooks) -> str:
    """Why no one-time password is kept, and what can be done."""
    record, account = found.record, found.facts.get(AccountFacts.step)
    welcome = found.facts.get(WelcomeFacts.step)
    asks = "Raise identity.passwordReset by one in its file for a new one."
    if record.desired.account.existing:
        return f"{record.name} uses an account that was there before, with its owner's own password; we never had one."
    if not isinstance(account, AccountFacts):
        return f"The account {_account(found)} is not made yet, so there is no password."
    if not account.made_by_us:
        return f"The account {_account(found)} was not made by us, so we never had a password of it."
    if isinstance(welcome, WelcomeFacts) and welcome.state == "sent":
        return f"It was mailed to {record.desired.account.email} and erased here. {asks}"
    return f"None is kept for {record.name}: it was erased, or is being replaced. {asks}"


def _account(found: TesterBooks) -> str:
    facts = found.facts.get(AccountFacts.step)
    return facts.account if isinstance(facts, AccountFacts) else found.record.desired.account.name
