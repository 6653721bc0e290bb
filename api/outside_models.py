"""What the read API and `-o json` answer of the outside itself: logs of installs, and findings of a check-up."""

from __future__ import annotations

from datetime import datetime

from api import job_logs
from api.answer import Answer
from controller.checkup import doctor
from controller.checkup.doctor import Verdict
from reconcilers.backends.machine import JobState


class JobLog(Answer):
    """What the last job that installed a component printed; null where none ever ran. `keptAt`: when it was seen, if it comes
    from the controller's books; `keptWhy` then says why the machine does not tell, `machine` on which one it ran."""

    component: str
    state: JobState | None
    exit_code: int | None
    began: str | None
    wanted: str | None
    result: str | None
    log: str
    kept_at: datetime | None
    kept_why: str | None
    machine: str | None

    @classmethod
    def of(cls, one: job_logs.JobLog) -> JobLog:
        job = one.job
        return cls(
            component=one.component,
            state=job.state if job else None,
            exit_code=job.rc if job else None,
            began=(job and job.began) or None,
            wanted=(job and job.wanted) or None,
            result=(job and job.result) or None,
            log=one.log,
            kept_at=one.kept_at,
            kept_why=one.why or None,
            machine=one.machine or None,
        )


class Finding(Answer):
    """One answer of `testerctl doctor`."""

    system: str
    what: str
    verdict: Verdict
    detail: str
    mend: str | None

    @classmethod
    def of(cls, one: doctor.Finding) -> Finding:
        return cls(system=one.system, what=one.what, verdict=one.verdict, detail=one.detail, mend=one.mend or None)
