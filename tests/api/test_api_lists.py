"""Lists of the read API: filters, orders, pages, fields, and answers that are not sent twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest

from api.window import Window
from controller.passes.preview import Preview
from controller.records import (
    Phase,
    PutFacts,
    PutObject,
    PutRevision,
    PutSource,
    RevisionRecord,
    SetStatus,
    SourceState,
)
from controller.running import Controller
from controller.world import World
from reconcilers.backends import Backends
from reconcilers.backends.compute import Node
from reconcilers.errors import Unreachable
from reconcilers.facts import ComponentsFacts, ObjectState, OutsideObject, SupervisorFacts
from reconcilers.looks import Looks
from tests.controller.fakes import FLEET, START


async def listed(browser: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await browser.get("/api/v1/testers", params=params)
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["items"]]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"phase": "Ready"}, ["alice"]),
        ({"phase": ["Ready", "Stalled"]}, ["alice", "bob"]),
        ({"node": "gent"}, ["alice"]),
        ({"node": "-"}, ["bob"]),
        ({"condition": "Machine=False"}, ["bob"]),
        ({"condition": ["Ready", "Machine:NoCapacity"]}, ["bob"]),
        ({"condition": "Ready=False:Other"}, []),
        ({"component": "hero_books"}, ["alice", "bob"]),
        ({"component": "hero_books@v9"}, []),
        ({"text": "alicex7k"}, ["alice"]),
        ({"sort": "-name"}, ["bob", "alice"]),
        ({"sort": "progress"}, ["bob", "alice"]),
    ],
)
async def test_a_list_has_who_was_asked_for(
    browser: httpx.AsyncClient, params: dict[str, Any], names: list[str]
) -> None:
    assert await listed(browser, **params) == names


async def test_pages_follow_each_other_by_their_cursor(browser: httpx.AsyncClient) -> None:
    first = (await browser.get("/api/v1/testers", params={"limit": 1, "sort": "-progress"})).json()
    assert ([one["name"] for one in first["items"]], first["total"]) == (["alice"], 2)
    params = {"limit": 1, "sort": "-progress", "cursor": first["next"]}
    second = (await browser.get("/api/v1/testers", params=params)).json()
    assert ([one["name"] for one in second["items"]], second["next"]) == (["bob"], None)


@pytest.mark.parametrize("path", ["/api/v1/testers", "/api/v1/testers/alice"])
async def test_only_the_fields_that_were_asked_for_are_sent(browser: httpx.AsyncClient, path: str) -> None:
    whole = (await browser.get(path)).json()
    one = whole["items"][0] if "items" in whole else whole
    wanted = sorted(one)[:3]
    found = (await browser.get(path, params={"fields": ",".join(wanted)})).json()
    assert (found["items"][0] if "items" in found else found) == {key: one[key] for key in wanted}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("fields=name,secret", "secret"),
        ("sort=size", "sort"),
        ("phase=Happy", "phase"),
        ("condition=%3D", "condition"),
        ("condition=Ready=Maybe", "condition"),
        ("cursor=x", "cursor"),
        ("limit=501", "limit"),
        ("phse=Ready", "phse"),
        ("text=" + "x" * 201, "text"),
        ("cursor=WyItbmFtZSIsImEiLCJhIl0", "another order"),
    ],
)
async def test_what_is_asked_for_in_vain_is_said_and_not_passed_over(
    browser: httpx.AsyncClient, query: str, words: str
) -> None:
    answer = await browser.get(f"/api/v1/testers?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/fleet",
        "/api/v1/testers",
        "/api/v1/testers?fields=name",
        "/api/v1/testers/bob",
        "/api/v1/events",
        "/api/v1/components",
        "/api/v1/revisions",
    ],
)
async def test_who_has_the_answer_already_is_told_so_until_it_changes(
    browser: httpx.AsyncClient, controller: Controller, path: str
) -> None:
    first = await browser.get(path)
    mark = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (mark, f'"other", W/{mark}', "*"):
        again = await browser.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", mark), known
    for other in ('"other"', mark.strip('"'), f"{mark[:-2]}"):
        assert (await browser.get(path, headers={"If-None-Match": other})).status_code == 200, other
    await controller.store.write(SetStatus("bob", Phase.FAILING, 31, "", 1, None))
    changed = await browser.get(path, headers={"If-None-Match": mark})
    assert (changed.status_code == 200) == (changed.content != b"")
    if "testers" in path and "fields" not in path:
        assert (changed.status_code, changed.headers["etag"] != mark) == (200, True)


async def test_problems_carry_no_mark(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/api/v1/testers/nobody", headers={"If-None-Match": "*"})
    assert answer.status_code == 404
    assert "etag" not in answer.headers


async def test_events_are_filtered_and_paged(browser: httpx.AsyncClient) -> None:
    async def reasons(**params: Any) -> list[str]:
        return [one["reason"] for one in (await browser.get("/api/v1/events", params=params)).json()["items"]]

    assert await reasons(tester="bob") == ["NoCapacity"]
    assert await reasons(tester="") == ["SpecBroken"]
    assert await reasons(severity="Warning") == ["SpecBroken", "NoCapacity"]
    assert await reasons(reason="MachineCreated") == ["MachineCreated"]
    assert await reasons(step="machine") == ["NoCapacity", "MachineCreated"]
    assert await reasons(step="machine", severity="Normal", tester="bob") == []
    page = (await browser.get("/api/v1/events", params={"severity": "Warning", "limit": 1})).json()
    assert page["next"] == page["items"][0]["id"]
    assert await reasons(severity="Warning", before=page["next"]) == ["NoCapacity"]


async def test_one_tester_has_what_it_should_have_beside_what_was_seen(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    await controller.store.write(
        PutFacts("alice", SupervisorFacts(version="v1.2"), "gent/0007", START),
        PutFacts("alice", ComponentsFacts(versions={"hero_books": "v0.3.1"}, healthy=True), "gent/0007", START),
        PutRevision(RevisionRecord("r1", "folder fleet", START, author="Mik", changed=("alice",))),
    )
    whole = (await browser.get("/api/v1/testers/alice")).json()
    assert whole["desired"]["account"]["email"] == "alice@example.org"
    assert "memoryMb" in whole["desired"]["machine"]
    components = {one["component"]: one["version"] for one in whole["components"]}
    assert (components["hero_books"], components["hero_proc"]) == ("v0.3.1", "v1.2")
    node = next(one for one in whole["compared"] if one["field"] == "node")
    assert (node["wanted"], node["seen"], node["agrees"], node["changedAt"]) == (
        "auto",
        "gent/0001",
        True,
        "2026-11-20T11:55:00Z",
    )
    assert whole["revision"]["author"] == "Mik"
    assert whole["links"]["plan"] == "/api/v1/testers/alice/plan"
    assert [one["step"] for one in whole["steps"]][:3] == ["account", "engine_access", "machine"]
    assert next(one for one in whole["steps"] if one["step"] == "gateway")["needs"] == ["machine"]


@pytest.mark.parametrize("query", ["plan=true", "fields=tester,plan", "fields=plan&plan=false"])
async def test_one_tester_comes_with_its_plan_for_who_asks_for_it(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """It looks at the outside, so it is not made for everybody."""
    asked = []

    async def plan(window: Window, name: str) -> Preview:
        asked.append(name)
        return Preview(name, leaving=False)

    monkeypatch.setattr(Window, "plan", plan)
    assert (await browser.get("/api/v1/testers/alice")).json()["plan"] is None
    assert (await browser.get("/api/v1/testers/alice?fields=tester")).status_code == 200
    assert asked == []
    whole = (await browser.get(f"/api/v1/testers/alice?{query}")).json()
    assert (whole["plan"]["tester"], whole["plan"]["changes"]) == ("alice", False)
    assert asked == ["alice"]


async def test_components_by_version_say_who_has_which(browser: httpx.AsyncClient, controller: Controller) -> None:
    seen = ComponentsFacts(versions={"hero_books": "v0.3.1"})
    await controller.store.write(PutFacts("alice", seen, "gent/0007", START))
    found = (await browser.get("/api/v1/components")).json()["items"]
    books = next(one for one in found if one["component"] == "hero_books")
    assert [(one["version"], one["testers"]) for one in books["versions"]] == [("v0.3.1", ["alice"]), (None, ["bob"])]
    assert await listed(browser, component="hero_books@v0.3.1") == ["alice"]


async def test_revisions_come_with_what_became_of_them(browser: httpx.AsyncClient, controller: Controller) -> None:
    older = RevisionRecord("r0", "git", START - timedelta(hours=1), subject="before")
    newer = RevisionRecord("r1", "git", START, author="Mik", changed=("bob",))
    source = SourceState("git", "r1", START, True)
    await controller.store.write(PutRevision(older), PutRevision(newer), PutSource(source))
    found = (await browser.get("/api/v1/revisions")).json()["items"]
    assert [(one["revision"], one["state"]) for one in found] == [("r1", "failure"), ("r0", "warning")]
    assert found[0]["text"].startswith("1/2 testers ready; bob:")
    assert (await browser.get("/api/v1/revisions/r1")).json() == found[0]
    assert (await browser.get("/api/v1/revisions/r7")).status_code == 404
    assert (await browser.get("/api/v1/fleet")).json()["revision"] == found[0]


async def test_the_fleet_tells_what_needs_a_person(browser: httpx.AsyncClient) -> None:
    needs = (await browser.get("/api/v1/fleet")).json()["needs"]
    assert ["bob"] in [one["testers"] for one in needs if one["gravity"] == "stuck"]


@dataclass
class Daemon:
    """Lists one node, or does not answer."""

    node: Node
    error: Unreachable | None = None

    async def list_nodes(self) -> tuple[Node, ...]:
        if self.error is not None:
            raise self.error
        return (self.node,)


@dataclass
class Outside:
    only: Daemon
    asked: list[str] = field(default_factory=list)

    def daemon(self, name: str) -> Daemon:
        self.asked.append(name)
        return self.only


async def test_nodes_tell_used_promised_and_free(browser: httpx.AsyncClient, controller: Controller) -> None:
    compute = FLEET.spec.compute[0]
    sid, grid = compute.nodes[0].sid, compute.nodes[0].grid_node
    daemon = Daemon(Node(sid, grid, True, 10_000, (500, 100)))
    backends = cast(Backends, Outside(daemon))
    looks = Looks(backends, controller.clock, timedelta(seconds=10))
    controller.engine._world = World(FLEET, backends, looks, ())
    told = {"daemon": "gent", "node_sid": sid, "memory_mb": "2048", "disk_gb": "60"}
    old = START - timedelta(hours=2)
    await controller.store.write(
        PutObject(OutsideObject("alice", "machine", 1, 1, "a", ObjectState.EXISTING, told, old)),
        PutObject(OutsideObject("bob", "machine", 1, 1, "b", ObjectState.INTENDED, told, START)),
    )
    (node,) = (await browser.get("/api/v1/nodes")).json()["items"]
    assert (node["node"], node["online"], node["largestPool"], node["why"]) == ("gent/0001", True, 500, None)
    assert node["memory"] == {"used": 2048, "promised": 2048, "free": 10_000 - 2048}
    assert node["testers"] == ["alice", "bob"]
    daemon.error = Unreachable("no route", system="compute gent")
    controller.clock.pass_by(timedelta(seconds=11))  # type: ignore[attr-defined]
    (node,) = (await browser.get("/api/v1/nodes")).json()["items"]
    assert "no route" in node["why"]


async def test_without_a_fleet_there_are_no_nodes_yet(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/api/v1/nodes")).status_code == 503
