"""Components: newer versions, channels, what only a working app answers, what is the tester's own, what logs may show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.actions import Finding, Wait
from reconcilers.backends.machine import Job, JobState, MachineLook, install_job
from reconcilers.backends.probes import ProbeAnswer
from reconcilers.components import ComponentsReconciler
from reconcilers.facts import ComponentsFacts, Facts, FrontDoorFacts, InstallLogsFacts, KeptLog, SignInGateFacts
from reconcilers.front_door import FrontDoorReconciler
from reconcilers.installs import jobs_of
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.machine_look import Seen, machine_address, machine_query, redacted, works_probe
from reconcilers.repairs import FIRST_PATIENCE
from reconcilers.secret import HIDDEN, Secret
from specs.desired import DesiredTester
from tests.reconcilers.data import (
    CLIENT_ID,
    FORGE,
    NOW,
    a_fleet,
    a_look,
    a_tester,
    actions,
    brief,
    done_job,
    some_facts,
)

COMPONENTS, FRONT_DOOR = ComponentsReconciler(None), FrontDoorReconciler(None)  # type: ignore[arg-type]
ALICE, NOTIFIED = a_tester(), a_tester(version={"updates": "notify"})
AUTHORIZE = f"{FORGE}/login/oauth/authorize"
ASKS, SERVES = ProbeAnswer(302, f"{AUTHORIZE}?client_id={CLIENT_ID}"), ProbeAnswer(200)
COCKPIT = works_probe("/hero_cockpit/web/")


def seen(look: MachineLook, desired: DesiredTester = ALICE, **newest: str) -> Seen:
    wanted = tuple(each for each in desired.components if each.name not in ("hero_proc", "hero_router", "hero_proxy"))
    return Seen(NOW, look, newest, wanted)


def found(desired: DesiredTester, observed: Seen, facts: Facts | None = None) -> dict[str, Finding]:
    return {each.type: each for each in COMPONENTS.findings(desired, observed, facts or some_facts())}


# ------------------------------------------------------------------ newer versions

UPDATES: Mapping[str, tuple[Seen, DesiredTester, Facts, list[str]]] = {
    "one is newer": (seen(a_look(), hero_db="v1.1.0"), ALICE, some_facts(), ["update component hero_db"]),
    "all are the newest": (seen(a_look(), hero_db="1.0.0"), ALICE, some_facts(), []),
    "only told of": (seen(a_look(), hero_db="v1.1.0"), NOTIFIED, some_facts(), []),
    "a pin wins": (
        seen(a_look(a_tester(version={"pin": {"hero_db": "v1.0.0"}})), hero_db="v1.1.0"),
        a_tester(version={"pin": {"hero_db": "v1.0.0"}}),
        some_facts(),
        [],
    ),
    "Forge has told nothing": (seen(a_look()), ALICE, some_facts(), []),
    "taken back to an older one": (seen(a_look(), hero_db="v0.9.0"), ALICE, some_facts(), ["update component hero_db"]),
    "begun before, and something else came": (
        seen(a_look(), hero_db="Release of March"),
        ALICE,
        some_facts(ComponentsFacts(updated={"hero_db": "Release of March"})),
        [],
    ),
    "a still newer one": (
        seen(a_look(), hero_db="v1.2.0"),
        ALICE,
        some_facts(ComponentsFacts(updated={"hero_db": "v1.1.0"})),
        ["update component hero_db"],
    ),
    "all are begun, and take their turns on the machine": (
        seen(a_look(), hero_db="v2", hero_books="v2", hero_cockpit="v2"),
        ALICE,
        some_facts(fleet=a_fleet(limits={"installs": 2})),
        ["update component hero_cockpit", "update component hero_db", "update component hero_books"],
    ),
    "what is missing comes first": (
        seen(
            replace(
                a_look(),
                versions={name: "v1.0.0" for name in a_look().versions if name != "hero_books"},
                jobs={},
            ),
            hero_db="v2",
        ),
        ALICE,
        some_facts(),
        ["install component hero_books", "update component hero_db"],
    ),
    "another channel: the version is named": (
        seen(a_look(), hero_db="v1.5.0"),
        a_tester(version={"channel": "stable"}),
        some_facts(),
        ["install component hero_db"],
    ),
    "another channel, only told of": (
        seen(a_look(), hero_db="v1.5.0"),
        a_tester(version={"channel": "stable", "updates": "notify"}),
        some_facts(),
        [],
    ),
    "only told of: what somebody changed comes back as it was": (
        seen(replace(a_look(), versions={**a_look().versions, "hero_db": "v0.9.0"}), hero_db="v1.5.0"),
        a_tester(version={"updates": "notify"}),
        some_facts(),
        ["install component hero_db"],
    ),
    "another channel, and Forge has told nothing": (
        seen(replace(a_look(), versions={"hero_db": "v1.0.0"}, jobs={})),
        a_tester(version={"channel": "stable"}),
        some_facts(),
        ["wait NothingPublished"],
    ),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates(name: str) -> None:
    observed, desired, facts, expected = UPDATES[name]
    assert brief(COMPONENTS.plan(desired, observed, facts)) == expected


def test_a_channel_in_which_nothing_is_published_is_named() -> None:
    bare = replace(a_look(), versions={"hero_db": "v1.0.0"}, jobs={})
    desired = a_tester(version={"channel": "stable"})
    (wait,) = COMPONENTS.plan(desired, seen(bare), some_facts())
    assert isinstance(wait, Wait)
    assert "no release of hero_cockpit, " in wait.message
    assert "in channel stable: publish one there, or choose another version.channel" in wait.message
    (wait,) = FRONT_DOOR.plan(desired, seen(bare), some_facts())
    assert isinstance(wait, Wait)
    assert "no release of hero_router, hero_proxy in channel stable" in wait.message
    running = {install_job("hero_books"): Job(install_job("hero_books"), JobState.RUNNING)}
    assert brief(COMPONENTS.plan(desired, seen(replace(bare, jobs=running)), some_facts())) == ["wait Installing"]


@pytest.mark.parametrize(("updates", "comes"), [("notify", "v1.0.0"), ("apply", "newest of the channel")])
def test_who_is_only_told_of_updates_gets_none_by_a_repair_either(updates: str, comes: str) -> None:
    """Changed, and taken away."""
    for versions in ({**a_look().versions, "hero_db": "v0.9.0"}, {**a_look().versions, "hero_db": None}):
        look = replace(a_look(), versions={name: each for name, each in versions.items() if each is not None})
        planned = COMPONENTS.plan(a_tester(version={"updates": updates}), seen(look), some_facts())
        (install,) = [each for each in actions(planned) if each.verb == "install"]
        assert install.changes[0].after == comes


def test_an_update_says_what_it_changes_and_what_restarts() -> None:
    (update,) = actions(COMPONENTS.plan(ALICE, seen(a_look(), hero_db="v1.1.0"), some_facts()))
    assert (update.changes[0].before, update.changes[0].after) == ("v1.0.0", "v1.1.0")
    assert update.consequences == ("hero_db restarts",)


def test_a_stopped_service_is_not_started_beside_its_update() -> None:
    look = replace(
        a_look(), services={**a_look().services, "hero_db": "stopped"}, health={**a_look().health, "hero_db": 0}
    )
    assert brief(COMPONENTS.plan(ALICE, seen(look, hero_db="v2"), some_facts())) == ["update component hero_db"]


DOORS: Mapping[str, tuple[dict[str, ProbeAnswer], bool, Facts, list[str]]] = {
    "shut": ({}, False, some_facts(), ["start service hero_db"]),
    "asking for sign-in": ({"loopback": ASKS, "inner": ASKS}, True, some_facts(), ["start service hero_db"]),
    "shut, its sign-in not set up yet": ({"loopback": SERVES}, False, some_facts(), ["start service hero_db"]),
    "open": ({"loopback": SERVES, "inner": ASKS}, True, some_facts(), ["wait DoorOpen"]),
    "open over the inner network, whatever it is set to": ({"inner": SERVES}, False, some_facts(), ["wait DoorOpen"]),
    "open to the inner network, which is only reported": (
        {"loopback": ASKS, "inner": SERVES},
        True,
        some_facts(fleet=a_fleet(safety={"innerProof": "report"})),
        ["start service hero_db"],
    ),
    "still listening after its gateway was cut off": (
        {"inner": ASKS},
        True,
        some_facts(SignInGateFacts(cut=True), without=("gateway",)),
        ["wait DoorOpen"],
    ),
    "of which nobody knows the address yet": (
        {"inner": SERVES},
        True,
        some_facts(without=("gateway", "sign_in_gate")),
        ["start service hero_db"],
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_service_is_not_started_behind_an_open_door(name: str) -> None:
    sides, listening, facts, expected = DOORS[name]
    probes = {each: sides[each.side] for each in machine_query(ALICE, some_facts()).probes if each.side in sides}
    look = replace(
        a_look(probes=probes, secrets={**a_look().secrets, **({LISTENER_KEY: LISTENER_ON} if listening else {})}),
        services={**a_look().services, "hero_db": "stopped"},
        health={**a_look().health, "hero_db": 0},
    )
    observed = replace(seen(look), authorize_url=AUTHORIZE)
    assert brief(COMPONENTS.plan(ALICE, observed, facts)) == expected


def test_behind_an_open_door_nothing_is_installed_or_updated_and_what_is_not_wanted_goes() -> None:
    probes = dict.fromkeys(machine_query(ALICE, some_facts()).probes, SERVES)
    on = {**a_look().secrets, LISTENER_KEY: LISTENER_ON}
    newer = replace(seen(a_look(probes=probes, secrets=on), hero_db="v2"), authorize_url=AUTHORIZE)
    (wait,) = COMPONENTS.plan(ALICE, newer, some_facts())
    assert isinstance(wait, Wait)
    assert "nothing is started behind the front door until that is shut" in wait.message
    assert "over the inner network / answered 200" in wait.message
    fewer = a_tester(fleet=a_fleet(componentSets={"demo": ["hero_db"]}))
    assert brief(COMPONENTS.plan(fewer, newer, some_facts())) == [
        "remove component hero_books",
        "remove component hero_indexer",
    ]
    at_rest = replace(newer, newest={})
    assert brief(COMPONENTS.plan(ALICE, at_rest, some_facts())) == []


def test_the_front_door_is_updated_one_at_a_time_and_the_router_first() -> None:
    observed = seen(a_look(), hero_proxy="v2", hero_router="v2")
    assert brief(FRONT_DOOR.plan(ALICE, observed, some_facts())) == ["update component hero_router"]
    begun = some_facts(FrontDoorFacts(router="v1.0.0", proxy="v1.0.0", updated={"hero_router": "v2"}))
    assert brief(FRONT_DOOR.plan(ALICE, observed, begun)) == ["update component hero_proxy"]
    running = {**a_look().jobs, install_job("hero_router"): Job(install_job("hero_router"), JobState.RUNNING)}
    busy = replace(observed, look=replace(observed.look, jobs=running))
    assert brief(FRONT_DOOR.plan(ALICE, busy, begun)) == ["wait Installing"]
    assert FRONT_DOOR.learn(observed, begun).updated == {"hero_router": "v2"}  # type: ignore[union-attr]


def test_update_available_lists_what_is_newer() -> None:
    both = seen(a_look(), hero_db="v1.1.0", hero_proc="v2.0.0", hero_books="v1.0.0")
    told = found(NOTIFIED, both)["UpdateAvailable"]
    assert told.status is True
    assert "hero_db v1.0.0 → v1.1.0" in told.message
    assert "hero_books" not in told.message
    assert "notify" in told.message
    assert "only by a pin" in found(ALICE, both)["UpdateAvailable"].message
    assert found(ALICE, seen(a_look(), hero_db="v1.0.0"))["UpdateAvailable"].status is False
    pinned = a_tester(version={"pin": {"hero_db": "v1.0.0"}})
    held = found(pinned, seen(a_look(pinned), hero_db="v2"))["UpdateAvailable"]
    assert held.status is False
    assert "pinned: hero_db v1.0.0 → v2" in held.message
    assert "UpdateAvailable" not in found(ALICE, seen(a_look()))


# ------------------------------------------------------------------ working, and not only alive

ANSWERS: Mapping[str, tuple[ProbeAnswer | None, bool]] = {
    "it works": (ProbeAnswer(200), True),
    "it sends on": (ProbeAnswer(302, "/x"), True),
    "it fails": (ProbeAnswer(500), False),
    "it is not there": (ProbeAnswer(404), False),
    "no answer": (ProbeAnswer(None, error="nobody"), False),
    "it was not asked": (None, True),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_app_that_lives_and_does_not_work_is_in_trouble(name: str) -> None:
    answer, fine = ANSWERS[name]
    observed = seen(a_look(probes={} if answer is None else {COCKPIT: answer}))
    health = found(ALICE, observed)["ComponentsHealthy"]
    assert (health.status is True) is fine
    assert fine or "hero_cockpit lives, but /hero_cockpit/web/" in health.message
    learnt = COMPONENTS.learn(observed, some_facts())
    assert learnt.healthy is fine
    assert set(learnt.unwell) == (set() if fine else {"hero_cockpit"})
    due = replace(observed, at=NOW + FIRST_PATIENCE)
    assert brief(COMPONENTS.plan(ALICE, due, some_facts(learnt))) == ([] if fine else ["restart service hero_cockpit"])


BOOKS = works_probe("/hero_books/api/libraries")
ASSUMED: Mapping[int | None, tuple[bool, str]] = {
    200: (True, "seen to work: hero_cockpit, hero_books"),
    404: (True, "seen to work: hero_cockpit; unknown whether they work, as they do not know our request: hero_books"),
    405: (True, "do not know our request: hero_books"),
    501: (True, "do not know our request: hero_books"),
    500: (False, "hero_books lives, but /hero_books/api/libraries answers with 500"),
    403: (False, "hero_books lives, but /hero_books/api/libraries answers with 403"),
    None: (False, "hero_books lives, but /hero_books/api/libraries does not answer"),
}


@pytest.mark.parametrize("status", ASSUMED)
def test_books_runs_and_is_healthy_and_lists_no_library(status: int | None) -> None:
    """The request is an assumption: not to know it is no fault of the app. Anything else is, and it is restarted for it."""
    fine, words = ASSUMED[status]
    observed = seen(a_look(probes={COCKPIT: ProbeAnswer(200), BOOKS: ProbeAnswer(status)}))
    health = found(ALICE, observed)["ComponentsHealthy"]
    assert (health.status is True) is fine
    assert words in health.message
    learnt = COMPONENTS.learn(observed, some_facts())
    assert learnt.healthy is fine
    due = replace(observed, at=NOW + FIRST_PATIENCE)
    assert brief(COMPONENTS.plan(ALICE, due, some_facts(learnt))) == ([] if fine else ["restart service hero_books"])


def test_a_silent_router_says_nothing_about_the_apps() -> None:
    look = a_look(probes={COCKPIT: ProbeAnswer(None)}, health={**a_look().health, "hero_router": 0})
    assert "lives, but" not in found(ALICE, seen(look))["ComponentsHealthy"].message


def test_healthy_is_learnt_only_of_a_look_that_knows_what_is_wanted() -> None:
    assert COMPONENTS.learn(seen(a_look()), some_facts()).healthy
    assert not COMPONENTS.learn(Seen(NOW, a_look()), some_facts()).healthy
    dead = a_look(health={**a_look().health, "hero_db": 0})
    assert not COMPONENTS.learn(seen(dead), some_facts()).healthy


# ------------------------------------------------------------------ not ours


def test_what_testers_installed_is_shown_and_left_alone() -> None:
    look = a_look()
    theirs = replace(
        look,
        versions={**look.versions, "hero_kimi": "v0.3.1", "hero_os": None},
        services={**look.services, "hero_kimi": "running", "a_stranger": "failed"},
    )
    assert COMPONENTS.plan(ALICE, seen(theirs), some_facts()) == ()
    own = found(ALICE, seen(theirs))["TestersOwnComponents"]
    assert own.message.endswith("a_stranger unknown, hero_kimi v0.3.1, hero_os unknown")
    assert COMPONENTS.learn(seen(theirs), some_facts()).versions["hero_kimi"] == "v0.3.1"
    assert "TestersOwnComponents" not in found(ALICE, seen(look))


# ------------------------------------------------------------------ failing, and saying why


def test_lesson_35_a_component_without_its_key_says_which() -> None:
    desired = a_tester(components={"add": ["hero_aibroker"]})
    failed = done_job("hero_aibroker", "", state=JobState.FAILED, log="error: no AI provider key configured\n")
    look = a_look(desired)
    look = replace(
        look,
        versions={name: version for name, version in look.versions.items() if name != "hero_aibroker"},
        jobs={**look.jobs, failed.name: failed},
    )
    message = found(desired, seen(look, desired))["ComponentsHealthy"].message
    assert "no AI provider key configured" in message
    assert "OPENROUTER_API_KEY" in message
    assert "keys.providers" in message
    own = a_tester(components={"add": ["hero_aibroker"]}, keys={"providers": {"openrouter": "own"}})
    assert "keys.providers" not in found(own, seen(look, own))["ComponentsHealthy"].message


@pytest.mark.parametrize(
    ("machine", "pin", "standing"),
    [
        pytest.param("gent/12", "", "ComponentFailing", id="the same once more"),
        pytest.param("compute1/before", "", "Installing", id="on the machine before"),
        pytest.param("gent/12", "v0.9.0", "Installing", id="another version"),
    ],
)
def test_what_failed_and_is_tried_again_has_failed_until_it_ends_well(machine: str, pin: str, standing: str) -> None:
    again = done_job("hero_books", "", state=JobState.RUNNING, log="downloading\n")
    look = replace(a_look(), jobs={**a_look().jobs, again.name: again})
    kept = KeptLog(machine=machine, state="died", wanted=pin, log="cut off\n", at=NOW)
    told = found(ALICE, seen(look), some_facts(InstallLogsFacts(kept={again.name: kept})))["ComponentsHealthy"]
    assert told.reason == standing
    assert (told.message == "hero_books: its install was interrupted: cut off; it is being tried again") == (
        standing == "ComponentFailing"
    )


def test_each_component_has_a_log_of_its_own() -> None:
    jobs = jobs_of(ALICE)
    assert jobs["hero_proc"] == "supervisor"
    assert jobs["hero_books"] == install_job("hero_books")
    assert set(jobs) == {each.name for each in ALICE.components}


KEY = Secret("sk-or-canary-1234567890")
PEM = Secret("-----BEGIN KEY-----\nline-one-of-it\nline-two-of-it\n")


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("bad key sk-or-canary-1234567890!\n", f"bad key {HIDDEN}!\n"),
        ("canary-1234567890 is bad\n", f"{HIDDEN} is bad\n"),
        ("line-two-of-it\n", f"{HIDDEN}\n"),
        ("nothing to hide: 64\n", "nothing to hide: 64\n"),
        ("GROQ_API_KEY=gsk_own\nHOME=/root\n", f"GROQ_API_KEY={HIDDEN}\nHOME=/root\n"),
    ],
    ids=["whole", "cut off at the tail's beginning", "one line of several", "too short to be one", "the tester's own"],
)
def test_lesson_36_a_log_is_shown_without_secrets(log: str, expected: str) -> None:
    assert redacted(log, (KEY, PEM, Secret("64"), Secret(b"\xff\xfe"))) == expected


def test_whoever_works_on_a_machine_knows_what_must_not_be_seen_of_it() -> None:
    address = machine_address(some_facts(secrets={"alice/oauth_client_secret": KEY, "env:GROQ": PEM}))
    assert set(address.hidden) == {KEY, PEM}
    assert address == replace(address, hidden=())


def test_the_patience_with_an_app_that_does_not_work_is_that_with_one_that_does_not_answer() -> None:
    observed = seen(a_look(probes={COCKPIT: ProbeAnswer(500)}))
    since: Any = COMPONENTS.learn(observed, some_facts())
    early = replace(observed, at=NOW + FIRST_PATIENCE - timedelta(seconds=1))
    assert brief(COMPONENTS.plan(ALICE, early, some_facts(since))) == ["wait WaitingForHealth"]
