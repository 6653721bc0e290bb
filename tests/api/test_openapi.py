"""The description of the API: examples that are true, and whatever may be asked by it never breaks us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from api.examples import EXAMPLES
from api.server import make_app
from api.window import Window
from controller.places import Places, opened_store
from controller.running import Controller
from tests.api.conftest import fill
from tests.controller.fakes import ManualClock

STREAM = "/api/v1/stream"
"""It does not end: its own tests ask it."""

LOGS = "/api/v1/testers/{name}/logs"
NEED_A_FLEET = ("/readyz", "/api/v1/nodes", "/api/v1/testers/{name}/plan", LOGS, f"{LOGS}/{{component}}")
"""No Fleet has been read here: they say so."""

Rig = tuple[asyncio.Runner, httpx.AsyncClient, dict[str, Any]]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One loop, one app and one client for all that is asked."""
    folder: Path = tmp_path_factory.mktemp("openapi")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin() -> tuple[httpx.AsyncClient, dict[str, Any]]:
            clock = ManualClock()
            where = Places(folder / "fleet", folder / "state")
            store = await stack.enter_async_context(opened_store(where, clock))
            await fill(store)
            app = make_app(Window(Controller(where, store, clock)))
            # A mistake of ours comes through as it is: the more is seen of it.
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484")
            return await stack.enter_async_context(client), app.openapi()

        client, schema = runner.run(begin())
        yield runner, client, schema
        runner.run(stack.aclose())


def test_every_answer_has_an_example_that_is_one(rig: Rig) -> None:
    _, _, schema = rig
    found = 0
    for path, methods in schema["paths"].items():
        if not path.startswith("/api/v1/") or path == STREAM:
            continue
        content = methods["get"]["responses"]["200"]["content"]["application/json"]
        jsonschema.validate(content["example"], {**content["schema"], "components": schema["components"]})
        found += 1
    assert found >= 12


def test_examples_leave_nothing_out() -> None:
    """They are made of the models: a field with a default is told all the same."""
    for model, example in EXAMPLES.items():
        told = example.model_dump(mode="json")
        assert len(told) == len(model.model_fields), model


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"/api/v1/events?before={2**63 - 1}", 200),
        (f"/api/v1/events?before={2**63}", 422),
        (f"/api/v1/events?before={10**400}", 422),
        ("/api/v1/events?tester=%ED%A0%80&reason=%00", 200),
        ("/api/v1/testers?cursor=%5B", 422),
        ("/api/v1/testers?cursor=WzEsMiwzXQ", 422),
        ("/api/v1/testers?cursor=%F0%9F%92%A9", 422),
        ("/api/v1/testers?text=%00&node=%ED%A0%80&component=%40", 200),
        ("/api/v1/testers?condition=Ready%0A", 422),
        ("/api/v1/revisions/%00", 404),
        ("/api/v1/testers/%F0%9F%92%A9", 404),
        ("/api/v1/testers/alice?fields=%00", 422),
    ],
)
def test_what_chance_seldom_asks_is_answered_too(rig: Rig, address: str, status: int) -> None:
    runner, client, _ = rig
    assert runner.run(client.get(address)).status_code == status


def operations(schema: dict[str, Any]) -> list[Any]:
    loaded = schemathesis.openapi.from_dict(schema)
    found = [result.ok() for result in loaded.get_all_operations()]
    return [each for each in found if each.method == "get" and each.path != STREAM]


@pytest.mark.long
def test_whatever_is_asked_we_do_not_break(rig: Rig) -> None:
    """No 5xx for what fits the description, nor for what does not."""
    runner, client, schema = rig
    asked: dict[str, set[int]] = {}

    async def ask(case: Any) -> httpx.Response:
        given = case.as_transport_kwargs(base_url="http://127.0.0.1:8484")
        wanted = {key: given[key] for key in ("method", "url", "params", "headers", "cookies") if given.get(key)}
        headers = {key: value for key, value in (wanted.pop("headers", None) or {}).items() if key.lower() != "host"}
        cookies = wanted.pop("cookies", None) or {}
        if cookies:
            headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in cookies.items())
        return await client.request(**wanted, headers=headers)

    for operation in operations(schema):
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=10,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def try_it(case: Any) -> None:
                try:
                    answer = runner.run(ask(case))
                except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError):
                    return  # nothing that could be sent
                asked.setdefault(case.operation.path, set()).add(answer.status_code)
                if answer.status_code >= 500:
                    assert (answer.status_code, case.operation.path in NEED_A_FLEET) == (503, True), answer.text
                    assert answer.headers["content-type"] in ("application/problem+json", "application/json")

            if _can_be_generated(operation, mode):
                try_it()
    assert {path for path, codes in asked.items() if 200 in codes} >= {"/api/v1/testers", "/api/v1/events", "/metrics"}
    assert 422 in asked["/api/v1/testers"]


def _can_be_generated(operation: Any, mode: Any) -> bool:
    """What takes nothing cannot be asked wrongly."""
    takes = [*operation.path_parameters, *operation.query, *operation.headers]
    return bool(takes) or mode is schemathesis.GenerationMode.POSITIVE


def test_a_client_that_is_made_of_it_knows_errors_tokens_and_marks(rig: Rig) -> None:
    """What is generated by itself tells of errors that we do not have, and of no way in."""
    _, _, schema = rig
    assert schema["security"] == [{"token": []}, {"session": []}, {}]
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in json.dumps(schema)
    names = [one["operationId"] for methods in schema["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() and "api_v1" not in name for name in names)
    known_tags = {each["name"] for each in schema["tags"]}
    for path, methods in schema["paths"].items():
        ((method, one),) = methods.items()
        assert set(one["tags"]) <= known_tags, path
        for code, answer in one["responses"].items():
            if code >= "400" and "/Alive" not in json.dumps(answer) and "/Ready" not in json.dumps(answer):
                assert list(answer["content"]) == ["application/problem+json"], (path, code)
        takes = {each["name"] for each in one.get("parameters", [])}
        if path.startswith("/api/v1/") and path != STREAM:
            assert set(one["responses"]["200"]["headers"]) == {"ETag", "Stream-Position"}, path
            assert "If-None-Match" in takes, path
        if method == "post":
            assert {"X-Forgejo-Signature", "X-Forgejo-Delivery", "X-Forgejo-Event"} <= takes
            assert one["security"] == []


def test_errors_are_as_described(rig: Rig) -> None:
    runner, client, schema = rig
    problem = {**schema["components"]["schemas"]["Problem"], "components": schema["components"]}
    for path in ("/api/v1/testers?limit=0", "/api/v1/testers/nobody", "/api/v1/fleet?token=x", "/nowhere"):
        answer = runner.run(client.get(path))
        assert answer.headers["content-type"] == "application/problem+json"
        jsonschema.validate(answer.json(), problem)


def test_a_mark_that_is_described_is_understood(rig: Rig) -> None:
    runner, client, _ = rig
    mark = runner.run(client.get("/api/v1/fleet")).headers["etag"]
    assert runner.run(client.get("/api/v1/fleet", headers={"If-None-Match": mark})).status_code == 304
