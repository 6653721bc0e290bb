"""HTML in every field of the language, and in every backend's words: nowhere on any page is it anything but text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import BaseModel

from api.server import make_app
from api.window import Window
from controller.places import Places, opened_store
from controller.records import (
    AddEvent,
    Condition,
    Event,
    JournalEntry,
    Outcome,
    Phase,
    PutCondition,
    PutFacts,
    PutJournal,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    Severity,
    SourceState,
    Status,
)
from controller.running import Controller
from controller.sources.mirror import GitError, Mirror, Repository
from controller.world import World
from reconcilers.backends import Backends
from reconcilers.backends.compute import ComputeClient, DaemonName, GatewayOrder, GridNode
from reconcilers.backends.engines import EngineClient
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.forge_pulls import open_pulls
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.mail import Letter, ResendMailer
from reconcilers.backends.notice_hooks import Delivery, NoticeHook
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import OutsideError
from reconcilers.facts import MachineFacts
from reconcilers.letters import Told, write_letter
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from specs.fleet import Fleet
from specs.loading import Loaded, load_documents
from specs.memory import Memory
from specs.tester import Tester
from tests.api import whole_specs
from tests.api.whole_specs import FLEET, TESTER, mappings, places, with_key, with_value
from tests.controller.fakes import START, ManualClock, record_of

TAG = "<img src=x onerror=alert(1)>"
HTML = f"\"'>{TAG}<script>alert(1)</script><svg/onload=alert(2)><!--"
PAGES = ("/", "/testers/alice", "/events", "/components", "/revisions", "/nodes", "/help/specs", "/help/forge")
FREE_TEXT = {
    "Tester spec.identity.fullName",
    "Tester spec.components.settings.hero_books.BOOKS_LIBRARIES",
    "Tester spec.paused.reason",
    "Tester spec.paused.by",
    "Fleet spec.compute.0.nodes.0.name",
    "Fleet spec.mail.smtp.user",
    "Fleet spec.mail.template.subject",
    "Fleet spec.mail.template.text",
    "Fleet spec.network.certificateAuthority",
}
"""What takes it, and shows it as text. Everything else refuses it, and says so on the page of what is wrong."""

Place = whole_specs.Path


class Injected(HTMLParser):
    """What of a page could only be somebody else's."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        ours = tag not in ("img", "iframe", "object") and (
            tag != "script" or (told.get("src") or "").startswith("/static/")
        )
        if not ours or any(name.startswith("on") for name in told):
            self.found.append(f"<{tag} {told}>")
        links = [value or "" for name, value in attrs if name in ("href", "src", "action")]
        self.found += [each for each in links if not each.startswith(("/", "#", "?", "https://"))]

    def handle_comment(self, data: str) -> None:
        self.found.append(f"<!--{data}")


@dataclass
class Stage:
    """One loop, one store, one app and one browser for all of them."""

    runner: asyncio.Runner
    controller: Controller
    browser: httpx.AsyncClient

    def write(self, *changes: Any) -> None:
        self.runner.run(self.controller.store.write(*changes))

    def shows(self, *paths: str) -> str:
        """The text of the pages; each is looked through."""
        whole = ""
        for path in paths:
            answer = self.runner.run(self.browser.get(path))
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert Injected(answer.text).found == [], path
            whole += answer.text
        return whole


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("html")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin() -> tuple[Controller, httpx.AsyncClient]:
            clock = ManualClock()
            where = Places(folder / "fleet", folder / "state")
            store = await stack.enter_async_context(opened_store(where, clock))
            controller = Controller(where, store, clock)
            transport = httpx.ASGITransport(make_app(Window(controller)))
            client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484")
            return controller, await stack.enter_async_context(client)

        yield Stage(runner, *runner.run(begin()))
        runner.run(stack.aclose())


# ------------------------------------------------------------------------------------------------ specs


READ = Memory()


def loaded(tester: dict[str, Any], fleet: dict[str, Any]) -> Loaded:
    files = {"alice.yaml": json.dumps(tester, indent=1).encode(), "fleet.yaml": json.dumps(fleet, indent=1).encode()}
    return load_documents(files, START.date(), frozenset({"alice"}), memory=READ)


def names(model: type[BaseModel]) -> set[str]:
    """Every field of a document, however deep."""
    found, seen, left = set(), set(), [model]
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        for field in one.model_fields.values():
            found.add(field.alias or "")
            left += _models(field.annotation)
            left += [each for extra in field.metadata for each in _models(extra)]
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inside = [*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())]
    return [model for each in inside for model in _models(each)]


def test_every_field_of_the_language_is_among_those_that_are_tried() -> None:
    tried = {str(place[-1]) for document in (TESTER, FLEET) for place in mappings(document)}
    tried |= {str(place[-1]) for place in whole_specs.ALSO}
    assert loaded(TESTER, FLEET).errors == ()
    assert (names(Tester) | names(Fleet)) - tried == set()


CASES = [
    *(("Tester", place) for place in places(TESTER)),
    *(("Fleet", place) for place in (*places(FLEET), *whole_specs.ALSO)),
]
KEYS = [
    *(("Tester", place) for place in mappings(TESTER) if len(place) > 2),
    *(("Fleet", place) for place in mappings(FLEET) if place[1:2] in (("providers",), ("componentSets",))),
]


def named(case: tuple[str, Place]) -> str:
    return f"{case[0]} {'.'.join(map(str, case[1]))}"


def there(kind: str, place: Place) -> Any:
    found: Any = TESTER if kind == "Tester" else FLEET
    for key in place:
        found = found[cast(int, key)] if isinstance(found, list) else found.get(key, "")
    return found


@cache
def with_html(kind: str, place: Place, value: Any) -> Loaded:
    return (
        loaded(with_value(TESTER, place, value), FLEET)
        if kind == "Tester"
        else loaded(TESTER, with_value(FLEET, place, value))
    )


@pytest.mark.parametrize("case", CASES, ids=named)
def test_html_in_a_field_is_refused_or_text(stage: Stage, case: tuple[str, Place]) -> None:
    found = [with_html(*case, value) for value in (HTML, f"{there(*case)}{HTML}")]
    taken = [one for one in found if not one.errors]
    assert bool(taken) == (named(case) in FREE_TEXT)
    for one in taken[:1]:
        take_in(stage, one)
        stage.shows(*PAGES)


def test_what_is_refused_is_shown_as_text(stage: Stage) -> None:
    """Every refusal of every field, and of every name of a field, at once: the page tells them all."""
    errors = [error for case in CASES for error in with_html(*case, HTML).errors]
    for kind, place in KEYS:
        documents = (
            (with_key(TESTER, place, HTML), FLEET) if kind == "Tester" else (TESTER, with_key(FLEET, place, HTML))
        )
        wrong = loaded(*documents).errors
        assert wrong, (kind, place)
        errors += wrong
    told = tuple(sorted(set(map(str, errors))))
    stage.write(PutSource(SourceState("folder", "r1", START, True, told)))
    text = stage.shows("/help/specs", "/")
    assert len(told) > len(CASES)
    assert "&lt;img src=x" in text


def test_html_in_the_name_of_a_file_is_text(stage: Stage) -> None:
    files = {
        f"{HTML}.yaml": json.dumps(TESTER).encode(),
        "fleet.yaml": json.dumps(FLEET).encode(),
        f"b{HTML}.yaml": b"[x",
    }
    take_in(stage, load_documents(files, START.date(), frozenset({"alice"})))
    assert "&lt;img src=x" in stage.shows(*PAGES)


def take_in(stage: Stage, found: Loaded) -> None:
    """What the controller would keep of such a revision."""
    errors = tuple(map(str, found.errors))
    source = SourceState(f"folder {HTML}", f"r{HTML}", START, True, errors)
    revision = RevisionRecord(
        source.revision, source.source, START, author=HTML, subject=HTML, errors=errors, changed=("alice",), text=HTML
    )
    alice = found.testers.get("alice") or loaded(TESTER, FLEET).testers["alice"]
    record = record_of(alice.desired, source_file=alice.file, source_error=errors[0] if errors else "", revision=HTML)
    stage.write(PutSource(source), PutRevision(revision), PutTester(record))
    if found.fleet is not None:
        backends = cast(Backends, _Away())
        looks = Looks(backends, stage.controller.clock, timedelta(seconds=10))
        stage.controller.engine._world = World(found.fleet, backends, looks, ())


class _Away:
    """Nobody answers, and says why."""

    def daemon(self, name: str) -> _Away:
        return self

    async def list_nodes(self) -> tuple[Any, ...]:
        raise OutsideError(HTML, system=f"compute {HTML}")


def test_html_in_a_letter_is_text() -> None:
    """Of the fields that take it, the wording is in a letter."""
    fleet = with_html("Fleet", ("spec", "mail", "template", "text"), HTML).fleet
    assert fleet is not None
    assert fleet.spec.mail is not None
    told = Told(HTML, HTML, HTML, Secret(HTML), "")
    letter = write_letter("welcome", "alice@example.org", told, fleet.spec.mail.template, "k")
    assert Injected(letter.html).found == []
    assert "&lt;img src=x" in letter.html


# ------------------------------------------------------------------------------------------------ backends


def gate(system: str) -> Gate:
    return Gate(system, SystemClock(), 3, 1000)


def wire(answer: httpx.Response, system: str) -> Wire:
    return Wire("http://outside.test", httpx.MockTransport(lambda _: answer), gate(system))


def forge(answer: httpx.Response) -> ForgeClient:
    return ForgeClient(wire(answer, "Forge"), "http://outside.test")


def daemon(answer: httpx.Response) -> ComputeClient:
    return ComputeClient(DaemonName("gent"), wire(answer, "compute gent"), Secret("s3cr3t-of-the-daemon"))


class HostileShell:
    """A machine that says HTML, on both of its mouths, or in the place where we look for a failure."""

    def __init__(self, out: str, rc: int = 7) -> None:
        self.out, self.rc = out, rc

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        nonce = script.split(b"\nN=", 1)[1].split(b"\n", 1)[0].decode()
        out = self.out.replace("@", nonce)
        return Ran(self.rc, out.encode(), HTML.encode(), "ssh-ed25519 AAAA")

    async def forget(self, key: str) -> None: ...

    async def aclose(self) -> None: ...


def machine(out: str, rc: int = 7) -> ShellMachines:
    return ShellMachines(HostileShell(out, rc))


ADDRESS = MachineAddress("gent/0007", "400::7")
FAILED = f"\n@ failed\n{HTML}\n@ end\n"
REFUSED = f"\n@ rpc 0 0\n{json.dumps({'error': {'code': -32602, 'message': HTML}})}\n@ end\n"


def told(status: int, **body: Any) -> httpx.Response:
    return httpx.Response(status, json=body, headers={"X-Accepted-Scopes": HTML})


PAGE = {"Content-Type": "text/html"}
RPC = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": HTML}}
ORDER = GatewayOrder("alice", GridNode("2"), "400::1")
LETTER = Letter("alice@example.org", "Welcome", "x", "<p></p>", "key-1")


async def engine() -> object:
    machines = machine(FAILED)
    made = EngineClient(
        "embedder", "http://e.test", ADDRESS, "embedder", "hero_embedder", machines, gate("engine"), broken_off
    )
    proof = await made.prove("alice", Secret("token-of-alice"))
    raise OutsideError(proof.error, system="engine embedder")


def broken_off() -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError(f"illegal status line: {HTML}")

    return httpx.MockTransport(answer)


def hook() -> NoticeHook:
    return NoticeHook("chat", gate("hook chat"), broken_off, Secret("https://chat.test/x"))


async def git(folder: Path) -> object:
    repository = Repository((folder / f"{TAG.replace('/', '')}").as_uri())
    try:
        return await Mirror(repository, folder / "mirror").fetch()
    except GitError as error:
        raise OutsideError(str(error), system="git") from error


Call = Callable[[Path], Awaitable[object]]
CALLS: dict[str, Call] = {
    "Forge refuses a name": lambda _: forge(told(422, message=HTML)).create_account(
        "a", "a@example.org", Secret("p" * 20)
    ),
    "Forge refuses a right": lambda _: forge(told(403, message=HTML)).oauth_apps(),
    "Forge is down": lambda _: forge(told(500, message=HTML)).account("alice"),
    "Forge shows a page": lambda _: forge(httpx.Response(200, text=HTML, headers=PAGE)).account("alice"),
    "Forge's pull requests": lambda _: open_pulls(forge(told(404, message=HTML)), "o", "r", "main"),
    "a daemon refuses": lambda _: daemon(httpx.Response(200, json=RPC)).deploy_gateway(ORDER),
    "a daemon's relay": lambda _: daemon(httpx.Response(502, text=HTML, headers=PAGE)).list_vms(),
    "a daemon shows a page": lambda _: daemon(httpx.Response(200, text=HTML, headers=PAGE)).list_vms(),
    "Resend refuses": lambda _: ResendMailer(wire(told(422, name=HTML, message=HTML), "mail"), "a@example.org").send(
        LETTER
    ),
    "a command fails": lambda _: machine(FAILED).start_service(ADDRESS, "hero_books"),
    "a script's answer is cut off": lambda _: machine(HTML).start_service(ADDRESS, "hero_books"),
    "a shell complains": lambda _: machine("").job_log(ADDRESS, "x"),
    "an engine breaks off": lambda _: engine(),
    "a notice's webhook breaks off": lambda _: hook().send(Delivery("x", (), "k")),
    "git complains": git,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_html_in_a_backends_words_is_text(stage: Stage, call: Call, tmp_path: Path) -> None:
    with pytest.raises(OutsideError) as caught:
        stage.runner.run(as_coroutine(call(tmp_path)))
    tell(stage, str(caught.value))
    stage.shows("/", "/testers/alice", "/events", "/help/specs")


def test_what_they_say_is_on_the_pages(stage: Stage) -> None:
    """Else the others prove nothing."""
    tell(stage, HTML)
    for path in PAGES:
        stage.shows(path)
    for path in ("/", "/testers/alice", "/events", "/help/specs"):
        assert "&lt;img src=x" in stage.shows(path), path


async def as_coroutine(made: Awaitable[object]) -> object:
    return await made


def tell(stage: Stage, words: str) -> None:
    """Everywhere where words of the outside come to stand."""
    alice = loaded(TESTER, FLEET).testers["alice"].desired
    record = record_of(alice, phase=Phase.STALLED, current=words, source_error=words)
    machine_of = MachineFacts(daemon="gent", vm_id=words, vm_name=words, node_sid="0001", address=words)
    stage.write(
        PutTester(record),
        PutFacts("alice", machine_of, "", START),
        PutCondition(Condition("alice", "Ready", Status.FALSE, "Blocked", words, 1, START, blames=words)),
        PutCondition(Condition("alice", "Machine", Status.FALSE, "Blocked", words, 1, START, blames=words)),
        PutCondition(Condition("alice", "SignInProtected", Status.FALSE, "SeenOpen", words, 1, START, blames=words)),
        PutCondition(Condition("", "NothingOrphaned", Status.FALSE, "Orphaned", words, 0, START)),
        PutCondition(Condition("", "BackendsUsable", Status.FALSE, "TokenRefused", words, 0, START, blames=words)),
        PutJournal(JournalEntry("j1", "alice", "machine", "create", words, START, Outcome.FAILED, START, None, words)),
        AddEvent(Event("alice", "machine", "Failed", words, START, Severity.WARNING)),
        AddEvent(Event("", "source", "SpecBroken", words, START, Severity.WARNING)),
        PutSource(SourceState(words, words, START, False, (words, f"alice.yaml:3:1 {words}"), held=(words,))),
    )
    stage.controller.engine.world_error = words
