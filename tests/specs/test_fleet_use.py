"""What a Fleet may not leave out, and what it may call gone for good or retired."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest
import yaml

from specs.catalogue import catalogue
from specs.checks import check_tester
from specs.desired import desire
from specs.fleet import Fleet
from specs.fleet_use import InUse, LeftOut, check_left_out, left_out
from specs.gone import Gone, gone_of, standing, used_engines
from specs.loading import Loaded, load_documents
from specs.tester import Tester

Make = Callable[..., Any]

GENT: dict[str, Any] = {
    "name": "gent",
    "url": "http://127.0.0.1:9100",
    "secret": "env:DEMO_COMPUTE_SECRET",
    "gatewayDomain": "gent01.grid.example.org",
    "nodes": [{"sid": "0001", "gridNode": "2"}, {"sid": "0002", "gridNode": "3"}],
}
YORK: dict[str, Any] = {**GENT, "name": "york", "url": "http://127.0.0.1:9101", "nodes": [GENT["nodes"][0]]}
EMBEDDER: dict[str, Any] = {
    "name": "embedder",
    "url": "http://[400:1::1]:9100",
    "urlSetting": "HERO_EMBEDDER_URL",
    "tokenSetting": "SHARED_EMBEDDER_TOKEN",
    "registry": {"host": "400:1::1", "context": "embedder", "service": "hero_embedder"},
}


@pytest.fixture
def before(make_fleet: Make) -> Fleet:
    fleet: Fleet = make_fleet(compute=[GENT, YORK], engines=[EMBEDDER])
    return fleet


# ------------------------------------------------------------------ what is left out

CHANGES: Mapping[str, tuple[dict[str, Any], LeftOut]] = {
    "nothing": ({}, LeftOut()),
    "a daemon, its nodes with it": ({"compute": [GENT]}, LeftOut(daemons=("york",))),
    "a daemon of another name": ({"compute": [GENT, {**YORK, "name": "new"}]}, LeftOut(daemons=("york",))),
    "a node": ({"compute": [{**GENT, "nodes": GENT["nodes"][:1]}, YORK]}, LeftOut(nodes=(("gent", "0002"),))),
    "the engines": ({"engines": []}, LeftOut(engines=("embedder",))),
    "gone is not left out": ({"compute": [{**GENT, "gone": True}, YORK]}, LeftOut()),
    "retired is not left out": ({"engines": [{**EMBEDDER, "retired": True}]}, LeftOut()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_left_out(what: str, before: Fleet, make_fleet: Make) -> None:
    change, expected = CHANGES[what]
    now = make_fleet(**{"compute": [GENT, YORK], "engines": [EMBEDDER], **change})
    assert left_out(before, now) == expected
    assert bool(expected) is (left_out(before, now) != LeftOut())


USED = InUse({"york": ("alice", "bob")}, {("gent", "0002"): ("carol",)}, {"embedder": tuple("abcdefg")})
FINDINGS: Mapping[str, tuple[dict[str, Any], str, str, str]] = {
    "a daemon": ({"compute": [GENT]}, "spec.compute", "daemon york is left out while in use by alice, bob", "rebuild"),
    "a node": (
        {"compute": [YORK, {**GENT, "nodes": GENT["nodes"][:1]}]},
        "spec.compute[1].nodes",
        "node gent/0002 is left out while in use by carol",
        "gone: true",
    ),
    "an engine": (
        {"engines": []},
        "spec.engines",
        "engine embedder is left out while a, b, c, d, e and 2 more may have a token there",
        "retired: true",
    ),
}


@pytest.mark.parametrize("what", FINDINGS)
def test_it_is_said_whose_it_is_and_what_to_do(what: str, before: Fleet, make_fleet: Make) -> None:
    from specs.errors import dotted

    change, path, problem, remedy = FINDINGS[what]
    now = make_fleet(**{"compute": [GENT, YORK], "engines": [EMBEDDER], **change})
    (finding,) = check_left_out(left_out(before, now), now, USED)
    assert (dotted(finding.path), finding.problem) == (path, problem)
    assert remedy in finding.remedy
    assert "gone: true" in finding.remedy
    assert check_left_out(left_out(before, now), now, InUse()) == ()


# ------------------------------------------------------------------ a revision whose Fleet is refused


def refused(files: dict[str, bytes], today: date, before: Fleet) -> tuple[Loaded, Loaded]:
    """The revision by itself, and as it counts."""
    loaded = load_documents(files, today, frozenset({"alice", "bob"}), before)
    assert loaded.fleet is not None
    findings = check_left_out(left_out(before, loaded.fleet), loaded.fleet, USED)
    return loaded, loaded.refusing(findings, before)


def test_the_rest_of_the_revision_counts_under_the_last_good_fleet(
    example_files: dict[str, bytes], today: date, before: Fleet
) -> None:
    bob = example_files["bob.yaml"].replace(b"memory: 16GiB", b"node: york/0001")
    assert bob != example_files["bob.yaml"]
    files = {**example_files, "bob.yaml": bob}
    alone, counts = refused(files, today, before)
    assert "bob" not in alone.testers, "its own Fleet knows no york"
    assert counts.fleet == before
    assert set(counts.testers) == {"alice", "bob", "carol"}
    assert counts.refused == alone.fleet
    assert [(each.file, each.path) for each in counts.errors] == [
        ("fleet.yaml", "spec.compute"),
        ("fleet.yaml", "spec.compute[0].nodes"),
    ]
    assert (
        counts.errors[0].line
        == example_files["fleet.yaml"].decode().split("\n").index("  compute: # one entry per hero_compute daemon") + 1
    )
    assert counts.refusals == counts.errors


def test_a_refused_fleet_makes_nobodys_absence_doubtful_and_another_error_does(
    example_files: dict[str, bytes], today: date, before: Fleet
) -> None:
    _, counts = refused(example_files, today, before)
    assert counts.whole
    _, counts = refused({**example_files, "dora.yaml": b"kind: ["}, today, before)
    assert not counts.whole


def test_of_a_refused_fleet_only_the_override_of_this_very_revision_counts(
    example_files: dict[str, bytes], today: date, make_fleet: Make
) -> None:
    before = make_fleet(compute=[GENT, YORK], safety={"maxRemovals": 2, "allowRemovals": 7})
    body = yaml.safe_load(example_files["fleet.yaml"])
    body["spec"]["safety"] = {"maxRemovals": "100%", "allowRemovals": 3}
    _, counts = refused({**example_files, "fleet.yaml": yaml.safe_dump(body).encode()}, today, before)
    assert counts.safety is not None
    assert (counts.safety.max_removals, counts.safety.allow_removals) == (2, 3)
    _, counts = refused(example_files, today, before)
    assert counts.safety is not None
    assert counts.safety.allow_removals is None


# ------------------------------------------------------------------ gone for good, and retired


def test_what_is_gone_stands_no_more(make_fleet: Make) -> None:
    half = {**GENT, "nodes": [{**GENT["nodes"][0], "gone": True}, GENT["nodes"][1]]}
    voice = {**EMBEDDER, "name": "voice", "urlSetting": "A", "tokenSetting": "B", "gone": True}
    voice["registry"] = {**EMBEDDER["registry"], "context": "voice"}
    fleet = make_fleet(compute=[half, {**YORK, "gone": True}], engines=[{**EMBEDDER, "retired": True}, voice])
    gone = gone_of(fleet)
    assert gone == Gone(frozenset({"york"}), frozenset({("gent", "0001")}), frozenset({"voice"}))
    assert [gone.place(*each) for each in (("york", ""), ("york", "0001"), ("gent", "0001"), ("gent", ""))] == [
        *(True, True, True, False)
    ]
    left = standing(fleet)
    assert [(each.name, [node.sid for node in each.nodes]) for each in left.spec.compute] == [("gent", ["0002"])]
    assert [each.name for each in left.spec.engines] == ["embedder"], "what is retired is still asked"
    assert used_engines(fleet) == ()
    assert standing(left) == left


@pytest.mark.parametrize("word", ["retired", "gone"])
def test_no_tester_gets_a_token_or_a_setting_of_an_engine_out_of_use(
    word: str, make_fleet: Make, make_tester: Make
) -> None:
    tester: Tester = make_tester()
    used = desire(tester, make_fleet(engines=[EMBEDDER]), catalogue())
    assert [each.name for each in used.engines] == ["embedder"]
    unused = desire(tester, make_fleet(engines=[{**EMBEDDER, word: True}]), catalogue())
    assert unused.engines == ()
    assert "HERO_EMBEDDER_URL" not in {each.key for each in unused.settings}


def test_a_wish_for_a_node_that_is_gone_says_so(make_fleet: Make, make_tester: Make) -> None:
    half = {**GENT, "nodes": [{**GENT["nodes"][0], "gone": True}, GENT["nodes"][1]]}
    fleet = make_fleet(compute=[half, {**YORK, "gone": True}], engines=[])
    for node in ("gent/0001", "york/0001"):
        (finding,) = check_tester(make_tester(machine={"node": node}), fleet, catalogue())
        assert finding.problem == f"node {node} is gone for good, the Fleet says"
        assert finding.path == ("spec", "machine", "node")
    assert check_tester(make_tester(machine={"node": "gent/0002"}), fleet, catalogue()) == ()
