"""Notices: once for each thing, over only after it has stayed so, also across restarts and while somebody cannot be told."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from api.signatures import is_signed
from controller.news import news_of
from controller.records import Condition, DropTester, Phase, PutCondition, PutTester, SetStatus, Status, TesterRecord
from controller.store import Store
from controller.store.briefs import Outline
from controller.telling.noticing import GIVEN_UP, NAMED, RETRY, TYPES, Noticing
from reconcilers.backends.limits import Gate
from reconcilers.backends.mail import Letter
from reconcilers.backends.notice_hooks import NoticeHook
from reconcilers.errors import Blocked, OutsideError, Rejected, Transient
from reconcilers.secret import Secret
from specs.notify import Notify
from tests.controller.fakes import FLEET, ManualClock
from tests.controller.store.samples import a_condition, a_tester
from tests.controller.store.test_plans import watched

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ADDRESS = Secret("https://chat.example.test/hooks/s3cret-path-of-the-hook")
KEY = Secret("the key of the webhook")
HOOK = {"name": "chat", "url": "env:CHAT", "secret": "env:CHAT_KEY"}


@dataclass
class Post:
    """Both ways out: what came through, and what fails."""

    letters: list[Letter] = field(default_factory=list)
    posts: list[httpx.Request] = field(default_factory=list)
    mail_fails: OutsideError | None = None
    status: int = 200

    async def send(self, letter: Letter) -> str:
        if self.mail_fails is not None:
            raise self.mail_fails
        self.letters.append(letter)
        return "1"

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.status == 200:
            self.posts.append(request)
        return httpx.Response(self.status)

    def told(self) -> list[str]:
        """The lines of all letters, without when."""
        return [line.partition(" (since")[0] for letter in self.letters for line in letter.text.splitlines() if line]


@dataclass
class Office:
    store: Store
    clock: ManualClock
    post: Post
    notify: Notify
    noticing: Noticing = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, address: Secret = ADDRESS) -> None:
        gate = Gate("webhook chat", self.clock, in_flight=2, per_second=100)
        hook = NoticeHook("chat", gate, lambda: httpx.MockTransport(self.post.answer), address, KEY)

        async def leave() -> None:
            """Nobody closes it."""

        spec = FLEET.spec.model_copy(update={"notify": self.notify})
        backends = SimpleNamespace(mail=self.post, hooks={"chat": hook})
        fleet = FLEET.model_copy(update={"spec": spec})
        world: Any = SimpleNamespace(fleet=fleet, backends=backends, users=0, leave=leave)
        self.noticing = Noticing(self.store, self.clock, lambda: world)

    async def look(self, after: timedelta = SECOND) -> None:
        self.clock.pass_by(after)
        await self.noticing.look()

    async def add(self, name: str = "alice") -> TesterRecord:
        record = replace(a_tester(name=name), uid=f"{name}0", added_at=self.clock.now(), phase=Phase.PENDING)
        await self.store.write(PutTester(replace(record, ready_at=None)))
        return record

    async def comes_to(self, phase: Phase, name: str = "alice", reason: str = "") -> None:
        now = self.clock.now()
        status = Status.TRUE if phase is Phase.READY else Status.FALSE
        record = await self.store.tester(name)
        assert record is not None
        ready_at = now if phase is Phase.READY else record.ready_at
        await self.store.write(
            SetStatus(name, phase, 50, "", 1, None, ready_at=ready_at),
            PutCondition(Condition(name, "Ready", status, reason or str(phase), f"it is {phase}", 1, now)),
        )

    async def says(self, kind: str, status: Status, message: str, name: str = "alice") -> None:
        await self.store.write(PutCondition(Condition(name, kind, status, "Reason", message, 1, self.clock.now())))


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
async def office(store: Store, clock: ManualClock, post: Post) -> Office:
    notify = Notify.model_validate({"mail": ["mik@example.org"], "hooks": [HOOK]})
    made = Office(store, clock, post, notify)
    await made.look()
    return made


async def test_ready_is_told_once_by_mail_and_by_webhook(office: Office, post: Post) -> None:
    await office.add()
    await office.look()
    await office.comes_to(Phase.READY)
    for _ in range(3):
        await office.look()
    assert post.told() == ["alice is ready"]
    assert len(post.posts) == 1
    body = post.posts[0].content
    assert json.loads(body)["notices"][0]["kind"] == "ready"
    assert is_signed(body, dict(post.posts[0].headers), KEY)
    told = [event.reason for event in await office.store.events("alice") if event.step == "notices"]
    assert told == ["ToldReady"]


async def test_nothing_is_read_while_nothing_was_written_and_nothing_lasts(
    office: Office, store: Store, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much to read every half minute in a fleet at rest."""
    read, asked = store.outlines, []

    async def noted(kinds: tuple[str, ...], names: Set[str] | None) -> dict[str, Outline]:
        asked.append(names)
        return await read(kinds, names)

    monkeypatch.setattr(store, "outlines", noted)
    await office.add()
    await office.comes_to(Phase.READY)
    for _ in range(3):
        await office.look(MINUTE)
    assert (asked, post.told()) == ([{"alice"}], ["alice is ready"])
    office.notify = office.notify.model_copy(update={"about": ("ready",)})
    office.restart()
    asked.clear()
    await office.look()
    await office.look()
    assert asked == [None]
    await office.comes_to(Phase.FAILING)
    for _ in range(3):
        await office.look(MINUTE)
    assert asked[1:] == [{"alice"}] * 3  # how long it fails may become news


async def test_of_a_fleet_at_rest_only_who_fails_is_read(office: Office, store: Store, post: Post) -> None:
    """However many others there are, and whatever is wanted of them."""
    others = [a_tester(f"t{number}", uid=f"u{number}") for number in range(300)]
    await store.write(*(PutTester(replace(each, phase=Phase.READY, ready_at=each.added_at)) for each in others))
    await store.write(*(PutCondition(a_condition(kind, of=each.name)) for each in others for kind in TYPES))
    await office.add()
    await office.comes_to(Phase.FAILING)
    await office.look()
    with watched() as sent:
        for _ in range(3):
            await office.look()
    rows = [await store._database.read(partial(rows_of, statement, told)) for statement, told in sent]
    assert rows == [1, 1, 0] * 3  # her row, her condition, and the fleet's conditions
    await office.look(office.notify.failing_for)
    assert post.told()[-1] == "alice has been failing: it is Failing"
    await office.comes_to(Phase.STALLED, "t299")
    with watched() as sent:
        await office.look()
    assert post.told()[-1] == "t299 waits for a person: it is Stalled"
    assert "testers.desired," not in " ".join(statement for statement, _ in sent)


def rows_of(statement: str, told: Any, connection: Connection) -> int:
    return len(connection.exec_driver_sql(statement, told).all())


async def test_when_it_is_not_known_what_was_missed_everybody_is_read(office: Office, post: Post) -> None:
    """Nobody heard of the others' words while a replica's line was cut."""
    await office.add("a")
    await office.add("b")
    await office.look()
    heard, office.store.listeners[:] = list(office.store.listeners), []
    await office.comes_to(Phase.STALLED, "b")
    office.store.listeners[:] = heard
    await office.look()
    assert post.told() == []
    news_of(office.store).forget()
    await office.look()
    assert post.told() == ["b waits for a person: it is Stalled"]


async def test_what_is_asked_for_anew_is_told_though_nothing_was_written_since(
    store: Store, clock: ManualClock, post: Post
) -> None:
    office = Office(store, clock, post, Notify.model_validate({"mail": ["mik@example.org"], "about": ["ready"]}))
    await office.add()
    await office.says("SignInProtected", Status.FALSE, "a stranger was let in at /")
    for _ in range(3):
        await office.look()
    assert post.told() == []
    same, office.notify = office.noticing, office.notify.model_copy(update={"about": ("door",)})
    office.restart()
    same.world, office.noticing = office.noticing.world, same
    await office.look()
    assert post.told() == ["the door of alice was found open: a stranger was let in at /"]


async def test_who_was_there_before_anybody_was_to_be_told_is_no_news(
    store: Store, clock: ManualClock, post: Post
) -> None:
    office = Office(store, clock, post, Notify.model_validate({"mail": ["mik@example.org"]}))
    await office.add()
    await office.comes_to(Phase.READY)
    await office.look(MINUTE)
    await office.comes_to(Phase.READY)
    await office.look(MINUTE)
    assert post.told() == []


async def test_failing_is_told_when_it_lasts_and_over_when_that_lasts(office: Office, post: Post) -> None:
    await office.add()
    await office.comes_to(Phase.FAILING, reason="One")
    await office.look(office.notify.failing_for / 2)
    await office.comes_to(Phase.FAILING, reason="Another")  # why it fails changes; that it fails does not
    assert post.told() == []
    await office.look(office.notify.failing_for / 2)
    await office.look(MINUTE)
    assert post.told() == ["alice has been failing: it is Failing"]
    for _ in range(3):  # it flaps
        await office.comes_to(Phase.READY)
        await office.look(office.notify.recovered_for - SECOND)
        await office.comes_to(Phase.FAILING)
        await office.look(office.notify.failing_for * 2)
    assert [line for line in post.told() if "ready again" in line] == []
    assert len([line for line in post.told() if "failing" in line]) == 1
    await office.comes_to(Phase.READY)
    await office.look()
    await office.look(office.notify.recovered_for)  # nothing was written since
    assert post.told()[-1] == "alice is ready again"


async def test_a_short_failure_is_nobodys_news_and_a_stall_is_at_once(office: Office, post: Post) -> None:
    await office.add()
    await office.comes_to(Phase.FAILING)
    await office.look(office.notify.failing_for / 2)
    await office.comes_to(Phase.PROGRESSING)
    await office.look()
    await office.comes_to(Phase.FAILING)
    await office.look(office.notify.failing_for * 0.9)
    assert post.told() == []
    await office.comes_to(Phase.STALLED)
    await office.look()
    assert post.told() == ["alice waits for a person: it is Stalled"]


async def test_an_open_door_is_told_at_once_and_once(office: Office, post: Post) -> None:
    await office.add()
    await office.says("SignInProtected", Status.FALSE, "a stranger was let in at /")
    for _ in range(3):
        await office.look(MINUTE)
    assert post.told() == ["the door of alice was found open: a stranger was let in at /"]
    await office.says("SignInProtected", Status.TRUE, "every path asks")
    await office.look()
    await office.look(office.notify.recovered_for)
    assert post.told()[1:] == ["the door of alice is proven to ask for sign-in again"]


@pytest.mark.parametrize(("kind", "status"), [("UpdateAvailable", Status.TRUE), ("Lasting", Status.FALSE)])
async def test_what_says_something_new_is_told_again(office: Office, post: Post, kind: str, status: Status) -> None:
    await office.add()
    for message in ("hero_books v2", "hero_books v2", "hero_books v3"):
        await office.says(kind, status, message)
        await office.look()
    assert post.told() == ["alice: hero_books v2", "alice: hero_books v3"]


async def test_only_what_was_asked_for(office: Office, post: Post) -> None:
    office.notify = office.notify.model_copy(update={"about": ("door",)})
    office.restart()
    await office.add()
    await office.comes_to(Phase.STALLED)
    await office.says("SignInProtected", Status.FALSE, "open")
    await office.look()
    assert post.told() == ["the door of alice was found open: open"]


async def test_after_a_restart_nothing_is_told_again_and_what_is_over_is(office: Office, post: Post) -> None:
    await office.add()
    await office.comes_to(Phase.STALLED)
    await office.look()
    office.restart()
    await office.look(MINUTE)
    assert len(post.told()) == 1
    await office.comes_to(Phase.READY)
    office.restart()
    await office.look(office.notify.recovered_for)
    office.restart()
    await office.look(MINUTE)
    assert post.told()[1:] == ["alice is ready", "alice is ready again"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_another_tester_of_the_same_name_is_news(office: Office, post: Post, restarted: bool) -> None:
    await office.add()
    await office.comes_to(Phase.READY)
    await office.look()
    office.clock.pass_by(SECOND)
    await office.add()
    if restarted:
        office.restart()
    await office.look(MINUTE)
    await office.comes_to(Phase.READY)
    await office.look()
    assert post.told() == ["alice is ready", "alice is ready"]


@pytest.mark.parametrize("error", [Transient("down", system="mail"), Blocked("no key", system="mail")])
async def test_who_cannot_be_told_now_is_told_later_and_nobody_twice(
    office: Office, post: Post, error: OutsideError
) -> None:
    post.mail_fails = error
    await office.add()
    await office.comes_to(Phase.STALLED)
    await office.look()
    assert (len(post.letters), len(post.posts)) == (0, 1)
    post.mail_fails = None
    await office.look()
    assert post.letters == []  # not at every look
    await office.look(RETRY)
    await office.look(RETRY)
    assert (len(post.letters), len(post.posts)) == (1, 1)


async def test_a_refused_recipient_is_given_up_and_one_that_never_comes_back_too(office: Office, post: Post) -> None:
    post.mail_fails, post.status = Rejected("no such address", system="mail"), 503
    await office.add()
    await office.comes_to(Phase.STALLED)
    await office.look()
    await office.look(GIVEN_UP)
    post.mail_fails, post.status = None, 200
    await office.look(GIVEN_UP)
    assert (post.letters, post.posts) == ([], [])
    assert [e.reason for e in await office.store.events("alice") if e.step == "notices"] == ["ToldFailing"]


@pytest.mark.parametrize(
    "odd", [b"\xff\xfeh\x00t\x00", b"https://[chat.test/x", b"https://chat.test/a\x00b", b"chat.test/x"]
)
async def test_a_webhook_without_an_address_that_can_be_called_keeps_no_letter_from_others(
    office: Office, post: Post, caplog: pytest.LogCaptureFixture, odd: bytes
) -> None:
    office.restart(Secret(odd))
    await office.look()
    await office.add("alice")
    for name in ("bob", "carol"):
        await office.add(name)
        await office.look()
        await office.comes_to(Phase.READY, name)
        await office.look()
    assert post.told() == ["bob is ready", "carol is ready"]
    assert "is no address of a webhook" in caplog.text


async def test_many_at_once_are_one_letter(office: Office, post: Post) -> None:
    for number in range(NAMED + 5):
        await office.add(f"t{number}")
        await office.comes_to(Phase.STALLED, f"t{number}")
    await office.look()
    (letter,) = post.letters
    assert letter.subject == f"{NAMED + 5} notices on testers"
    assert letter.text.splitlines()[-1] == "… and 5 more"


async def test_of_who_is_gone_nothing_is_remembered_and_a_namesake_is_told_of_anew(office: Office, post: Post) -> None:
    await office.says("BackendsUsable", Status.FALSE, "Forge refuses the token", name="")
    for _ in range(2):
        record = await office.add()
        await office.look()
        await office.comes_to(Phase.STALLED)
        await office.look()
        leaving = PutTester(replace(record, ready_at=None, removed_at=office.clock.now()))
        await office.store.write(leaving, DropTester("alice"))
        await office.look()
        held = office.noticing._ledger
        assert held is not None
        assert (list(held.told), held.awaited, office.noticing._ailing) == ([("", "failing")], set(), {})
    assert post.told()[1:] == ["alice waits for a person: it is Stalled"] * 2


async def test_the_fleets_own_troubles_are_told(office: Office, post: Post) -> None:
    await office.says("BackendsUsable", Status.FALSE, "Forge refuses the token", name="")
    await office.look()
    await office.look(MINUTE)
    assert post.told() == ["the fleet: Forge refuses the token"]
    await office.says("BackendsUsable", Status.TRUE, "fine", name="")
    await office.look()
    await office.look(office.notify.recovered_for)
    assert post.told()[1:] == ["the fleet: all is well again"]


async def test_a_webhooks_address_is_in_no_error(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot connect to {request.url}")

    office.post.answer = refuse  # type: ignore[method-assign]
    office.restart()
    await office.add()
    await office.comes_to(Phase.STALLED)
    await office.look()
    assert "webhook chat" in caplog.text
    assert "s3cret-path" not in caplog.text
