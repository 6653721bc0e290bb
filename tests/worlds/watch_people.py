"""The people: their mail, their accounts, and that nobody is removed whom the folder names.

**MailedTwice.** One welcome letter for each tester and each `resend` of its spec, whatever it says; every other letter once, word
by word. Which one it is, is told by the journal's last word on a letter to that address.

**MailedTooSoon.** The welcome letter is begun only while the books say of every other step that it is in sync, and of the door
that it is proven. (Letters on a new address or password may go while something else is not well.) No mail is delivered
that no journal entry began.

**AdoptedTouched.** No writing call of ours names an account at Forge that was there before us, or that somebody else made; a
call that is refused counts too. What appears with a create of ours that was refused is not ours. (Access to a repository is
the repository's.)

**RemovedThoughWanted.** Whose removal is committed is in no file, and all files can be read and one of them is the Fleet; or its
last day is over. Anything counts that the folder said since the last revision was taken in: a reading takes time. Never more
of them in one commit than the brake allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from controller.passes.status import condition_type
from controller.records import Change, JournalEntry, PutFleet, PutTester
from examples.simulator.log import Entry
from reconcilers.facts import ObjectState, SignInGateFacts
from reconcilers.letters import WELCOME
from reconcilers.welcome import ALL_OTHERS
from specs.fleet import Fleet

if TYPE_CHECKING:
    from tests.worlds.watch import Watch

ACCOUNTS = "/api/v1/admin/users"
UNDER_WAY = timedelta(hours=1)
"""A letter may be delivered so late after it was begun: a slow answer, and a kill in between."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A letter was begun. `welcome`: whose it is, and of which `resend`, if it is a welcome letter."""

    at: datetime
    welcome: str


class People:
    """See the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._ids = {account.id for account in watch.rig.world.state.forge.accounts.values()}
        self._ours: set[int] = set()
        self._logins: dict[str, int] = {}
        self._mails = 0
        self._letters: dict[tuple[str, str], int] = {}  # recipient, and which letter → how often
        self._begun: dict[str, _Begun] = {}  # the last letter to an address
        self._look_at_accounts()

    # -- mail

    def begun(self, entry: JournalEntry) -> None:
        if entry.step != "welcome" or entry.verb not in ("send", "send_again"):
            return
        kind, to = entry.target.partition(" ")[0], entry.target.rpartition(" ")[2].casefold()
        record, now = self._watch.books.testers.get(entry.tester), self._watch.now()
        if entry.verb == "send_again" and to in self._begun:
            self._begun[to] = replace(self._begun[to], at=now)
            return
        welcome = f"{kind} {record.uid} {record.desired.welcome.resend}" if kind == WELCOME and record else ""
        self._begun[to] = _Begun(now, welcome)
        if kind == WELCOME:
            self._check_welcome(entry)

    def _check_welcome(self, entry: JournalEntry) -> None:
        books = self._watch.books
        missing = [step for step in ALL_OTHERS if not books.is_true(entry.tester, condition_type(step))]
        gate = books.facts.get((entry.tester, SignInGateFacts.step))
        if not (isinstance(gate, SignInGateFacts) and gate.proven and not gate.let_in):
            missing.append("the proof of the door")
        if missing:
            text = f"{entry.tester} is welcomed while {', '.join(missing)} is not as it should be"
            self._watch.violated("MailedTooSoon", f"{entry.tester} {self._watch.now()}", text)

    def changed(self) -> None:
        mailbox = self._watch.rig.world.mailbox
        for mail in mailbox[self._mails :]:
            for to in mail.to:
                self._delivered(to.casefold(), mail.text)
        self._mails = len(mailbox)

    def _delivered(self, to: str, text: str) -> None:
        watch, begun = self._watch, self._begun.get(to)
        which = to, (begun.welcome if begun else "") or text
        often = self._letters[which] = self._letters.get(which, 0) + 1
        if often > 1:
            watch.violated("MailedTwice", f"{to} {often} {hash(which)}", f"{to} got the same letter {often} times")
        if begun is None or watch.now() - begun.at > UNDER_WAY:
            watch.violated(
                "MailedTooSoon", f"{to} {watch.now()}", f"{to} got a letter that no entry of the journal began"
            )

    # -- accounts

    def served(self, entry: Entry) -> None:
        if entry.system == "mail":
            self.changed()
        if entry.system != "forge":
            return
        if entry.writing and entry.what.startswith(ACCOUNTS):
            if entry.what == ACCOUNTS:
                self._made(entry)
            else:
                self._check_account(entry)
        self._look_at_accounts()

    def _made(self, entry: Entry) -> None:
        """What is new while a create of ours was under way, of a name that we are making, is ours, unless it was refused."""
        if 400 <= entry.status < 500:
            self._ids |= {account.id for account in self._watch.rig.world.state.forge.accounts.values()}
            return
        for account in self._watch.rig.world.state.forge.accounts.values():
            if account.id not in self._ids and self._may_be_ours(account.name):
                self._ours.add(account.id)

    def _may_be_ours(self, name: str) -> bool:
        """Whether a create of an account with this name was begun, and was not refused."""
        rows = self._watch.books.rows_named("account", name)
        return any(row.state in (ObjectState.INTENDED, ObjectState.EXISTING) for row in rows)

    def _look_at_accounts(self) -> None:
        """One that is new and may be ours is not known before its create has been served: that may take minutes."""
        accounts = self._watch.rig.world.state.forge.accounts
        new = [account for account in accounts.values() if account.id not in self._ids]
        self._ids |= {account.id for account in new if account.id in self._ours or not self._may_be_ours(account.name)}
        self._logins = {account.name.casefold(): account.id for account in accounts.values()}

    def _check_account(self, entry: Entry) -> None:
        login = unquote(entry.what.removeprefix(f"{ACCOUNTS}/").partition("/")[0])
        known = self._logins.get(login.casefold())
        if known in self._ids and known not in self._ours:
            text = f"{entry.method} of {login}, whose account is not of our making"
            self._watch.violated("AdoptedTouched", f"{login} {entry.number}", text)

    # -- removals

    def commits(self, changes: tuple[Change, ...]) -> None:
        """Before the books take them."""
        books, now = self._watch.books, self._watch.now()
        leaving = [
            change.record
            for change in changes
            if isinstance(change, PutTester) and change.record.leaving and not self._leaves_already(change.record.name)
        ]
        if not leaving:
            return
        said = self._watch.said_since_taken()
        for record in leaving:
            absent = any(one.whole and one.fleet and record.name not in one.names for one in said)
            over = [one.expires[record.name] for one in said if record.name in one.expires]
            if not absent and not any(until < day for until in over for day in self._watch.days()):
                text = f"{record.name} is being removed, and the folder names it or cannot be read"
                self._watch.violated("RemovedThoughWanted", f"{record.name} {now}", text)
        text = next((change.text for change in changes if isinstance(change, PutFleet)), "")
        fleet = Fleet.model_validate_json(text) if text else books.fleet
        wanted = sum(not each.leaving for each in books.testers.values())
        safety = fleet.spec.safety if fleet is not None else None
        if safety and len(leaving) > safety.removals_of(wanted) and safety.allow_removals != len(leaving):
            text = f"{len(leaving)} of {wanted} are removed at once"
            self._watch.violated("RemovedThoughWanted", f"{len(leaving)} {now}", text)

    def _leaves_already(self, name: str) -> bool:
        known = self._watch.books.testers.get(name)
        return known is not None and known.leaving
