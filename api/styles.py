"""Colours by meaning."""

from __future__ import annotations

from controller.records import Phase, Severity, Status
from reconcilers.backends.machine import JobState

PHASE_STYLE = {
    Phase.READY: "green",
    Phase.PROGRESSING: "cyan",
    Phase.WAITING: "cyan",
    Phase.PENDING: "dim",
    Phase.FAILING: "yellow",
    Phase.STALLED: "bold red",
    Phase.PAUSED: "magenta",
    Phase.REMOVING: "magenta",
    Phase.EXPIRED: "dim",
}
STATUS_STYLE = {Status.TRUE: "green", Status.FALSE: "yellow", Status.UNKNOWN: "dim"}
SEVERITY_STYLE = {Severity.NORMAL: "", Severity.WARNING: "yellow"}
JOB_STYLE = {
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
    JobState.DIED: "bold red",
}
