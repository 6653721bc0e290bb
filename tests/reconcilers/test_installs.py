"""How a component stands: a table of what one look shows and the judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.backends.machine import JobState, MachineLook, install_job
from reconcilers.facts import ComponentsFacts
from reconcilers.installs import Standing, judge, last_line, same_version
from reconcilers.repairs import FIRST_PATIENCE, LATER_PATIENCE, restart_actions, watched
from specs.desired import DesiredComponent
from tests.reconcilers.data import NOW, a_look, a_tester, done_job

BOOKS = next(each for each in a_tester().components if each.name == "hero_books")
PINNED = BOOKS.model_copy(update={"version": "v2.0.0"})
JOB = install_job("hero_books")


def look(**parts: Any) -> MachineLook:
    """A machine in order, but for what is said of hero_books: version, service, health, job."""
    base = a_look()
    versions, services, health, jobs = dict(base.versions), dict(base.services), dict(base.health), dict(base.jobs)
    for mapping, key, part in ((versions, "hero_books", "version"), (services, "hero_books", "service"),
                               (health, "hero_books", "health"), (jobs, JOB, "job")):  # fmt: skip
        if part in parts:
            if parts[part] == "absent":
                mapping.pop(key, None)
            else:
                mapping[key] = parts[part]  # type: ignore[index]
    health["hero_router"] = parts.get("router", 200)
    return replace(base, versions=versions, services=services, health=health, jobs=jobs)


def job(state: JobState = JobState.SUCCEEDED, **fields: Any) -> Any:
    return done_job("hero_books", state=state, **fields)


FAILED, RUNNING, DIED = JobState.FAILED, JobState.RUNNING, JobState.DIED
CASES: Mapping[str, tuple[DesiredComponent, MachineLook, Standing]] = {
    "in order": (BOOKS, look(), Standing.WELL),
    "being installed": (BOOKS, look(job=job(RUNNING), version="absent"), Standing.INSTALLING),
    "being updated, whatever else": (
        BOOKS,
        look(job=job(RUNNING), version="v0", service="failed"),
        Standing.INSTALLING,
    ),
    "not there": (BOOKS, look(job="absent", version="absent"), Standing.MISSING),
    "taken away after our install": (BOOKS, look(version="absent"), Standing.MISSING),
    "its install failed": (BOOKS, look(job=job(FAILED, result=""), version="absent"), Standing.FAILED),
    "its install died": (BOOKS, look(job=job(DIED, result=""), version="absent"), Standing.FAILED),
    "its update failed": (BOOKS, look(job=job(FAILED, result="")), Standing.FAILED),
    "an install of something else failed": (PINNED, look(job=job(FAILED, result="")), Standing.OTHER_VERSION),
    "there before us, no pin": (BOOKS, look(job="absent", version="v0.0.7"), Standing.WELL),
    "not what we installed": (BOOKS, look(version="v0.0.7"), Standing.OTHER_VERSION),
    "a v more or less": (BOOKS, look(version="1.0.0"), Standing.WELL),
    "it no longer tells its version": (BOOKS, look(version=None), Standing.OTHER_VERSION),
    "it never told its version": (BOOKS, look(version=None, job=job(result="")), Standing.WELL),
    "pinned and there": (PINNED, look(version="v2.0.0", job=job(wanted="v2.0.0", result="v2.0.0")), Standing.WELL),
    "pinned and there, whoever put it": (PINNED, look(version="v2.0.0", job="absent"), Standing.WELL),
    "pinned and there, though a job failed": (PINNED, look(version="v2.0.0", job=job(FAILED)), Standing.WELL),
    "pinned and there, and not seen to run": (
        PINNED,
        look(version="v2.0.0", job=job(FAILED, wanted="v2.0.0", result="v2.0.0")),
        Standing.FAILED,
    ),
    "pinned and there, whether it runs is not known": (
        PINNED,
        look(version="v2.0.0", job=job(DIED, wanted="v2.0.0", result="")),
        Standing.FAILED,
    ),
    "pinned and there, though it could not be loaded again": (
        PINNED,
        look(version="v2.0.0", job=job(FAILED, wanted="v2.0.0", result="")),
        Standing.WELL,
    ),
    "pinned elsewhere": (PINNED, look(), Standing.OTHER_VERSION),
    "pinned, changed afterwards": (PINNED, look(job=job(wanted="v2.0.0", result="v2.0.0")), Standing.OTHER_VERSION),
    "pinned, something else came": (PINNED, look(job=job(wanted="v2.0.0", result="v1.0.0")), Standing.FAILED),
    "pinned, its install failed": (PINNED, look(job=job(FAILED, wanted="v2.0.0", result="")), Standing.FAILED),
    "pinned, tells no version": (PINNED, look(version=None, job=job(wanted="v2.0.0", result="")), Standing.WELL),
    "no longer pinned": (
        BOOKS,
        look(version="v2.0.0", job=job(wanted="v2.0.0", result="v2.0.0")),
        Standing.OTHER_VERSION,
    ),
    "stopped": (BOOKS, look(service="stopped", health=502), Standing.STOPPED),
    "unknown to the supervisor": (BOOKS, look(service="absent", health=502), Standing.STOPPED),
    "failed": (BOOKS, look(service="failed", health=502), Standing.BROKEN),
    "starting": (BOOKS, look(service="starting", health=502), Standing.STARTING),
    "said to run, and dead": (BOOKS, look(health=502), Standing.UNWELL),
    "said to run, and silent": (BOOKS, look(health=0), Standing.UNWELL),
    "said to be stopped, and well": (BOOKS, look(service="stopped"), Standing.WELL),
    "its health was not asked": (BOOKS, look(health="absent"), Standing.STARTING),
    "silent because the router is": (BOOKS, look(health=0, router=0), Standing.STARTING),
    "stopped, and the router too": (BOOKS, look(service="stopped", health=0, router=0), Standing.STOPPED),
}


@pytest.mark.parametrize("name", CASES)
def test_how_a_component_stands(name: str) -> None:
    component, seen, expected = CASES[name]
    state = judge(component, seen)
    assert state.standing is expected
    assert bool(state.detail) == (expected not in (Standing.WELL, Standing.MISSING, Standing.INSTALLING))


def test_a_failure_says_the_last_words_of_its_log() -> None:
    state = judge(BOOKS, look(job=job(FAILED, log="one\ndownload failed: reset\n\n"), version="absent"))
    assert state.detail == "its install failed: download failed: reset"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("v1", "1", True), ("1", "1", True), ("v1", "v2", False), (None, None, False), (None, "1", False)],
)
def test_versions(one: str | None, other: str | None, same: bool) -> None:
    assert same_version(one, other) is same


def test_a_log_may_be_empty_or_long() -> None:
    assert last_line("\n \n") == ""
    assert len(last_line("x" * 5000)) == 300


def restarts(known: ComponentsFacts | None, at: Any) -> int:
    return len(restart_actions(judge(BOOKS, look(health=0)), at, known))


def test_what_does_not_answer_is_restarted_after_a_patience_and_then_only_after_a_long_one() -> None:
    since = ComponentsFacts(unwell={"hero_books": NOW})
    assert restarts(None, NOW + timedelta(days=1)) == 0, "since when is not known yet"
    assert restarts(since, NOW + FIRST_PATIENCE - timedelta(seconds=1)) == 0
    assert restarts(since, NOW + FIRST_PATIENCE) == 1
    once = since.model_copy(update={"restarted": {"hero_books": NOW + FIRST_PATIENCE}})
    assert restarts(once, NOW + FIRST_PATIENCE + timedelta(minutes=5)) == 0
    assert restarts(once, NOW + FIRST_PATIENCE + LATER_PATIENCE) == 1


def test_the_memory_of_what_does_not_answer_ends_with_its_answer() -> None:
    before = ComponentsFacts(unwell={"hero_books": NOW}, restarted={"hero_books": NOW})
    later = NOW + timedelta(minutes=1)
    still = watched(look(health=0), later, before, ("hero_books", "hero_db"))
    assert still == {"unwell": {"hero_books": NOW}, "restarted": {"hero_books": NOW}}
    assert watched(look(), later, before, ("hero_books",)) == {"unwell": {}, "restarted": {}}
    assert watched(look(health=0), later, None, ("hero_books",)) == {"unwell": {"hero_books": later}, "restarted": {}}
    assert watched(look(health=0, router=0), later, None, ("hero_books",))["unwell"] == {}, "the router is silent"
