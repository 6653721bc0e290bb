"""The simulator answers every wire fixture to the letter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from examples.simulator.http import Answer, Request
from examples.simulator.seeding import controller_token
from examples.simulator.server import COMPUTE_SECRET
from examples.simulator.world import World

WIRE = Path(__file__).parent.parent / "wire"
FIXTURES = [fixture for file in sorted(WIRE.glob("*.json")) for fixture in json.loads(file.read_text())]


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """The value with its variables put in."""
    if isinstance(value, dict):
        return {key: filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    if value[1:-1] in variables and value == f"{{{value[1:-1]}}}":
        return variables[value[1:-1]]
    for name, content in variables.items():
        value = value.replace(f"{{{name}}}", str(content))
    return value


def dug(value: Any, path: str) -> Any:
    for step in path.split(".") if path else ():
        value = value[step]
    return value


def request_of(written: Mapping[str, Any], variables: Mapping[str, Any]) -> Request:
    path, _, query = filled(written["path"], variables).partition("?")
    headers = {name.lower(): filled(value, variables) for name, value in written["headers"].items()}
    body = written.get("raw", json.dumps(filled(written["json"], variables)) if written.get("json") is not None else "")
    return Request(written["method"], path, query, headers, body.encode())


async def asked(world: World, system: str, request: Request) -> Answer:
    return await (world.ask_forge(request) if system == "forge" else world.ask_compute("compute1", request))


async def arranged(world: World, system: str, given: list[dict[str, Any]]) -> dict[str, Any]:
    """Brings about what the fixture presupposes; the variables that are known then."""
    variables: dict[str, Any] = {"controller_token": controller_token(world.forge), "compute_secret": COMPUTE_SECRET}
    for step in given:
        if "do" in step:
            outcome = world.drift.do(**filled(step["do"], variables))
        else:
            answer = await asked(world, system, request_of(step["send"], variables))
            assert answer.status < 300, answer
            outcome = answer.json() if answer.body else None
        variables |= {name: dug(outcome, path) for name, path in step.get("keep", {}).items()}
    return variables


def differences(wanted: Any, seen: Any, variables: Mapping[str, Any], where: str = "answer") -> list[str]:
    """What the answer lacks, in words."""
    if isinstance(wanted, str) and wanted.startswith("<"):
        return [] if placeholder(wanted, seen, variables) else [f"{where}: {seen!r} is not {wanted}"]
    if isinstance(wanted, dict) and isinstance(seen, dict):
        missing = [f"{where}: no {key}" for key in wanted if key not in seen]
        return missing + [
            line
            for key in wanted
            if key in seen
            for line in differences(wanted[key], seen[key], variables, f"{where}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(seen, list):
        if len(wanted) != len(seen):
            return [f"{where}: {len(seen)} items, not {len(wanted)}"]
        pairs = enumerate(zip(wanted, seen, strict=True))
        return [
            line for place, (one, other) in pairs for line in differences(one, other, variables, f"{where}[{place}]")
        ]
    same = filled(wanted, variables) == seen and type(filled(wanted, variables)) is type(seen)
    return [] if same else [f"{where}: {seen!r} is not {wanted!r}"]


def placeholder(wanted: str, seen: Any, variables: Mapping[str, Any]) -> bool:
    kind, _, sample = wanted.strip("<>").partition(":")
    match kind:
        case "id":
            return isinstance(seen, int) and not isinstance(seen, bool) and seen > 0
        case "string":
            return isinstance(seen, str) and seen != ""
        case "contains":
            return isinstance(seen, str) and sample in seen
        case "other":
            return bool(seen) and seen != variables[sample]
        case "any":
            return True
    raise AssertionError(f"unknown placeholder {wanted}")


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda one: f"{one['system']}-{one['name']}")
async def test_answers_to_the_letter(fixture: dict[str, Any]) -> None:
    world = World(speed=1e6)
    variables = await arranged(world, fixture["system"], fixture["given"])
    answer = await asked(world, fixture["system"], request_of(fixture["request"], variables))
    wanted = fixture["answer"]
    assert answer.status == wanted["status"], answer
    assert not differences(wanted.get("headers", {}), dict(answer.headers), variables, "headers")
    if "json" in wanted:
        assert not differences(wanted["json"], answer.json(), variables)
    if "text" in wanted:
        assert answer.body.decode() == wanted["text"]
    if wanted.get("empty"):
        assert answer.body == b""


def test_fixture_names_are_unique_and_marked() -> None:
    names = [(fixture["system"], fixture["name"]) for fixture in FIXTURES]
    assert len(names) == len(set(names))
    assert {fixture["mark"] for fixture in FIXTURES} <= set("SVPA")


def test_the_comparison_notices_what_is_wrong() -> None:
    """Guards the guard: a replay that accepts everything would prove nothing."""
    assert differences({"a": 1}, {}, {})
    assert differences([1], [1, 2], {})
    assert differences({"a": True}, {"a": 1}, {})
    assert differences("<id:1>", 0, {})
    assert differences("<string:x>", "", {})
    assert differences("<other:s>", "old", {"s": "old"})
    assert not differences({"a": "<any>"}, {"a": None, "b": 2}, {})
