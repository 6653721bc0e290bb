"""A fleet of any size that has come to rest, without living as many lives: one tester lives, and is copied.

One tester is brought up by the whole controller in a make-believe world (`tests/worlds`). What its life left in the store, what
the outside would list of it, and what its machine answers to a look are kept as a sample; every other tester is that sample
under another name, with ids, addresses and proofs of its own. The outside then stands at the clients' transport and at the
shell of the machines: it answers from the samples, in bulk where the real one does, and counts.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from controller.places import Places
from controller.records import (
    Change,
    PutCondition,
    PutFacts,
    PutFleet,
    PutObject,
    PutTester,
    Seal,
    TesterBooks,
)
from controller.store import Store
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_shell import Frame, Ran
from reconcilers.door import proof_digest
from reconcilers.facts import (
    AccountFacts,
    Facts,
    GatewayFacts,
    MachineFacts,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
)
from specs.fleet import Fleet
from specs.loading import LoadedTester, load_folder
from specs.names import gateway_name, oauth_app_name, vm_name
from tests.worlds import machine_look
from tests.worlds.rig import Rig, world

SAMPLE = "t00000"
PAGE = 50
ROUND_TRIP = 0.05  # virtual seconds of a call over HTTP
LOOK = 0.3  # virtual seconds of a look at a machine
LOGIN = 0.7  # and of signing in before the first
BATCH = 500  # testers in one write
LIMITS = {
    "forge": {"inFlight": 16, "perSecond": 500},
    "compute": {"inFlight": 8, "perSecond": 100},
    "machine": {"inFlight": 256, "perSecond": 2_000},
    "outside": {"inFlight": 64, "perSecond": 500},
}
"""Of a fleet of thousands: with the usual ones a hundred machines a second are looked at."""
FLEET: dict[str, Any] = {"engines": [], "timing": {"resync": "5m"}, "limits": LIMITS}
USUAL: dict[str, Any] = {**FLEET, "limits": {}}


@dataclass(frozen=True)
class Sample:
    """What one settled life left. `answers` by method and address, or by "rpc" and the method of a daemon."""

    books: TesterBooks
    fleet: Fleet
    fleet_text: str
    document: dict[str, Any]
    frames: tuple[Frame, ...]
    answers: dict[tuple[str, str], httpx.Response]
    at: datetime
    folder: Path  # of the specs, where the references to files start

    def fact(self, kind: type[StepFacts]) -> Any:
        return self.books.facts[kind.step]


class _Heard(httpx.AsyncBaseTransport):
    """Passes everything on, and keeps the last answer to each question."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.answers: dict[tuple[str, str], httpx.Response] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        await answer.aread()
        if answer.status_code != 304:
            self.answers[_question(request)] = answer
        return answer


def _question(request: httpx.Request) -> tuple[str, str]:
    if request.method == "POST" and request.url.path == "/rpc":
        return "rpc", json.loads(request.content)["method"].rpartition(".")[2]
    if request.url.scheme == "https" and "grid.test" in request.url.host:
        return "outside", request.url.path
    return request.method, request.url.raw_path.decode()


async def sampled(root: Path, fleet: dict[str, Any] | None = None) -> Sample:
    """One life, until nothing is left to do and every path was seen from outside."""
    seen: list[tuple[Frame, ...]] = []
    look = machine_look.Looking.look

    async def heard(self: machine_look.Looking, query: Any) -> Any:
        found = await look(self, query)
        ground = self.ground
        names = {"stale": ground.stale, "settings": ground.settings, "components": ground.components}
        ours = [Frame((kind,), "\n".join(map(_file_name, sorted(names[kind]))).encode()) for kind in names]
        seen.append((*self.found, *ours))
        return found

    machine_look.Looking.look = heard  # type: ignore[method-assign]
    try:
        async with world(root, [SAMPLE], fleet=fleet or FLEET) as rig:
            transport = _listening(rig)
            await rig.restart(graceful=True)
            await rig.ready(SAMPLE)
            await rig.settled()
            await rig.run_for(timedelta(hours=12))  # one path from outside in each half hour
            books = await rig.store.books(SAMPLE)
            known = await rig.store.fleet()
            assert books is not None
            assert known is not None
            document = yaml.safe_load((rig.places.folder / "fleet.yaml").read_text())
            fleet_now = Fleet.model_validate_json(known[0])
            return Sample(
                books,
                fleet_now,
                known[0],
                document,
                seen[-1],
                dict(transport.answers),
                rig.clock.now(),
                rig.places.folder,
            )
    finally:
        machine_look.Looking.look = look  # type: ignore[method-assign]


def _file_name(name: Any) -> str:
    from reconcilers.backends.machine_scripts import file_name, setting_file

    return file_name(name) if isinstance(name, str) else setting_file(name)


def _listening(rig: Rig) -> _Heard:
    heard = _Heard(rig._transport)
    rig._transport = heard  # type: ignore[assignment]
    return heard


# ------------------------------------------------------------------------------------------------ copies


@dataclass(frozen=True, slots=True)
class Copy:
    """Another tester: the sample under another name."""

    number: int
    sample: Sample = field(repr=False)

    @property
    def name(self) -> str:
        return f"t{self.number:05d}"

    @property
    def uid(self) -> str:
        return f"u{self.number:05d}"

    @property
    def vm_id(self) -> str:
        return f"{self.number + 1:05d}"

    @property
    def address(self) -> str:
        return f"483:cdd:1b56:46ac:c48b:4a65:{self.number >> 8:x}:{(self.number & 255) + 1:x}"

    @property
    def client_id(self) -> str:
        return f"{self.number:08d}-de85-3886-791c-747837030aba"

    @property
    def forge_id(self) -> int:
        return 10_000 + self.number

    @property
    def app_id(self) -> int:
        return 100_000 + self.number

    @property
    def key(self) -> str:
        """The machine's."""
        return f"{self.sample.fact(MachineFacts).daemon}/{self.vm_id}"

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What stands for what, the longest first."""
        sample, record = self.sample, self.sample.books.record
        gateway = sample.fact(GatewayFacts)
        return (
            (sample.fact(SignInAppFacts).client_id, self.client_id),
            (sample.fact(MachineFacts).address, self.address),
            (oauth_app_name(SAMPLE, record.uid), oauth_app_name(self.name, self.uid)),
            (gateway.gateway_name, gateway_name(self.name, self.uid)),
            (vm_name(SAMPLE, record.uid), vm_name(self.name, self.uid)),
            (SAMPLE, self.name),
            (record.uid, self.uid),
        )

    def told(self, text: str) -> str:
        for old, new in self.pairs():
            text = text.replace(old, new)
        return text

    def facts(self, kept: StepFacts) -> StepFacts:
        """What a step learnt, of this one."""
        own = type(kept).model_validate_json(self.told(kept.model_dump_json()))
        ids: dict[type[StepFacts], dict[str, Any]] = {
            AccountFacts: {"forge_id": self.forge_id},
            MachineFacts: {"vm_id": self.vm_id},
            GatewayFacts: {"gateway_id": self.vm_id},
            SignInAppFacts: {"app_id": self.app_id},
        }
        return own.model_copy(update=ids.get(type(kept), {}))

    def identity(self, told: dict[str, str]) -> dict[str, str]:
        """Of a row."""
        ids = {
            "forge_id": str(self.forge_id),
            "vm_id": self.vm_id,
            "machine": self.key,
            "gateway_id": self.vm_id,
            "app_id": str(self.app_id),
        }
        return {key: ids.get(key, self.told(value)) for key, value in told.items()}

    def changes(self, loaded: LoadedTester, share: float) -> Iterator[Change]:
        """Its rows. `share`: how far its last proof lies back, as a part of the interval."""
        books, sample = self.sample.books, self.sample
        record = replace(
            books.record,
            name=self.name,
            uid=self.uid,
            desired=loaded.desired,
            digest=loaded.digest,
            source_file=loaded.file,
            source_line=loaded.line,
        )
        yield PutTester(record)
        for row in books.objects:
            identity = self.identity(dict(row.identity))
            yield PutObject(replace(row, tester=self.name, name=self.told(row.name), identity=identity))
        found = {step: self.facts(kept) for step, kept in books.facts.items()}
        gate = found[SignInGateFacts.step]
        assert isinstance(gate, SignInGateFacts)
        interval = sample.fleet.spec.timing.outside_proof_every
        known = Facts(tester=self.name, uid=self.uid, fleet=sample.fleet, steps=found)
        update = {
            "proven": proof_digest(loaded.desired, known),
            "checked_at": sample.at - interval * share,
            "checked_path": self.number % 7,
        }
        found[gate.step] = gate.model_copy(update=update)
        for each in found.values():
            yield PutFacts(self.name, each, self.key if each.on_machine else "", sample.at)
        for one in books.conditions.values():
            yield PutCondition(replace(one, tester=self.name, message=self.told(one.message)))
        for name, secret in books.sealed.items():
            yield Seal(name.replace(SAMPLE, self.name), secret, sample.at)


async def filled(sample: Sample, number: int, places: Places, store: Store) -> list[Copy]:
    """Writes specs and rows of so many settled testers."""
    places.folder.mkdir(parents=True, exist_ok=True)
    (places.folder / "fleet.yaml").write_text(yaml.safe_dump(sample.document, sort_keys=False))
    copies = [Copy(each, sample) for each in range(number)]
    for one in copies:
        (places.folder / f"{one.name}.yaml").write_text(spec_of(one))
    loaded = load_folder(places.folder, datetime(2026, 1, 1, tzinfo=UTC).date())
    assert not loaded.errors, loaded.errors[:3]
    await store.write(PutFleet(sample.fleet_text, "sample"))
    for start in range(0, number, BATCH):
        some = copies[start : start + BATCH]
        changes = [each for one in some for each in one.changes(loaded.testers[one.name], one.number / number)]
        await store.write(*sorted(changes, key=lambda change: _ORDER.index(type(change))))
    return copies


_ORDER: list[type[Any]] = [PutTester, PutObject, PutFacts, PutCondition, Seal]
"""A run of changes of one kind is one statement."""


def spec_of(one: Copy, **more: Any) -> str:
    body = {"identity": {"email": f"{one.name}@example.org"}, "machine": {"keepAfterRemoval": "0s"}, **more}
    head = {"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": one.name}}
    return yaml.safe_dump({**head, "spec": body}, sort_keys=False)


# ------------------------------------------------------------------------------------------------ the outside


class Outside(httpx.AsyncBaseTransport):
    """Answers for all copies over HTTP, and as the shell of their machines. Counts calls by system and what was asked."""

    def __init__(self, sample: Sample, copies: list[Copy], sleep: Any) -> None:
        self.sample, self.copies = sample, copies
        self.calls: Counter[tuple[str, str]] = Counter()
        self.cpu = 0.0  # seconds of processor that answering took: another machine's in life
        self.listeners: list[Callable[[int], None]] = []  # told whose machine is called, before it answers
        self.sleep = sleep
        self._copies = {one.key: one for one in copies}
        self._by_host = {one.told(sample.fact(GatewayFacts).fqdn): one for one in copies}
        self._seen: set[str] = set()
        self._frames = _as_told(sample)
        self._pages = self._accounts(copies)
        self._rpc = self._listings(copies)
        self._apps = self._all_apps(copies)

    def anew(self) -> Outside:
        """The same for another life: nobody is connected."""
        other = copy(self)
        other.calls, other.cpu, other.listeners, other._seen = Counter(), 0.0, [], set()
        return other

    # -- over HTTP

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.sleep(ROUND_TRIP)
        with self._on_its_own():
            return self._answered(request)

    @contextmanager
    def _on_its_own(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.cpu += time.process_time() - began

    def _answered(self, request: httpx.Request) -> httpx.Response:
        kind, what = _question(request)
        if kind == "outside":
            self.calls["outside", "probe"] += 1
            one = self._by_host[request.url.host]
            answer = self.sample.answers[kind, what]
            headers = [(name, one.told(value)) for name, value in answer.headers.items() if name != "content-length"]
            return httpx.Response(answer.status_code, headers=headers, content=b"", request=request)
        if kind == "rpc":
            self.calls["compute", what] += 1
            body = b'{"jsonrpc":"2.0","id":%d,"result":' % json.loads(request.content)["id"]
            return _json(request, body + self._rpc[what] + b"}")
        return self._forge(request, kind, what)

    def _forge(self, request: httpx.Request, method: str, what: str) -> httpx.Response:
        path = request.url.path
        self.calls["forge", f"{method} {re.sub('/repos/.*/releases', '/releases', path)}"] += 1
        if path.endswith("/admin/users"):
            return _json(
                request, self._pages.get(int(request.url.params["page"]), b"[]"), {"X-Total-Count": str(self._total)}
            )
        if path.endswith("/applications/oauth2"):
            return _json(request, self._apps)
        known = self.sample.answers[method, what]
        if known.headers.get("etag") and request.headers.get("if-none-match") == known.headers["etag"]:
            return httpx.Response(304, request=request)
        return httpx.Response(known.status_code, headers=known.headers, content=known.content, request=request)

    # -- over SSH

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        self.calls["machine", name] += 1
        one = self._copies[address.key]
        for heard in self.listeners:
            heard(one.number)
        await self.sleep(LOOK if address.key in self._seen else LOOK + LOGIN)
        self._seen.add(address.key)
        with self._on_its_own():
            return self._looked_at(one, script)

    def _looked_at(self, one: Copy, script: bytes) -> Ran:
        begins = script.index(b"\nN=") + 3
        nonce = script[begins : script.index(b"\n", begins)]
        out = self._frames.replace(b"@@", nonce)
        for old, new in one.pairs():
            out = out.replace(old.encode(), new.encode())
        host_key = self.sample.books.facts["machine_access"].host_key  # type: ignore[attr-defined]
        return Ran(0, out, b"", host_key)

    async def forget(self, key: str) -> None:
        self._seen.discard(key)

    # -- what is listed

    def _accounts(self, copies: list[Copy]) -> dict[int, bytes]:
        """By page, as Forge shows them."""
        known = next(answer for (_, what), answer in self.sample.answers.items() if "/admin/users?page=1" in what)
        rows = json.loads(known.content)
        mine = next(row for row in rows if row["login"] == SAMPLE)
        others = [row for row in rows if row["login"] != SAMPLE]
        made = [{**json.loads(one.told(json.dumps(mine))), "id": one.forge_id} for one in copies]
        found = [*others, *made]
        self._total = len(found)
        pages = range(0, len(found), PAGE)
        return {start // PAGE + 1: json.dumps(found[start : start + PAGE]).encode() for start in pages}

    def _all_apps(self, copies: list[Copy]) -> bytes:
        known = next(answer for (_, what), answer in self.sample.answers.items() if what.endswith("/oauth2"))
        (mine,) = json.loads(known.content)
        found = [{**json.loads(one.told(json.dumps(mine))), "id": one.app_id} for one in copies]
        return json.dumps(found).encode()

    def _listings(self, copies: list[Copy]) -> dict[str, bytes]:
        """By method, what the daemon answers."""
        found = {}
        for (kind, method), answer in self.sample.answers.items():
            if kind != "rpc":
                continue
            result = json.loads(answer.content)["result"]
            rows = (
                next((rows for rows in result.values() if isinstance(rows, list)), None)
                if isinstance(result, dict)
                else result
            )
            if method in ("list_vms", "list_webgateways") and isinstance(rows, list):
                mine = next(row for row in rows if SAMPLE in json.dumps(row))
                key = "sid" if "sid" in mine else "id"
                rows[:] = [{**json.loads(one.told(json.dumps(mine))), key: one.vm_id} for one in copies]
            found[method] = json.dumps(result).encode()
        return found


@dataclass(frozen=True)
class OutsideShell:
    """The machines' shell, behind the same gate as the real one."""

    outside: Outside
    gate: Gate

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        async with self.gate.passing(Call(f"machine {address.key}", name, writing)):
            return await self.outside.run(address, script, name=name, writing=writing)

    async def forget(self, key: str) -> None:
        await self.outside.forget(key)

    async def aclose(self) -> None:
        """Nothing is kept open."""


def _as_told(sample: Sample) -> bytes:
    """The answer to a look, with @@ for the word that only the call knows."""
    frames = b"".join(b"\n@@ " + " ".join(each.words).encode() + b"\n" + each.body for each in sample.frames)
    return frames + b"\n@@ end\n"


def _json(request: httpx.Request, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(
        200, headers={"Content-Type": "application/json", **(headers or {})}, content=body, request=request
    )
