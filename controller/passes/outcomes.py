"""How one step's turn ended, as a value. Errors become outcomes here and nowhere else (law 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reconcilers.actions import Finding, Wait
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Rejected, Throttled


class Kind(StrEnum):
    """What a turn's end means for the tester and for the next look."""

    IN_SYNC = "in sync"
    WAITING = "waiting"  # for something that takes its time
    FAILING = "failing"  # tried again with backoff
    BLOCKED = "blocked"  # a person must act
    REJECTED = "rejected"  # the spec must change
    HELD = "held"  # not run: what it needs is not known yet, or it is left alone for now


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """`until`: the limit of a wait. `again`: look again no later than this from now. `did`: actions that were done.

    `seen_at`: nothing that it rests on was looked at before (law 11); None: it speaks of the moment at which it was told.
    `learnt`: the step's facts were seen to be as they are recorded. `urgent`: a door may stand open, and was not shut; the
    next try is at the next poll, however many have failed.
    """

    step: str
    kind: Kind
    reason: str
    message: str
    blames: str = ""
    limit: timedelta | None = None
    until: datetime | None = None
    again: timedelta | None = None
    did: int = 0
    left_alone: bool = False  # not run, because its next try is not due: what was known of it stays
    findings: tuple[Finding, ...] = ()
    seen_at: datetime | None = None
    learnt: bool = False
    urgent: bool = False


IN_SYNC_REASON = "InSync"
OPERATION_RUNNING = "OperationRunning"
THE_SPEC, AN_ADMIN = "the spec", "an admin"  # who is to blame when nothing goes on by itself
TOKEN_REFUSED = "TokenRefused"  # noqa: S105 - a reason


@dataclass(frozen=True, slots=True)
class FleetWide:
    """A trouble that is nobody's own: what the system does, and what mends it."""

    what: str
    cure: str


_FLEET_WIDE: Mapping[tuple[str, str], FleetWide] = {
    (TOKEN_REFUSED, "Forge"): FleetWide(
        "does not accept our token",
        "an admin makes a new one and puts it where the Fleet's spec points (spec.forge.token)",
    ),
    ("DaemonConnectionDead", "compute"): FleetWide("has lost the chain", "whoever runs it restarts it"),
}
"""By reason and kind of system. Told once for all by `controller.fleet_troubles`."""


def fleet_wide(reason: str, system: str) -> FleetWide | None:
    """`system` as errors and conditions name it ("compute gent")."""
    return _FLEET_WIDE.get((reason, system.partition(" ")[0]))


def in_sync(step: str, *, again: timedelta | None = None, did: int = 0) -> StepOutcome:
    return StepOutcome(step, Kind.IN_SYNC, IN_SYNC_REASON, "as the spec says", again=again, did=did)


def waiting(step: str, wait: Wait, poll: timedelta, *, did: int = 0) -> StepOutcome:
    return StepOutcome(
        step, Kind.WAITING, wait.reason, wait.message, wait.blames, limit=wait.limit, again=wait.poll or poll, did=did
    )


def held(step: str, reason: str, message: str) -> StepOutcome:
    return StepOutcome(step, Kind.HELD, reason, message)


def of_error(step: str, error: OutsideError, poll: timedelta, *, did: int = 0) -> StepOutcome:
    """What an error of the outside means: the one table of law 5."""
    text = str(error)
    match error:
        case Rejected():
            return StepOutcome(step, Kind.REJECTED, error.reason, text, THE_SPEC, did=did)
        case Blocked() if (known := fleet_wide(error.reason, error.system)) is not None:
            short = f"waits for {error.system}, which {known.what}: the fleet's own conditions say what mends it"
            return StepOutcome(step, Kind.FAILING, error.reason, short, error.system, did=did)
        case Blocked():
            return StepOutcome(step, Kind.BLOCKED, error.reason, text, AN_ADMIN, did=did)
        case Throttled():
            pause = error.retry_after or poll
            return StepOutcome(
                step, Kind.WAITING, "Throttled", text, error.system, limit=pause * 10, again=pause, did=did
            )
        case OutcomeUnknown():
            return StepOutcome(step, Kind.FAILING, error.reason, text, error.system, again=poll, did=did)
        case _:
            return StepOutcome(step, Kind.FAILING, error.reason, text, error.system, did=did)
