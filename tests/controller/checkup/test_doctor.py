"""The check-up against a make-believe world: all well when all is well, and each ailment found, named and not spread."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.demo.folder import write_fleet
from api.demo.world import Addresses
from controller.checkup import doctor
from controller.checkup.doctor import Finding, Verdict, examine
from controller.checkup.findings import Question
from controller.references import References
from controller.store import Keyring, Store
from examples.simulator.seeding import SCOPES, add_token
from examples.simulator.server import serving
from examples.simulator.world import World
from reconcilers.backends.opening import Options
from reconcilers.clock import Clock, SystemClock
from reconcilers.secret import Secret
from specs.fleet import Fleet

NOBODY = "http://127.0.0.1:9"
PATIENCE = timedelta(minutes=2)  # only a failure waits so long
OWNER, LISTED, LISTED_APPS = "token's owner", "accounts can be listed", "OAuth apps can be listed"
MADE, MADE_APPS = "accounts can be made", "OAuth apps can be made"
CANARY = "canary-5b2e-never-to-be-seen"


@dataclass
class Practice:
    """A running world, and a Fleet that fits it."""

    world: World
    folder: Path
    document: dict[str, Any]
    secrets: dict[str, Secret]

    def fleet(self, **changes: Any) -> Fleet:
        """With parts of its spec changed; `a.b.0.c` is a place in it."""
        document = copy.deepcopy(self.document)
        for place, value in changes.items():
            *parts, last = place.split("__")
            part: Any = document["spec"]
            for step in parts:
                part = part[int(step)] if step.isdigit() else part[step]
            part[last] = value
        return Fleet.model_validate(document)

    async def examine(
        self,
        fleet: Fleet | None = None,
        secrets: Mapping[str, Secret] | None = None,
        clock: Clock | None = None,
        **transports: httpx.AsyncBaseTransport,
    ) -> tuple[Finding, ...]:
        named = {name.replace("_", " "): one for name, one in transports.items()}
        return await examine(
            fleet or self.fleet(),
            self.secrets if secrets is None else secrets,
            clock or SystemClock(),
            Options(folder=self.folder, transports=named),
            PATIENCE,
        )

    async def ailments(self, *arguments: Any, **more: Any) -> dict[tuple[str, str], Finding]:
        found = await self.examine(*arguments, **more)
        return {(one.system, one.what): one for one in found if one.verdict is Verdict.WRONG}


@pytest.fixture
async def practice(tmp_path: Path) -> AsyncIterator[Practice]:
    world = World(seed=1, speed=600, state_dir=tmp_path / "world", daemons=2)
    async with serving(world, tmp_path / "world"):
        addresses = Addresses.read(tmp_path / "world" / "addresses.json")
        assert addresses is not None
        folder = write_fleet(tmp_path, addresses)
        document = yaml.safe_load((folder / "fleet.yaml").read_text())
        store = await Store.open("sqlite://", Keyring.generate(), SystemClock())
        try:
            secrets = await References(store, folder).resolve(Fleet.model_validate(document).spec.secrets())
        finally:
            await store.aclose()
        yield Practice(world, folder, document, secrets)


async def test_a_healthy_fleet_has_no_ailment_and_nothing_is_written(practice: Practice) -> None:
    before = practice.world.state.forge.model_dump()
    found = await practice.examine()
    assert practice.world.state.forge.model_dump() == before
    assert {one.verdict for one in found} == {Verdict.GOOD}, [one for one in found if one.verdict is not Verdict.GOOD]
    assert {one.system for one in found} == {
        *("secrets", "machines", "Forge", "compute compute1", "compute compute2", "network"),
        *("engine embedder", "engine voice", "mail"),
    }
    assert [entry for entry in practice.world.log.entries if entry.writing and entry.status not in (404, 422)] == []


async def test_what_is_gone_for_good_is_not_asked_and_needs_no_secret(practice: Practice) -> None:
    dead = {"compute__1__url": NOBODY, "compute__1__secret": "env:LOST", "engines__0__registry__host": "400::9"}
    ill = {system for system, _ in await practice.ailments(practice.fleet(**dead))}
    assert {"compute compute2", "secrets"} <= ill
    found = await practice.examine(practice.fleet(**dead, compute__1__gone=True, engines__0__gone=True))
    assert {one.verdict for one in found} == {Verdict.GOOD}
    assert not {"compute compute2", "engine embedder"} & {one.system for one in found}


async def test_what_a_dead_forge_would_answer_is_not_guessed_and_the_others_are_asked(practice: Practice) -> None:
    found = await practice.examine(practice.fleet(forge__url=NOBODY))
    forge = [one for one in found if one.system == "Forge"]
    assert [one.verdict for one in forge] == [Verdict.WRONG, *[Verdict.UNKNOWN] * 6]
    assert "spec.forge.url" in forge[0].mend
    assert {one.verdict for one in found if one.system != "Forge"} == {Verdict.GOOD}


@pytest.mark.parametrize(
    ("owner", "scopes", "ill", "words"),
    [
        ("bob", SCOPES, {OWNER, LISTED, MADE}, "belongs to bob, who is no site admin"),
        (None, SCOPES, {OWNER, LISTED, LISTED_APPS, MADE, MADE_APPS}, "accept our token"),
    ],
)
async def test_a_token_without_the_rights_is_found_before_it_fails_half_way(
    practice: Practice, owner: str | None, scopes: list[str], ill: set[str], words: str
) -> None:
    token = add_token(practice.world.forge, owner, scopes) if owner else CANARY
    secrets = {**practice.secrets, practice.document["spec"]["forge"]["token"]: Secret(token)}
    before = practice.world.state.forge.model_dump()
    found = await practice.ailments(secrets=secrets)
    assert {what for _, what in found} == ill
    assert words in found["Forge", OWNER].detail
    assert practice.world.state.forge.model_dump() == before
    assert CANARY not in repr(found)


async def test_nodes_that_the_daemon_does_not_have(practice: Practice) -> None:
    nodes = [{"sid": "0009", "gridNode": "2"}, {"sid": "0002", "gridNode": "99"}]
    found = await practice.ailments(practice.fleet(compute__0__nodes=nodes))
    (one,) = found.values()
    assert (one.system, one.what) == ("compute compute1", "nodes of the Fleet")
    assert "0009 is unknown to it (it knows 0001, 0002)" in one.detail
    assert "0002 is the grid's node 3, not 99" in one.detail


async def test_each_dead_endpoint_is_named_alone(practice: Practice) -> None:
    dead = practice.fleet(
        compute__1__url=NOBODY, engines__0__url="http://[400:1::1]:9", engines__1__registry={**_registry(practice, 1)}
    )
    found = await practice.ailments(dead)
    assert set(found) == {
        ("compute compute2", "answers, knows our methods"),
        ("engine embedder", "answers"),
        ("engine voice", "registry can be read"),
    }
    assert all(one.mend for one in found.values())


def _registry(practice: Practice, engine: int) -> dict[str, Any]:
    return {**practice.document["spec"]["engines"][engine]["registry"], "port": 9}


async def test_a_proxy_that_is_none(practice: Practice) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        found = await practice.ailments(practice.fleet(network__outsideProxy=f"socks5://127.0.0.1:{port}"))
        assert set(found) == {("network", "outsideProxy")}
    finally:
        server.close()
    found = await practice.ailments(practice.fleet(network__outsideProxy=f"socks5://127.0.0.1:{port}"))
    assert "no connection" in found["network", "outsideProxy"].detail


async def test_who_never_answers_is_given_up_and_holds_nobody_up(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time alone is short: on a busy machine the others may need some."""
    answer = doctor._answer

    async def answered(system: str, question: Question, limit: timedelta) -> Finding:
        return await answer(system, question, timedelta(seconds=1) if system == "compute compute1" else limit)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setattr(doctor, "_answer", answered)
    try:
        found = await practice.ailments(practice.fleet(compute__0__url=url))
    finally:
        server.close()
    assert found["compute compute1", "answers, knows our methods"].detail == "no answer within 1 s"
    assert len(found) == 1


async def test_missing_secrets_are_named_and_all_the_rest_is_asked_all_the_same(practice: Practice) -> None:
    found = await practice.examine(secrets={})
    spec = practice.fleet().spec
    verdicts = {(one.system, one.what): one.verdict for one in found}
    assert {what for system, what in verdicts if system == "secrets"} == {str(ref) for ref in spec.secrets()}
    assert verdicts["machines", "installer's key"] is Verdict.UNKNOWN
    assert verdicts["Forge", "answers"] is Verdict.GOOD
    assert verdicts["Forge", "token's owner"] is Verdict.UNKNOWN
    assert verdicts["compute compute1", "nodes of the Fleet"] is Verdict.GOOD
    assert verdicts["engine voice", "registry can be read"] is Verdict.UNKNOWN
    assert verdicts["engine voice", "answers"] is Verdict.GOOD
    assert verdicts["mail", "way out"] is Verdict.WRONG


async def test_an_installers_key_that_is_none_is_not_repeated(practice: Practice) -> None:
    secrets = {**practice.secrets, practice.document["spec"]["installer"]["privateKey"]: Secret(CANARY)}
    found = await practice.ailments(secrets=secrets)
    assert set(found) == {("machines", "installer's key")}
    assert CANARY not in repr(found)


class Still(SystemClock):
    """Told times are compared with this one, however long an answer takes."""

    def now(self) -> datetime:
        return datetime(2026, 3, 1, 12, tzinfo=UTC)


class Telling(httpx.AsyncHTTPTransport):
    """Whoever answers tells the time of a clock that differs by so much."""

    def __init__(self, skew: timedelta) -> None:
        super().__init__()
        self.date = format_datetime(Still().now() + skew, usegmt=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        answer.headers["Date"] = self.date
        return answer


@pytest.mark.parametrize(
    ("seconds", "words"), [(120, "its clock is 120 s ahead of ours"), (-90, "its clock is 90 s behind ours"), (1, "")]
)
async def test_clocks_that_differ(practice: Practice, seconds: int, words: str) -> None:
    found = await practice.ailments(clock=Still(), forge=Telling(timedelta(seconds=seconds)))
    told = {place: one.detail for place, one in found.items()}
    assert told == ({("Forge", "same time as here"): words} if words else {})


@pytest.mark.parametrize(("status", "words"), [(200, "lets strangers in"), (404, "answers strangers with 404")])
async def test_an_engine_that_does_not_ask_for_a_token(practice: Practice, status: int, words: str) -> None:
    answering = httpx.MockTransport(lambda request: httpx.Response(status))
    found = await practice.ailments(engine_voice=answering)
    assert words in found["engine voice", "answers"].detail
    assert len(found) == 1


async def test_without_a_way_for_mail_there_is_nothing_to_ask(practice: Practice) -> None:
    found = await practice.examine(practice.fleet(mail=None))
    assert [one.verdict for one in found if one.system == "mail"] == [Verdict.UNKNOWN]
    assert Verdict.WRONG not in {one.verdict for one in found}


async def test_a_daemon_that_lacks_a_method(practice: Practice) -> None:
    known = {"result": {"methods": [{"name": "rpc.discover"}]}, "jsonrpc": "2.0", "id": 1}
    found = await practice.ailments(compute_compute1=httpx.MockTransport(lambda _: httpx.Response(200, json=known)))
    assert "does not know ComputeService.deploy_vm" in found["compute compute1", "answers, knows our methods"].detail
