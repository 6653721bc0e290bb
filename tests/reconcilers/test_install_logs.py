"""What is kept of failed installs: the last failure of each component, until it is seen to end well, and never twice."""

from __future__ import annotations

from datetime import timedelta

from reconcilers.backends.machine import SUPERVISOR_JOB, Job, JobState, MachineLook
from reconcilers.facts import Facts, InstallLogsFacts
from reconcilers.install_logs import MOST, install_logs
from reconcilers.machine_look import Seen
from tests.reconcilers.data import NOW, a_tester, some_facts

DESIRED = a_tester()
BOOKS = Job("component-hero_books", JobState.FAILED, 1, "no room\n", began="09:00")
LATER = NOW + timedelta(minutes=1)


def seen(*jobs: Job, later: bool = False) -> Seen:
    return Seen(LATER if later else NOW, MachineLook(host_key="", jobs={job.name: job for job in jobs}))


def after(*looks: Seen, facts: Facts | None = None) -> InstallLogsFacts | None:
    """What is known after these looks."""
    facts = facts or some_facts()
    found = None
    for look in looks:
        found = install_logs(DESIRED, look, facts)
        if found is not None:
            facts = some_facts(found)
    return found


def state(job: Job, standing: JobState, **other: str) -> Job:
    return Job(job.name, standing, None, **{"began": job.began, **other})


def test_a_failure_is_kept_with_its_machine_and_stays_as_it_was_first_seen() -> None:
    found = after(seen(BOOKS))
    assert found is not None
    (log,) = found.kept.values()
    assert (log.state, log.rc, log.log, log.began, log.at) == ("failed", 1, "no room\n", "09:00", NOW)
    assert log.machine == some_facts().steps["machine"].key  # type: ignore[attr-defined]
    assert after(seen(BOOKS), seen(BOOKS, later=True)) == found, "nothing new: nothing to write"
    newer = after(seen(BOOKS), seen(state(BOOKS, JobState.DIED, log="killed"), later=True))
    assert newer is not None
    assert [(each.state, each.log, each.at) for each in newer.kept.values()] == [("died", "killed", LATER)]


def test_it_outlives_the_next_try_and_the_machine_and_goes_when_all_is_well() -> None:
    found = after(seen(BOOKS))
    assert after(seen(BOOKS), seen(state(BOOKS, JobState.RUNNING)), seen(later=True)) == found
    assert after(seen(BOOKS), seen(state(BOOKS, JobState.SUCCEEDED))) == InstallLogsFacts()


def test_nothing_is_kept_of_what_ended_well_or_is_not_in_the_spec() -> None:
    assert after(seen(state(BOOKS, JobState.SUCCEEDED), Job("component-of_the_tester", JobState.FAILED, 1))) is None
    assert install_logs(DESIRED, object(), some_facts()) is None


def test_it_is_bounded_and_the_supervisors_job_is_among_it() -> None:
    found = after(seen(Job(SUPERVISOR_JOB, JobState.FAILED, 1, "x" * 2 * MOST + "end")))
    assert found is not None
    log = found.kept[SUPERVISOR_JOB].log
    assert (len(log), log[-3:]) == (MOST, "end")
    assert "end" not in str(found.shown()), "windows show it as a log, not among the facts"
