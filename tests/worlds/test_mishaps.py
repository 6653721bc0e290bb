"""Mishaps: each kind bites and ends, a schedule is repeatable and can be pasted, and the list is the whole list."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.worlds import mishap_probes as probes
from tests.worlds.edits import Edit
from tests.worlds.loop import in_virtual_time
from tests.worlds.mishap_probes import Probe, Scene
from tests.worlds.mishaps import CALM, ISSUE, KINDS, Mishap, drawn, fate
from tests.worlds.occasions import ACCOUNT, APP, GATEWAY, MACHINE, Occasion, due_of, occasions_of
from tests.worlds.story import Story, names_of

LASTS = timedelta(hours=9)
LIST_NODES = {"system": "compute", "method": "list_nodes"}
LIST_VMS = {"system": "compute", "method": "list_vms"}


@dataclass(frozen=True)
class Bite:
    """What is answered before, while and after something is wrong; `after` None: as before."""

    kind: str
    probe: Probe
    before: object
    during: object
    after: object = None
    target: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def bite(kind: str, probe: Probe, before: object, during: object, *more: object, **options: Any) -> Bite:
    """On alice where the kind wants a tester."""
    target = {"tester": "alice", "engine": "voice"}.get(KINDS[kind].victim, "")
    return Bite(kind, probe, before, during, *more, target=target, options=options)


WELL = "well"
NO_ANSWER = "ReadTimeout"
DEAD = "connection to the chain is dead, restart required"
BITES = (
    bite("timeout_after_effect", probes.daemon_answers, WELL, NO_ANSWER, **LIST_NODES),
    bite("timeout_before", probes.daemon_answers, WELL, NO_ANSWER, **LIST_NODES),
    bite("error_reported_though_created", probes.daemon_answers, WELL, "deployment failed", **LIST_NODES),
    bite("http_502", probes.daemon_answers, WELL, "502", **LIST_NODES),
    bite("throttled", probes.daemon_answers, WELL, "429 7", **LIST_NODES, retry_after=7),
    bite("throttled_without_a_word", probes.daemon_answers, WELL, "429", **LIST_NODES),
    bite("cut_mid_answer", probes.daemon_answers, WELL, "RemoteProtocolError", **LIST_NODES),
    bite("half_json", probes.daemon_answers, WELL, "no JSON", **LIST_NODES),
    bite("html_200", probes.daemon_answers, WELL, "no JSON", **LIST_NODES),
    bite("server_echoes", probes.daemon_repeats, False, True, which=2, code=-32000),
    bite("slow", probes.daemon_answers, WELL, NO_ANSWER, **LIST_NODES, seconds=60),
    bite("listing_lags", probes.vms_listed, 1, 0, **LIST_VMS, seconds=86_400),
    bite("listing_omits", probes.vms_listed, 1, 0, **LIST_VMS),
    bite("listing_truncated", probes.vms_listed, 1, 0, **LIST_VMS, keep=0),
    bite("deploy_rolls_back", probes.vm_comes, ("running", True), ("back", False)),
    bite("rolled_back_later", probes.vm_comes, ("running", True), ("running", False), seconds=30),
    bite(
        "gateway_failed_but_exists",
        probes.gateway_comes,
        ("running", 1, False),
        ("gateway alice2 did not become ready", 1, False),
    ),
    bite("slow_chain", probes.gateway_comes, ("running", 1, False), ("running", 1, True), seconds=300),
    bite("daemon_client_dead", probes.daemon_answers, WELL, DEAD),
    bite("daemon_restarted", probes.daemon_answers, WELL, "ConnectError"),
    bite("node_offline", probes.nodes_seem, (True, True), (False, False)),
    bite("node_dead", probes.nodes_seem, (True, True), (True, False)),
    bite("capacity_stale", probes.new_vm_is_counted, True, False, seconds=7200),
    bite("capacity_overstated", probes.is_anything_used, True, False),
    bite("pools_fragmented", probes.large_vm_fits, True, False, free_gb=40),
    bite("name_taken_by_a_stranger", probes.gateway_comes, ("running", 1, False), ("NameExists", 0, False)),
    bite(
        "name_taken_by_our_leftover", probes.gateway_comes, ("running", 1, False), ("NameExists", 1, False), ours=True
    ),
    bite("teardown_lags", probes.vm_goes, (False, False), (True, False), seconds=60),
    bite("teardown_takes_an_hour", probes.vm_goes, (False, False), (True, False), seconds=3600),
    bite("vm_crash_loops", probes.machine_stands, "up", "unreachable", "gone"),
    bite("vm_vanishes", probes.machine_stands, "up", "gone", "gone"),
    bite("vm_never_reachable", probes.vm_is_reached, True, False),
    bite("vm_cut_off", probes.machine_stands, "up", "unreachable"),
    bite("outside_unroutable", probes.address_leads, True, False),
    bite("host_key_of_a_rebuild", probes.machine_stands, "up", "gone", "gone"),
    bite("host_key_changed", probes.host_key_is_known, True, False),
    bite("ssh_cut", probes.script_ends, WELL, "Cut"),
    bite("command_hangs", probes.script_ends, WELL, "TimeoutError"),
    bite("vm_disk_full", probes.setting_is_stored, 0, 1),
    bite(
        "said_to_run_and_dead",
        probes.router_seems,
        ("running", True),
        ("running", False),
        ("running", False),
        service=2,
    ),
    bite(
        "said_to_be_dead_and_runs", probes.router_seems, ("running", True), ("failed", True), service=2, state="failed"
    ),
    bite("start_lies", probes.router_starts, (0, True, True), (0, False, False)),
    bite("start_races", probes.router_starts, (0, True, True), (1, False, False)),
    bite("slow_start", probes.router_starts, (0, True, True), (0, True, False), seconds=60),
    bite("secret_reads_empty", probes.setting_reads, b"value", b""),
    bite("install_fails_once", probes.two_installs, (0, 0), (1, 0), times=1),
    bite("install_fails_always", probes.two_installs, (0, 0), (1, 1)),
    bite("release_broken", probes.two_installs, (0, 0), (1, 1), component="hero_books", how="install"),
    bite("forge_down", probes.forge_answers, WELL, "ConnectError"),
    bite("forge_read_only", probes.forge_writes, 201, 423, status=423),
    bite("token_revoked", probes.token_is_good, 200, 401),
    bite("user_renamed", probes.account_is_there, True, False),
    bite("user_deleted", probes.account_is_there, True, False, False),
    Bite("account_of_a_stranger", probes.carol_is_there, False, True, target="carol"),
    bite("app_deleted", probes.apps, 1, 0, 0),
    bite("app_duplicated", probes.apps, 1, 2, 2),
    bite("mail_answer_lost", probes.mail_goes, ("200", 1), ("RemoteProtocolError", 1)),
    bite("engine_store_unreachable", probes.engine_store_answers, 0, 69),
    bite("engines_unreachable", probes.engines_are_reached, True, False),
    bite("clock_jumps", probes.our_clock, timedelta(0), timedelta(days=-1), seconds=-86_400),
    bite("store_locked", probes.store_takes, "all", "database is locked"),
    bite("store_full", probes.store_takes, "all", "database or disk is full"),
)


def each(one: Bite) -> Any:
    of_the_file = [pytest.mark.on_a_file] if one.probe is probes.store_takes else []
    return pytest.param(one, id=one.kind, marks=of_the_file)


@pytest.mark.parametrize("one", [each(one) for one in BITES])
@in_virtual_time
async def test_it_bites_and_ends(tmp_path: Path, one: Bite) -> None:
    scene = await Scene.furnished(tmp_path)
    assert await one.probe(scene) == one.before
    begins = scene.rig.elapsed + timedelta(seconds=1)
    async with fate(scene.rig, [Mishap(begins, begins + LASTS, one.kind, one.target, one.options)]):
        await scene.rest(2)
        assert await one.probe(scene) == one.during
    await scene.rest(11)
    assert await one.probe(scene) == (one.before if one.after is None else one.after)
    await scene.rig.store.aclose()


def test_every_kind_is_seen_to_bite_once() -> None:
    assert sorted(one.kind for one in BITES) == sorted(KINDS)


@in_virtual_time
async def test_a_rebuilt_machine_has_its_predecessors_address_and_another_host_key(tmp_path: Path) -> None:
    scene = await Scene.furnished(tmp_path)
    before = scene.machine.state
    async with fate(scene.rig, [Mishap(scene.rig.elapsed, None, "host_key_of_a_rebuild", "alice")]):
        await scene.rest(1)
        name, _ = await scene.deploy()
    after = scene.rig.world.machine_named(name).state
    assert (after.mycelium_ip == before.mycelium_ip, after.host_key == before.host_key) == (True, False)
    await scene.rig.store.aclose()


@in_virtual_time
async def test_what_happens_to_a_machine_waits_until_there_is_one(tmp_path: Path) -> None:
    scene = await Scene.furnished(tmp_path)
    scene.rig.world.drift.delete_vm(probes.ALICE)
    now = scene.rig.elapsed
    async with fate(scene.rig, [Mishap(now, now + timedelta(minutes=9), "vm_vanishes", "alice")]):
        await scene.rest(60)
        name, said = await scene.deploy()
        assert said == "running"
        await scene.rest(6)
        assert not scene.stands(name)
    await scene.rig.store.aclose()


# -- schedules


def test_the_list_is_the_whole_list() -> None:
    assert {kind for kinds in ISSUE.values() for kind in kinds} == set(KINDS)
    assert sum(map(len, ISSUE.values())) == len(KINDS)


def test_a_schedule_is_the_same_for_the_same_seed_and_calm_in_the_end() -> None:
    span = timedelta(hours=12)
    first, again = (drawn(random.Random(5), span, ["alice", "bob"], density=9) for _ in range(2))
    assert first == again != drawn(random.Random(6), span, ["alice", "bob"], density=9)
    assert len(first) == 36
    assert [one.at for one in first] == sorted(one.at for one in first)
    assert all(one.at <= one.ended <= span * CALM for one in first)


def test_every_kind_is_drawn_and_can_be_told_in_a_line() -> None:
    schedule = drawn(random.Random(1), timedelta(days=90), ["alice", "carol-anne"], density=6)
    assert {one.kind for one in schedule} == set(KINDS)
    for one in schedule:
        assert Mishap.of_line(one.line()) == one


MAKING = (
    *("deploy_rolls_back", "rolled_back_later", "vm_never_reachable", "gateway_failed_but_exists", "slow_chain"),
    *("name_taken_by_a_stranger", "name_taken_by_our_leftover", "account_of_a_stranger", "mail_answer_lost"),
    *("install_fails_once", "install_fails_always", "start_lies", "start_races"),
)
ON_THE_WIRE = ("timeout_after_effect", "timeout_before", "error_reported_though_created", "cut_mid_answer", "half_json")


def waits_at(mishap: Mishap, story: Story) -> list[Occasion]:
    """Where, in its story, it lasts while what it waits for is done to whom it befalls."""
    due, edits = due_of(mishap), [event for event in story.events if isinstance(event, Edit)]
    return [
        each
        for each in occasions_of(names_of(story.testers), edits)
        if each.goes == due.goes
        and (KINDS[mishap.kind].victim != "tester" or mishap.target == each.tester)
        and mishap.at <= each.at + timedelta(seconds=due.most)
        and each.at + timedelta(seconds=due.least) <= mishap.ended
    ]


def test_what_befalls_a_making_is_drawn_around_one_and_befalls_who_is_added_later_too() -> None:
    often, found, whom = Counter[str](), Counter[str](), set[str]()
    for seed in range(1500):
        story = Story.drawn(seed, 2, timedelta(hours=3))
        for mishap in story.events:
            if isinstance(mishap, Mishap) and (
                mishap.kind in MAKING or due_of(mishap) in (MACHINE, GATEWAY, ACCOUNT, APP)
            ):
                waits = waits_at(mishap, story)
                often[mishap.kind] += 1
                found[mishap.kind] += bool(waits)
                whom |= {each.tester for each in waits if mishap.target == each.tester}
    assert set(often) >= {*MAKING, *ON_THE_WIRE}
    assert {kind: (found[kind], often[kind]) for kind in often if found[kind] < 0.6 * often[kind]} == {}
    assert {"alice", "carol", "newa", "newb"} <= whom


@in_virtual_time
async def test_what_has_found_nothing_to_befall_is_told_apart(tmp_path: Path) -> None:
    scene = await Scene.furnished(tmp_path)
    now, minute = scene.rig.elapsed, timedelta(minutes=1)
    befalls = Mishap(now, now + minute, "http_502", "", LIST_NODES)
    schedule = [
        befalls,
        replace(befalls, options=LIST_VMS),  # which nobody asks for
        Mishap(now, now + minute, "app_deleted", "alice"),
        Mishap(now, now + minute, "vm_vanishes", "carol"),  # who has none
        Mishap(now, now + minute, "account_of_a_stranger", "alice"),  # whose name is taken
    ]
    async with fate(scene.rig, schedule) as it:
        await scene.rest(2)
        await probes.daemon_answers(scene)
        await scene.rest(61)
    assert sorted(it.bit()) == ["app_deleted", "http_502"]
    await scene.rig.store.aclose()


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (Mishap(timedelta(hours=26, seconds=5), None, "app_deleted", "alice"), "+26:00:05.. app_deleted alice"),
        (
            Mishap(timedelta(0), timedelta(minutes=8, microseconds=70), "http_502", "", {"method": "a b"}),
            '+0:00:00..+0:08:00.000070 http_502 - {"method": "a b"}',
        ),
    ],
)
def test_a_line(one: Mishap, line: str) -> None:
    assert one.line() == line
    assert Mishap.of_line(f" {line}\n") == one


def test_a_line_that_is_none() -> None:
    with pytest.raises(ValueError, match="no moment"):
        Mishap.of_line("12:00.. http_502 -")


@pytest.mark.parametrize("profile", ["mild", "rough", "slow"])
def test_a_profile(profile: str) -> None:
    schedule = drawn(random.Random(1), timedelta(days=30), ["alice"], profile=profile, density=4)
    assert {profile} == {one.kind if profile in KINDS else KINDS[one.kind].severity for one in schedule}
