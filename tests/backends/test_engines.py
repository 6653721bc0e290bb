"""Shared engines: the list of tenants through our real scripts in a real shell, and the proof over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from reconcilers.backends.engines import NEIGHBOURS, STRANGER, EngineClient, EngineProof, token_hash
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress, MachineLook, MachineQuery, SettingKey
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, OutsideError, Transient, Unreachable
from reconcilers.secret import Secret

HOUR = timedelta(hours=1)
PLACE: SettingKey = ("embedder", "TENANT_TOKENS")
THEIRS = "a-token-that-somebody-wrote-down-in-clear"
FOREIGN = {"workshop": hashlib.sha256(b"w").hexdigest(), "by-hand": THEIRS, "odd": ["x", None, 1.5], "ümlaut": "A" * 64}
TOKEN, OTHER = Secret("token-of-alice-0123456789"), Secret("another-token-9876543210")


def client_over(machines: Any, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> EngineClient:
    transport = httpx.MockTransport(answer or (lambda request: httpx.Response(200)))
    return EngineClient(
        "embedder",
        "http://[400:1::1]:9100/",
        MachineAddress("of engine embedder", "400:1::1"),
        *PLACE[:1],
        "hero_embedder",
        machines,
        Gate("engine embedder", SystemClock(), 8, 1000),
        lambda: transport,
    )


IN_ONE_SHELL = pytest.mark.parametrize("home", ["dash"], indirect=True)
"""That the scripts do the same in each shell, `test_machine_scripts` shows."""


@pytest.fixture
def engine(furnished: Any, machines: ShellMachines) -> EngineClient:
    furnished.touch("services/hero_embedder", "running")
    return client_over(machines)


async def held(engine: EngineClient) -> Any:
    look = await engine.machines.look(engine.registry, MachineQuery(secrets=(PLACE,)))
    return json.loads(look.secrets[PLACE].reveal()) if PLACE in look.secrets else None


async def hold(engine: EngineClient, text: str) -> None:
    await engine.machines.write_settings(engine.registry, {PLACE: Secret(text)}, {}, owned=False)


def restarts(home: Any) -> int:
    return int(home.read("calls").count("restart hero_embedder"))


@IN_ONE_SHELL
async def test_a_token_is_registered_as_its_hash_and_nobody_else_is_touched(
    furnished: Any, engine: EngineClient
) -> None:
    await hold(engine, json.dumps(FOREIGN))
    assert not engine.restarted_within(HOUR)
    await engine.register("alicex7k2p9", TOKEN)
    assert await held(engine) == {**FOREIGN, "alicex7k2p9": token_hash(TOKEN)}
    assert restarts(furnished) == 1
    assert engine.restarted_within(HOUR)
    await engine.register("alicex7k2p9", TOKEN)
    assert restarts(furnished) == 1, "settled means quiet"
    await engine.register("alicex7k2p9", OTHER)
    assert (await held(engine))["alicex7k2p9"] == token_hash(OTHER)
    await engine.revoke("alicex7k2p9")
    assert await held(engine) == FOREIGN
    assert restarts(furnished) == 3
    await engine.revoke("alicex7k2p9")
    assert restarts(furnished) == 3


@IN_ONE_SHELL
async def test_tenants_are_told_by_the_hashes_of_their_tokens(engine: EngineClient) -> None:
    assert await engine.tenants() == {}
    await hold(engine, json.dumps(FOREIGN))
    assert await engine.tenants() == {
        "workshop": FOREIGN["workshop"],
        "by-hand": hashlib.sha256(THEIRS.encode()).hexdigest(),
        "odd": "",
        "ümlaut": "a" * 64,
    }


@IN_ONE_SHELL
async def test_the_first_tenant_makes_the_list(engine: EngineClient) -> None:
    await engine.register("alicex7k2p9", TOKEN)
    assert await held(engine) == {"alicex7k2p9": token_hash(TOKEN)}


@IN_ONE_SHELL
async def test_a_token_somebody_wrote_down_in_clear_is_the_same_token(furnished: Any, engine: EngineClient) -> None:
    await hold(engine, json.dumps({"alicex7k2p9": TOKEN.text()}))
    await engine.register("alicex7k2p9", TOKEN)
    assert restarts(furnished) == 0


@IN_ONE_SHELL
async def test_a_restart_that_failed_is_remembered_and_made_up_for(furnished: Any, engine: EngineClient) -> None:
    furnished.touch("fail.hero_embedder")
    with pytest.raises(Transient):
        await engine.register("alicex7k2p9", TOKEN)
    look = await engine.look()
    assert (look.hashes, look.restart_due) == ({"alicex7k2p9": token_hash(TOKEN)}, True)
    (furnished.path / "fail.hero_embedder").unlink()
    await engine.register("alicex7k2p9", TOKEN)
    assert not (await engine.look()).restart_due
    assert restarts(furnished) == 2


@IN_ONE_SHELL
async def test_an_engine_can_be_made_to_read_its_list_anew(furnished: Any, engine: EngineClient) -> None:
    await hold(engine, json.dumps(FOREIGN))
    await engine.restart()
    assert restarts(furnished) == 1
    assert await held(engine) == FOREIGN


@IN_ONE_SHELL
async def test_what_comes_together_is_written_together(furnished: Any, engine: EngineClient) -> None:
    await hold(engine, json.dumps({**FOREIGN, "gone": "a" * 64}))
    names = [f"tester{number}" for number in range(30)]
    await asyncio.gather(*(engine.register(name, TOKEN) for name in names), engine.revoke("gone"), engine.restart())
    assert await held(engine) == FOREIGN | dict.fromkeys(names, token_hash(TOKEN))
    assert restarts(furnished) <= 2


@IN_ONE_SHELL
async def test_two_controllers_at_one_list_lose_nobody(furnished: Any, engine: EngineClient) -> None:
    other = client_over(ShellMachines(furnished))
    await hold(engine, json.dumps(FOREIGN))
    await asyncio.gather(engine.register("a", TOKEN), other.register("b", TOKEN), engine.register("c", TOKEN))
    assert await held(engine) == FOREIGN | dict.fromkeys("abc", token_hash(TOKEN))


@dataclass
class Meddled:
    """Machines at which somebody changes the list after it was read and before it is written."""

    machines: ShellMachines
    engine: EngineClient | None = None
    times: int = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machines, name)

    async def swap_setting(self, *arguments: Any) -> bool:
        assert self.engine is not None
        if self.times:
            self.times -= 1
            await hold(self.engine, json.dumps({f"late{self.times}": "x"}))
        return await self.machines.swap_setting(*arguments)


@IN_ONE_SHELL
async def test_a_list_that_changed_meanwhile_is_read_again(furnished: Any, machines: ShellMachines) -> None:
    furnished.touch("services/hero_embedder", "running")
    meddled = Meddled(machines)
    meddled.engine = engine = client_over(meddled)
    await engine.register("alicex7k2p9", TOKEN)
    assert await held(engine) == {"late0": "x", "alicex7k2p9": token_hash(TOKEN)}
    meddled.times = 10
    with pytest.raises(Transient) as caught:
        await engine.register("bobq1w2e3", TOKEN)
    assert caught.value.reason == "ListShifts"
    assert set(await held(engine)) == {"late7"}, "theirs was not written over"


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"a": 1, "a": 2}', '"x"', "null", "no JSON " + THEIRS, "[" * 30_000],
    ids=["list", "half", "twice", "text", "null", "words", "deep"],
)
@IN_ONE_SHELL
async def test_a_list_that_cannot_be_read_is_never_written_over(text: str, engine: EngineClient) -> None:
    await hold(engine, text)
    for ask in (engine.tenants(), engine.register("a", TOKEN), engine.revoke("a")):
        with pytest.raises(Blocked, match="an admin mends it") as caught:
            await ask
        assert caught.value.reason == "TenantsUnreadable"
        assert THEIRS not in str(caught.value)
    look = await engine.machines.look(engine.registry, MachineQuery(secrets=(PLACE,)))
    assert look.secrets[PLACE] == Secret(text)


@IN_ONE_SHELL
async def test_lesson_30_a_list_that_reads_as_nothing_is_not_believed(engine: EngineClient) -> None:
    for text in ("", "\n"):
        await hold(engine, text)
        with pytest.raises(Transient, match="reads as nothing"):
            await engine.register("a", TOKEN)
        look = await engine.machines.look(engine.registry, MachineQuery(secrets=(PLACE,)))
        assert look.secrets[PLACE] == Secret(text)


@IN_ONE_SHELL
async def test_a_silent_supervisor_is_no_empty_list(furnished: Any, engine: EngineClient) -> None:
    (furnished.path / "up").unlink()
    for ask in (engine.tenants(), engine.register("a", TOKEN)):
        with pytest.raises(Transient) as caught:
            await ask
        assert caught.value.reason == "SupervisorSilent"


@IN_ONE_SHELL
async def test_what_does_not_read_back_is_not_registered(furnished: Any, engine: EngineClient) -> None:
    furnished.touch("mangle")
    with pytest.raises(Transient) as caught:
        await engine.register("a", TOKEN)
    assert caught.value.reason == "ReadBackMismatch"
    assert restarts(furnished) == 0


@IN_ONE_SHELL
async def test_no_token_goes_to_the_machine_or_into_an_error(furnished: Any, engine: EngineClient) -> None:
    await hold(engine, json.dumps(FOREIGN))
    said = [repr(engine)]
    furnished.scripts.clear()
    furnished.touch("refuse")
    with pytest.raises(Transient) as caught:
        await engine.register("a", TOKEN)
    said += [str(caught.value), repr(caught.value), repr(await engine._read()), repr(await engine.look())]
    assert TOKEN.reveal() not in b"".join(furnished.scripts)
    assert all(THEIRS not in each and TOKEN.text() not in each for each in said)


@dataclass
class Scripted:
    """Machines that hold one list in memory and fail, or wait, when they are told to."""

    entries: dict[str, str]
    failure: OutsideError | None = None
    open: asyncio.Event | None = None
    looks: int = 0
    seen: list[MachineAddress] | None = None
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def look(self, address: MachineAddress, query: MachineQuery) -> MachineLook:
        self.looks += 1
        self.looked.set()
        await asyncio.sleep(0)
        if self.seen is not None:
            self.seen.append(address)
        if self.open is not None:
            await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return MachineLook("ssh-ed25519 AAAA", supervisor_up=True, secrets={PLACE: Secret(json.dumps(self.entries))})

    async def swap_setting(self, address: Any, setting: Any, old: Any, new: Secret, readers: Any) -> bool:
        self.entries = json.loads(new.reveal())
        return True

    async def restart_service(self, address: MachineAddress, service: str) -> None:
        assert service == "hero_embedder"


async def test_a_dead_machine_is_tried_once_for_all_who_wait() -> None:
    machines = Scripted({}, Unreachable("nobody there", system="machine"))
    engine = client_over(machines)
    ends = await asyncio.gather(*(engine.register(f"t{n}", TOKEN) for n in range(20)), return_exceptions=True)
    assert all(isinstance(end, Unreachable) for end in ends)
    assert machines.looks <= 2


async def test_a_caller_who_is_cancelled_takes_nobody_along() -> None:
    machines = Scripted({}, open=asyncio.Event())
    engine = client_over(machines)
    first, second, third = (asyncio.create_task(engine.register(name, TOKEN)) for name in "abc")
    await machines.looked.wait()
    first.cancel()
    third.cancel()
    assert machines.open is not None
    machines.open.set()
    await second
    assert "b" in machines.entries
    assert "c" not in machines.entries
    await engine.register("d", TOKEN)
    assert "d" in machines.entries


async def test_the_host_key_of_first_contact_is_pinned() -> None:
    machines = Scripted({}, seen=[])
    engine = client_over(machines)
    await engine.tenants()
    await engine.tenants()
    assert machines.seen is not None
    assert [each.host_key for each in machines.seen] == [None, "ssh-ed25519 AAAA"]
    machines.failure = Blocked("changed", system="machine", reason="HostKeyChanged")
    with pytest.raises(Blocked, match=r"registry\.hostKey of engine embedder"):
        await engine.tenants()


# -- the proof


class Engine:
    """An engine over HTTP that knows its tenants."""

    def __init__(self, accepted: dict[str, Secret], *, open_to_all: bool = False, blind: bool = False) -> None:
        self.accepted, self.open_to_all, self.blind = accepted, open_to_all, blind
        self.asked: list[tuple[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://[400:1::1]:9100/v1/ping"
        tenant = request.headers["X-Hero-Context"]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append((tenant, token))
        if self.open_to_all:
            return httpx.Response(200)
        if token not in [each.text() for each in self.accepted.values()]:
            return httpx.Response(401)
        own = self.blind or self.accepted.get(tenant) == Secret(token)
        return httpx.Response(200 if own else 403)


async def proof(answer: Callable[[httpx.Request], httpx.Response], *neighbours: str) -> EngineProof:
    return await client_over(Scripted({}), answer).prove("alice", TOKEN, neighbours)


async def test_lesson_38_everybody_but_the_tenant_is_refused() -> None:
    engine = Engine({"alice": TOKEN, "bob": OTHER})
    found = await proof(engine, "alice", "bob", "bob")
    assert found == EngineProof(401, 401, 403, 200)
    assert found.refuses
    assert found.admits
    assert not found.leaks
    assert [tenant for tenant, token in engine.asked if token == TOKEN.text()] == ["alice", "bob"]
    assert {tenant for tenant, token in engine.asked if token not in ("", TOKEN.text())} == {"alice"}


@pytest.mark.parametrize(
    ("engine", "statuses", "leaks", "admits"),
    [
        (Engine({}), (401, 401, 401, 401), False, False),
        (Engine({"alice": TOKEN}, open_to_all=True), (200, 200, 200, 200), True, True),
        (Engine({"alice": TOKEN}, blind=True), (401, 401, 200, 200), True, True),
        (Engine({"bob": TOKEN}), (401, 401, 200, 403), True, False),
    ],
    ids=["revoked", "open", "blind", "under another name"],
)
async def test_lesson_38_what_is_not_refused_is_seen(
    engine: Engine, statuses: tuple[int, ...], leaks: bool, admits: bool
) -> None:
    found = await proof(engine, "bob")
    assert (found.no_token, found.wrong_token, found.foreign_token, found.own_token) == statuses
    assert (found.leaks, found.admits) == (leaks, admits)
    assert found.refuses is not leaks


async def test_without_neighbours_a_name_that_nobody_has_is_tried() -> None:
    engine = Engine({"alice": TOKEN}, blind=True)
    assert (await proof(engine)).foreign_token == 200
    assert (STRANGER, TOKEN.text()) in engine.asked


async def test_a_few_neighbours_are_enough_and_one_that_lets_in_counts() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.headers["X-Hero-Context"] == "n1" else 403)

    assert (await proof(answer, "n0", "n1", "n2")).foreign_token == 200
    engine = Engine({"alice": TOKEN})
    await proof(engine, *(f"n{number}" for number in range(50)))
    assert len(engine.asked) == 3 + NEIGHBOURS


@pytest.mark.parametrize(
    "answer",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("half"), httpx.Response(429)],
)
async def test_an_engine_that_gives_no_answer_proves_nothing(answer: Exception | httpx.Response) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = await proof(respond, "bob")
    assert (found.no_token, found.wrong_token, found.foreign_token, found.own_token) == (None,) * 4
    assert found.error
    assert (found.refuses, found.leaks, found.admits) == (False, False, False)
    assert TOKEN.text() not in repr(found)


@pytest.mark.parametrize("status", [301, 404, 500, 503])
async def test_neither_let_in_nor_refused(status: int) -> None:
    found = await proof(lambda request: httpx.Response(status))
    assert (found.refuses, found.own_token) == (False, status)
    assert found.leaks is (status < 400)
