"""Supervisor, front door, settings and components: tables of what one look shows and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Disruption, Finding, Wait
from reconcilers.backends.machine import Job, JobState, MachineLook, install_job
from reconcilers.backends.probes import ProbeAnswer
from reconcilers.components import ComponentsReconciler
from reconcilers.errors import Blocked
from reconcilers.facts import ComponentsFacts, Facts, FrontDoorFacts, SettingsFacts, SignInGateFacts, SupervisorFacts
from reconcilers.front_door import FrontDoorReconciler
from reconcilers.machine_look import WHETHER_LISTENING, Seen, machine_query
from reconcilers.secret import HIDDEN, Secret
from reconcilers.settings import SettingsReconciler
from reconcilers.supervisor import SupervisorReconciler
from specs.desired import DesiredTester
from tests.reconcilers.data import NOW, a_fleet, a_look, a_tester, actions, brief, done_job, some_facts

SUPERVISOR, FRONT_DOOR = SupervisorReconciler(None), FrontDoorReconciler(None)  # type: ignore[arg-type]
SETTINGS, COMPONENTS = SettingsReconciler(None), ComponentsReconciler(None)  # type: ignore[arg-type]
ALL = (SUPERVISOR, FRONT_DOOR, SETTINGS, COMPONENTS)


def seen(look: MachineLook) -> Seen:
    return Seen(NOW, look)


def planned(
    step: Any, look: MachineLook, desired: DesiredTester | None = None, facts: Facts | None = None
) -> list[str]:
    return brief(step.plan(desired or a_tester(), seen(look), facts or some_facts()))


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_in_order_nothing_is_done_and_everything_goes_with_the_machine(step: Any) -> None:
    assert planned(step, a_look()) == []
    assert step.plan(None, seen(MachineLook(host_key="")), some_facts()) == ()
    assert step.leaves == "machine"


# ------------------------------------------------------------------ supervisor

BARE = MachineLook(host_key="ssh-ed25519 HOST")
BASE = "base packages, lab and hero_proc"


def base_job(state: JobState, **fields: Any) -> dict[str, Job]:
    return {"supervisor": Job("supervisor", state, **fields)}


SUPERVISORS: Mapping[str, tuple[MachineLook, dict[str, str], list[str]]] = {
    "a bare machine": (BARE, {}, [f"install {BASE}"]),
    "being installed": (replace(BARE, jobs=base_job(JobState.RUNNING)), {}, ["wait Installing"]),
    "failed": (replace(BARE, jobs=base_job(JobState.FAILED)), {}, [f"retry {BASE}"]),
    "died": (replace(BARE, jobs=base_job(JobState.DIED)), {}, [f"retry {BASE}"]),
    "succeeded, and stopped since": (
        a_look(supervisor_up=False, jobs=base_job(JobState.SUCCEEDED)),
        {},
        [f"install {BASE}"],
    ),
    "up, though the last job failed": (a_look(jobs=base_job(JobState.FAILED)), {}, []),
    "no lab": (a_look(tools=frozenset({"curl", "hero_proc"})), {}, [f"install {BASE}"]),
    "pinned to another": (a_look(), {"hero_proc": "v9.9.9"}, [f"install {BASE}"]),
    "pinned to this one": (a_look(), {"hero_proc": "1.0.0"}, []),
    "pinned to this one, and not seen to be restarted": (
        a_look(jobs=base_job(JobState.FAILED, wanted="v1.0.0", result="v1.0.0")),
        {"hero_proc": "1.0.0"},
        [f"retry {BASE}"],
    ),
    "pinned, tells no version": (a_look(versions={"hero_proc": None}), {"hero_proc": "v9.9.9"}, []),
    "pinned to another, in the middle of an install": (
        a_look(jobs={"component-hero_db": Job("component-hero_db", JobState.RUNNING)}),
        {"hero_proc": "v9.9.9"},
        ["wait Installing"],
    ),
}


@pytest.mark.parametrize("name", SUPERVISORS)
def test_supervisor(name: str) -> None:
    look, pins, expected = SUPERVISORS[name]
    assert planned(SUPERVISOR, look, a_tester(version={"pin": pins})) == expected


def test_the_log_is_part_of_the_wait_and_of_the_failure() -> None:
    running = replace(BARE, jobs=base_job(JobState.RUNNING, log="Reading package lists\nSetting up curl\n"))
    (wait,) = SUPERVISOR.plan(a_tester(), seen(running), some_facts())
    assert isinstance(wait, Wait)
    assert wait.message.endswith(": Setting up curl")
    assert wait.limit == a_fleet().spec.timing.install_limit
    failed = replace(BARE, jobs=base_job(JobState.FAILED, log="E: Unable to locate package\n"))
    (retry,) = actions(SUPERVISOR.plan(a_tester(), seen(failed), some_facts()))
    assert "E: Unable to locate package" in retry.args[0]


def test_the_supervisors_version_is_learnt_once_it_answers() -> None:
    assert SUPERVISOR.learn(seen(BARE), some_facts()) is None
    assert SUPERVISOR.learn(seen(a_look()), some_facts()) == SupervisorFacts(version="v1.0.0")
    untold = a_look(versions={"hero_proc": None})
    assert SUPERVISOR.learn(seen(untold), some_facts()) == SupervisorFacts(version="unknown")


# ------------------------------------------------------------------ front door


def without(look: MachineLook, *components: str) -> MachineLook:
    """As on a machine where these were never installed."""
    return replace(
        look,
        versions={name: version for name, version in look.versions.items() if name not in components},
        services={name: state for name, state in look.services.items() if name not in components},
        health={name: 0 if name in components else code for name, code in look.health.items()},
        jobs={name: job for name, job in look.jobs.items() if name not in map(install_job, components)},
    )


def broken(look: MachineLook, service: str, state: str = "stopped", health: int = 502) -> MachineLook:
    return replace(look, services={**look.services, service: state}, health={**look.health, service: health})


def jobbed(look: MachineLook, component: str, state: JobState, **fields: Any) -> MachineLook:
    job = done_job(component, "", state=state, **fields)
    return replace(look, jobs={**look.jobs, job.name: job})


INSTALL_BOTH = ["install component hero_router", "install component hero_proxy"]
DOORS: Mapping[str, tuple[MachineLook, list[str]]] = {
    "nothing there": (without(a_look(), "hero_router", "hero_proxy"), INSTALL_BOTH),
    "the proxy is missing": (without(a_look(), "hero_proxy"), ["install component hero_proxy"]),
    "the router stopped": (broken(a_look(), "hero_router"), ["start service hero_router"]),
    "the proxy failed": (broken(a_look(), "hero_proxy", "failed"), ["start_again service hero_proxy"]),
    "one is being installed": (
        jobbed(without(a_look(), "hero_proxy"), "hero_proxy", JobState.RUNNING),
        ["wait Installing"],
    ),
    "one failed, the other is being installed": (
        jobbed(
            jobbed(without(a_look(), "hero_router", "hero_proxy"), "hero_router", JobState.FAILED),
            "hero_proxy",
            JobState.RUNNING,
        ),
        ["wait Installing"],
    ),
    "one failed": (
        jobbed(without(a_look(), "hero_proxy"), "hero_proxy", JobState.FAILED),
        ["retry component hero_proxy"],
    ),
    "the proxy is dead, though said to run": (broken(a_look(), "hero_proxy", "running"), ["wait WaitingForHealth"]),
}


@pytest.mark.parametrize("name", DOORS)
def test_front_door(name: str) -> None:
    look, expected = DOORS[name]
    assert planned(FRONT_DOOR, look) == expected


def test_the_front_door_is_learnt_once_both_are_there() -> None:
    assert FRONT_DOOR.learn(seen(without(a_look(), "hero_proxy")), some_facts()) is None
    assert FRONT_DOOR.learn(seen(a_look()), some_facts()) == FrontDoorFacts(router="v1.0.0", proxy="v1.0.0")


LISTENER = ("core", "HERO_PROXY_SEED_GATEWAY_LISTENER")
ON = a_look(secrets={LISTENER: Secret("1")})
ANSWERS = a_look(probes={WHETHER_LISTENING: ProbeAnswer(302)})
SILENT = a_look(probes={WHETHER_LISTENING: ProbeAnswer(None, error="refused")})
SHUT = ["shut listener of the front door", "restart_proxy service hero_proxy"]
CUTS: Mapping[str, tuple[bool, MachineLook, list[str], bool]] = {
    "not cut: the listener is the gate's": (False, ON, [], False),
    "cut, and set open": (True, ON, SHUT, False),
    "cut, set shut, and still answering": (True, ANSWERS, SHUT[1:], False),
    "cut, and off": (True, SILENT, [], True),
    "cut, set shut, not restarted since": (True, replace(SILENT, stale=frozenset({"hero_proxy"})), [], False),
}


@pytest.mark.parametrize("name", CUTS)
def test_after_a_cut_the_listener_goes_off_before_a_new_gateway_comes(name: str) -> None:
    cut, look, expected, shut = CUTS[name]
    facts = some_facts(SignInGateFacts(cut=cut))
    steps = FRONT_DOOR.plan(a_tester(), seen(look), facts)
    assert brief(steps) == expected
    assert all(action.urgent for action in actions(steps))
    learnt = FRONT_DOOR.learn(seen(look), facts)
    assert learnt is not None
    assert learnt.seen_shut_at == (NOW if shut else None)
    before = some_facts(SignInGateFacts(cut=cut, cut_at=NOW), learnt)
    again = FRONT_DOOR.learn(seen(look), before)
    assert again is not None
    assert again.seen_shut_at is None


# ------------------------------------------------------------------ settings

WITH_KEYS = a_tester(
    keys={"providers": {"openrouter": "default"}}, components={"settings": {"hero_books": {"BOOKS_LIBRARIES": "hero"}}}
)
LIBRARIES, KEY = ("books", "BOOKS_LIBRARIES"), ("cockpit", "OPENROUTER_API_KEY")
IN_ORDER = a_look(WITH_KEYS)


def with_secret(key: tuple[str, str], value: bytes | None) -> MachineLook:
    rest = {place: held for place, held in IN_ORDER.secrets.items() if place != key}
    return replace(IN_ORDER, secrets=rest if value is None else {**rest, key: Secret(value)})


WRITE = ["write settings"]
SETTING_CASES: Mapping[str, tuple[MachineLook, list[str]]] = {
    "in order": (IN_ORDER, []),
    "changed": (with_secret(LIBRARIES, b"other"), WRITE),
    "a newline more": (with_secret(LIBRARIES, b"hero\n"), WRITE),
    "a secret changed": (with_secret(KEY, b"x"), WRITE),
    "missing": (with_secret(LIBRARIES, None), WRITE),
    "ours, and no longer wanted": (
        replace(IN_ORDER, owned_settings=IN_ORDER.owned_settings | {("db", "OLD")}),
        ["delete settings"],
    ),
    "somebody else's": (replace(IN_ORDER, secrets={**IN_ORDER.secrets, ("db", "THEIRS"): Secret("1")}), []),
    "the gate's, though marked as ours": (
        replace(IN_ORDER, owned_settings=IN_ORDER.owned_settings | {LISTENER}),
        [],
    ),
    "a reader runs on old values": (replace(IN_ORDER, stale=frozenset({"hero_books"})), ["restart service hero_books"]),
    "a reader that does not run": (
        replace(IN_ORDER, stale=frozenset({"hero_books"}), services={"hero_books": "stopped"}),
        [],
    ),
    "a reader that is not installed": (replace(IN_ORDER, stale=frozenset({"hero_os"})), []),
    "hero_proxy is the gate's": (replace(IN_ORDER, stale=frozenset({"hero_proxy"})), []),
}


@pytest.mark.parametrize("name", SETTING_CASES)
def test_settings(name: str) -> None:
    look, expected = SETTING_CASES[name]
    assert planned(SETTINGS, look, WITH_KEYS) == expected


def test_a_plan_shows_clear_values_and_hides_secret_ones() -> None:
    drifted = replace(IN_ORDER, secrets={LIBRARIES: Secret("other"), KEY: Secret("stolen")})
    (write,) = actions(SETTINGS.plan(WITH_KEYS, seen(drifted), some_facts()))
    assert {each.path: (each.before, each.after) for each in write.changes} == {
        "settings.books/BOOKS_LIBRARIES": ("other", "hero"),
        "settings.cockpit/OPENROUTER_API_KEY": (HIDDEN, HIDDEN),
    }
    assert "the-provider-key" not in repr(write)
    assert "stolen" not in repr(write)
    assert write.disruption is Disruption.RESTART
    assert "hero_books restarts if it runs" in write.consequences


def test_one_missing_secret_holds_up_no_other_and_is_named() -> None:
    nobody = some_facts(secrets={})
    changed = with_secret(LIBRARIES, b"other")
    (write,) = actions(SETTINGS.plan(WITH_KEYS, seen(changed), nobody))
    assert write.args == ("books/BOOKS_LIBRARIES",)
    for observed in (seen(IN_ORDER), None):
        with pytest.raises(Blocked, match="env:OPENROUTER") as caught:
            SETTINGS.plan(WITH_KEYS, observed, nobody)
        assert caught.value.reason == "SecretMissing"


def test_settings_of_a_preview() -> None:
    assert brief(SETTINGS.plan(WITH_KEYS, None, some_facts())) == WRITE


TOKEN_PLACE = ("cockpit", "SHARED_EMBEDDER_TOKEN")
ENGINE = {
    "name": "embedder",
    "url": "http://[400:9::1]:9801",
    "urlSetting": "HERO_EMBEDDER_URL",
    "tokenSetting": "SHARED_EMBEDDER_TOKEN",
    "registry": {"host": "400:9::1", "context": "embedder", "service": "hero_embedder"},
}


def test_tokens_of_the_engines_are_settings_like_all_others_and_hold_up_nothing() -> None:
    fleet = a_fleet(engines=[ENGINE])
    desired = a_tester(fleet)
    bare = some_facts(fleet=fleet)
    held = a_look(desired)
    assert SETTINGS.plan(desired, seen(held), bare) == (), "not made yet: nobody waits for it"
    known = some_facts(fleet=fleet, secrets={"alice/engine_embedder": Secret("the-token")})
    (write,) = actions(SETTINGS.plan(desired, seen(held), known))
    assert write.args == ("cockpit/SHARED_EMBEDDER_TOKEN",)
    assert "the-token" not in repr(write)
    assert "hero_indexer restarts if it runs" in write.consequences
    there = replace(
        held,
        secrets={**held.secrets, TOKEN_PLACE: Secret("the-token")},
        owned_settings=held.owned_settings | {TOKEN_PLACE},
    )
    assert SETTINGS.plan(desired, seen(there), known) == ()
    (shown,) = actions(SETTINGS.plan(desired, None, bare))
    assert "cockpit/SHARED_EMBEDDER_TOKEN" in shown.args
    (gone,) = actions(SETTINGS.plan(a_tester(), seen(there), some_facts()))
    assert {"cockpit/SHARED_EMBEDDER_TOKEN", "cockpit/HERO_EMBEDDER_URL"} == set(gone.args)
    assert "hero_indexer restarts if it runs" in gone.consequences
    assert TOKEN_PLACE in machine_query(desired, bare).secrets


def test_lesson_46_a_shared_key_is_handed_out_with_a_warning() -> None:
    (write,) = actions(SETTINGS.plan(WITH_KEYS, seen(with_secret(KEY, None)), some_facts()))
    assert any("OPENROUTER_API_KEY" in each and "determined tester" in each for each in write.consequences)
    (finding,) = SETTINGS.findings(WITH_KEYS, seen(IN_ORDER), some_facts())
    assert (finding.type, finding.status) == ("SharedKeysHandedOut", True)
    assert SETTINGS.findings(a_tester(), seen(IN_ORDER), some_facts()) == ()
    own_secret = a_tester(keys={"providers": {"openrouter": {"secret": "alice/openrouter"}}})
    assert SETTINGS.findings(own_secret, seen(IN_ORDER), some_facts()) == ()


def test_a_rotated_shared_key_is_written_and_only_its_readers_restart() -> None:
    rotated = some_facts(secrets={"env:OPENROUTER": Secret("another-provider-key")})
    desired = a_tester(keys={"providers": {"openrouter": "default"}}, components={"add": ["hero_agent"]})
    (write,) = actions(SETTINGS.plan(desired, seen(a_look(desired)), rotated))
    assert write.args == ("cockpit/OPENROUTER_API_KEY",)
    assert [each for each in write.consequences if "restarts" in each] == [
        "hero_cockpit restarts if it runs",
        "hero_agent restarts if it runs",
    ]


OWN = a_tester(keys={"providers": {"openrouter": "own"}})
NONE = a_tester()


@pytest.mark.parametrize("desired", [OWN, NONE], ids=["own", "none"])
@pytest.mark.parametrize(
    ("value", "remembered", "expected"),
    [
        (b"the-provider-key", True, ["delete settings"]),
        (b"the-tester's own", True, []),
        (b"the-provider-key", False, []),
        (None, True, []),
    ],
    ids=["ours still", "the tester's", "not known to be ours", "not there"],
)
def test_an_own_key_is_never_touched(
    desired: DesiredTester, value: bytes | None, remembered: bool, expected: list[str]
) -> None:
    look = with_secret(KEY, value)
    ours = frozenset({KEY, LIBRARIES})
    look = replace(look, secrets={key: held for key, held in look.secrets.items() if key in ours}, owned_settings=ours)
    known = SETTINGS.learn(seen(IN_ORDER), some_facts()) if remembered else SettingsFacts()
    facts = some_facts(known)
    assert brief(SETTINGS.plan(desired, seen(look), facts)) == expected
    assert (KEY in machine_query(desired, facts).secrets) is remembered
    assert SETTINGS.learn(seen(look), some_facts(known, secrets={})).handed == (
        known.handed if value == b"the-provider-key" and remembered else {}
    )


def test_a_service_is_not_restarted_while_its_component_is_being_installed() -> None:
    stale = replace(IN_ORDER, stale=frozenset({"hero_books", "hero_db"}))
    busy = jobbed(stale, "hero_books", JobState.RUNNING)
    assert planned(SETTINGS, busy, WITH_KEYS) == ["restart service hero_db"]
    assert planned(SETTINGS, replace(busy, stale=frozenset({"hero_books"})), WITH_KEYS) == ["wait Installing"]


# ------------------------------------------------------------------ components

EMPTY = without(a_look(), "hero_cockpit", "hero_db", "hero_indexer", "hero_books")
RUNNING, FAILED = JobState.RUNNING, JobState.FAILED
FIRST = [f"install component {name}" for name in ("hero_cockpit", "hero_db", "hero_indexer", "hero_books")]
NO_DB = without(a_look(), "hero_db")
COMPONENT_CASES: Mapping[str, tuple[MachineLook, list[str]]] = {
    "nothing there: all are begun": (EMPTY, FIRST),
    "the needed one is there": (without(a_look(), "hero_indexer"), ["install component hero_indexer"]),
    "the needed one is stopped": (
        broken(without(a_look(), "hero_indexer"), "hero_db"),
        ["install component hero_indexer", "start service hero_db"],
    ),
    "others are under way": (
        jobbed(jobbed(EMPTY, "hero_cockpit", RUNNING), "hero_books", RUNNING),
        ["install component hero_db", "install component hero_indexer"],
    ),
    "what needs one that is under way is begun": (
        jobbed(without(a_look(), "hero_db", "hero_indexer"), "hero_db", RUNNING),
        ["install component hero_indexer"],
    ),
    "under way": (jobbed(NO_DB, "hero_db", RUNNING), ["wait Installing"]),
    "stopped": (broken(a_look(), "hero_books"), ["start service hero_books"]),
    "dead, though said to run": (broken(a_look(), "hero_books", "running"), ["wait WaitingForHealth"]),
    "one failed, the others go on": (
        jobbed(without(a_look(), "hero_db", "hero_books"), "hero_db", FAILED),
        ["install component hero_books"],
    ),
    "one failed, others are under way": (
        jobbed(jobbed(without(a_look(), "hero_db", "hero_books"), "hero_db", FAILED), "hero_books", RUNNING),
        ["wait Installing"],
    ),
    "only what failed is left": (jobbed(NO_DB, "hero_db", FAILED), ["retry component hero_db"]),
    "a service that failed, and an install": (
        broken(jobbed(NO_DB, "hero_db", FAILED), "hero_books", "failed"),
        ["start_again service hero_books", "retry component hero_db"],
    ),
    "what needs a failed one waits": (
        jobbed(without(a_look(), "hero_db", "hero_indexer"), "hero_db", FAILED),
        ["retry component hero_db"],
    ),
    "ours, and no longer wanted": (
        replace(a_look(), owned_components=frozenset({"hero_slides", "hero_db", "hero_proc"})),
        ["remove component hero_slides"],
    ),
}


@pytest.mark.parametrize("name", COMPONENT_CASES)
def test_components(name: str) -> None:
    look, expected = COMPONENT_CASES[name]
    facts = some_facts(fleet=a_fleet(limits={"installs": 3}))
    assert planned(COMPONENTS, look, facts=facts) == expected


def test_the_last_second_try_carries_the_report_of_all() -> None:
    look = broken(jobbed(NO_DB, "hero_db", FAILED, log="no space left\n"), "hero_books", "failed")
    first, last = actions(COMPONENTS.plan(a_tester(), seen(look), some_facts()))
    assert first.args == ("hero_books",)
    (_, report) = last.args
    assert "hero_db: its install failed: no space left" in report
    assert "hero_books" in report


def test_components_of_a_preview_are_all_shown() -> None:
    steps = brief(COMPONENTS.plan(a_tester(version={"pin": {"hero_db": "v3"}}), None, some_facts()))
    assert sorted(steps) == sorted(FIRST)


def test_a_wait_says_how_far_it_is_and_for_whom_it_waits() -> None:
    (wait,) = COMPONENTS.plan(a_tester(), seen(jobbed(NO_DB, "hero_db", RUNNING, log="downloading\n")), some_facts())
    assert isinstance(wait, Wait)
    assert "3 of 4 are well" in wait.message
    assert "hero_db (downloading)" in wait.message


def test_versions_are_recorded_and_unknown_is_recorded_as_unknown() -> None:
    look = a_look(versions={"hero_db": None, "hero_books": "v1.0.0", "hero_proxy": "v1.0.0"})
    learnt = COMPONENTS.learn(seen(look), some_facts())
    assert learnt == ComponentsFacts(versions={"hero_books": "v1.0.0", "hero_db": "unknown"})


def finding(look: MachineLook) -> Finding:
    (found,) = COMPONENTS.findings(a_tester(), seen(look), some_facts())
    return found


def test_each_component_in_trouble_is_named() -> None:
    look = broken(jobbed(NO_DB, "hero_db", FAILED, log="no space left\n"), "hero_books", "running")
    trouble = finding(look)
    assert (trouble.status, trouble.reason) == (False, "ComponentFailing")
    assert "hero_db: its install failed: no space left" in trouble.message
    assert "hero_books answers its health check with 502" in trouble.message
    assert finding(a_look()).status is True
    assert finding(NO_DB).status is None
