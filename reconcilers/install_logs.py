"""What failed installs printed, kept where it can be read while the machine is away and after it was rebuilt (lesson 36). Pure.

Kept are the ends of jobs that failed or died, one for each component of the spec, as the look brought them: without secrets.
One that is tried again stays until it is seen to end well.
"""

from __future__ import annotations

from reconcilers.backends.machine import Job, JobState
from reconcilers.facts import Facts, InstallLogsFacts, KeptLog, MachineFacts
from reconcilers.installs import jobs_of
from reconcilers.machine_look import Seen
from specs.desired import DesiredTester

MOST = 4096  # characters of each
_BAD = frozenset({JobState.FAILED, JobState.DIED})


def install_logs(desired: DesiredTester, observed: object, facts: Facts) -> InstallLogsFacts | None:
    """What is kept after a step's observation; None when that was no look at the machine, or nothing ever failed."""
    machine, known = facts.get(MachineFacts), facts.get(InstallLogsFacts)
    if not isinstance(observed, Seen) or machine is None:
        return None
    before = known.kept if known else {}
    kept = {}
    for name in jobs_of(desired).values():
        found = _kept(before.get(name), observed.look.jobs.get(name), machine.key, observed)
        if found is not None:
            kept[name] = found
    return None if known is None and not kept else InstallLogsFacts(kept=kept)


def _kept(before: KeptLog | None, job: Job | None, machine: str, observed: Seen) -> KeptLog | None:
    if job is None or job.state is JobState.RUNNING:
        return before
    if job.state not in _BAD:
        return None
    now = KeptLog(
        machine=machine,
        state=job.state,
        rc=job.rc,
        wanted=job.wanted,
        result=job.result,
        began=job.began,
        log=job.log[-MOST:],
        at=observed.at,
    )
    return before if before is not None and before == now.model_copy(update={"at": before.at}) else now
