"""What the store keeps, as values; and the changes that can be made to it, as values too.

Reads return records. Every write is one call with any number of changes, committed together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controller.fresh import FreshenFacts
from controller.rests import PutRest
from controller.tokens import DropToken, EndSession, NoteTokenUse, PutToken
from reconcilers.facts import OutsideObject, StepFacts
from reconcilers.secret import Secret
from specs.desired import DesiredTester


class Phase(StrEnum):
    """Where a tester stands, in one word for people; the conditions say why."""

    PENDING = "Pending"  # taken in, not looked at yet
    PROGRESSING = "Progressing"
    WAITING = "Waiting"
    READY = "Ready"
    FAILING = "Failing"  # something goes wrong and is tried again
    STALLED = "Stalled"  # nothing will happen until a person acts
    PAUSED = "Paused"
    REMOVING = "Removing"
    EXPIRED = "Expired"  # its last day is over and everything of it is gone; its file is still there


@dataclass(frozen=True, slots=True)
class TesterRecord:
    """One tester. Its row is our finaliser: it stays until everything of it is seen to be gone."""

    name: str
    uid: str
    generation: int  # raised with every change of the desired state
    desired: DesiredTester  # the last good one
    digest: str  # of `desired`
    source_file: str  # "" once no file names it any more
    source_line: int
    revision: str  # of the source, which brought this generation
    added_at: datetime
    changed_at: datetime  # when the generation was raised
    removed_at: datetime | None = None  # positively absent since; None: wanted
    observed_generation: int = 0  # of the last whole pass
    phase: Phase = Phase.PENDING
    progress: int = 0  # per cent of steps in sync
    current: str = ""  # the step that is being waited for or worked on, in words
    source_error: str = ""  # its file is broken now; it stays at the last good spec
    next_look_at: datetime | None = None
    ready_at: datetime | None = None  # when it last became Ready
    interrupted_at: datetime | None = None  # when it last began, or ceased, to stand still for a person or to leave

    @property
    def leaving(self) -> bool:
        return self.removed_at is not None

    @property
    def named(self) -> bool:
        """Whether a file still names it: then its row stays, even when it has expired and nothing else is left of it."""
        return self.source_file != ""


class Status(StrEnum):
    """Of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a tester: positive polarity, stamped with the generation it speaks of (law 12)."""

    tester: str
    type: str  # "Account", "Machine", …, "SignInProtected", "Ready", "Stalled"
    status: Status
    reason: str
    message: str
    generation: int
    since: datetime  # when status or reason last changed
    until: datetime | None = None  # the limit of a wait, or the next try
    blames: str = ""  # who is waited for, or who must act
    failures: int = 0  # in a row, for the backoff
    retry_at: datetime | None = None  # the step is left alone until then


class Severity(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened. `tester` is "" for the fleet. The same event again raises `count` and `last_at` only."""

    tester: str
    step: str
    reason: str
    message: str
    at: datetime
    severity: Severity = Severity.NORMAL
    generation: int = 0
    id: int = 0
    count: int = 1
    last_at: datetime | None = None


class Outcome(StrEnum):
    """Of a journalled write."""

    BEGUN = "begun"  # committed before the call; still so after a crash: unknown
    DONE = "done"
    REFUSED = "refused"  # a definite no
    FAILED = "failed"  # a definite failure without effect
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One outside write, written down before it is made (law 2)."""

    id: str  # chosen by the engine (32 hex digits): also the idempotency key
    tester: str
    step: str
    verb: str
    target: str
    began_at: datetime
    outcome: Outcome = Outcome.BEGUN
    ended_at: datetime | None = None
    limit_at: datetime | None = None  # until when the call may still have its effect; set for operations
    detail: str = ""  # field changes or the error, in words, without secrets
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as people know it. `at`: when it was committed, UTC."""

    sha: str
    author: str
    subject: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SourceState:
    """The source of specs, as last read."""

    source: str  # "folder examples/fleet"
    revision: str
    read_at: datetime
    readable: bool
    errors: tuple[str, ...] = ()
    held: tuple[str, ...] = ()  # testers whose removal is held back (TooManyRemovals)


class RevisionState(StrEnum):
    """What became of a revision, in the words of a commit status."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    SUPERSEDED = "warning"  # a newer one came into force before it was as it says


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision that was read, and what became of it. `told`: the status that was published last, "" while none was."""

    revision: str
    source: str
    read_at: datetime
    author: str = ""  # as far as the source knows
    subject: str = ""
    committed_at: datetime | None = None
    errors: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # testers that it added, changed, put back or took out
    state: RevisionState = RevisionState.PENDING
    ready: int = 0  # of `total` testers that it wants
    total: int = 0
    text: str = ""
    told: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """How long a tester took until it was Ready for the first time on its machine, in seconds after its beginning."""

    tester: str
    ready_at: datetime
    ready: float
    milestones: Mapping[str, float]  # by condition type; those that were there before the beginning are left out


# ------------------------------------------------------------------------------------------------ changes


@dataclass(frozen=True, slots=True)
class PutTester:
    """Insert or replace the row of a tester."""

    record: TesterRecord


@dataclass(frozen=True, slots=True)
class OnlyWhile:
    """The whole write raises SpecChanged, and makes nothing, unless the tester's row is of this generation and leaves, or not."""

    tester: str
    generation: int
    leaving: bool


@dataclass(frozen=True, slots=True)
class SetStatus:
    """What a pass found; touches only these columns of the tester's row, so that an intake meanwhile is not undone."""

    tester: str
    phase: Phase
    progress: int
    current: str
    observed_generation: int
    next_look_at: datetime | None
    ready_at: datetime | None = None
    interrupted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DropTester:
    """The finaliser falls: row, facts, conditions, sealed secrets and gone objects of the tester go; events, journal and the
    rows of objects that stay (an account that was kept) remain. Only while `removed_at` is still set (else nothing is done)."""

    tester: str


@dataclass(frozen=True, slots=True)
class PutObject:
    """Insert or replace one outside object's row, by (tester, step, incarnation, attempt)."""

    object: OutsideObject


@dataclass(frozen=True, slots=True)
class PutFacts:
    """`machine` is MachineFacts.key of the machine that the facts speak of, "" for facts that live on none."""

    tester: str
    facts: StepFacts
    machine: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DropFacts:
    tester: str
    step: str


@dataclass(frozen=True, slots=True)
class PutCondition:
    condition: Condition


@dataclass(frozen=True, slots=True)
class DropCondition:
    tester: str
    type: str


@dataclass(frozen=True, slots=True)
class AddEvent:
    """Add, or count up the newest event of this tester when it says the same (step, reason, message)."""

    event: Event


@dataclass(frozen=True, slots=True)
class AddRun:
    """Add a run, and forget the oldest ones beyond what is kept. Runs outlive their testers."""

    run: Run


@dataclass(frozen=True, slots=True)
class PutJournal:
    """Insert or replace a journal entry by id."""

    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Seal:
    """Keep a secret, encrypted, under a full name (`alice/one_time_password`). Replaces an older or void one."""

    name: str
    value: Secret
    at: datetime


@dataclass(frozen=True, slots=True)
class Void:
    """The sealed secret is worthless from now on (its rotation is begun): it stays, and is no longer handed out."""

    name: str


@dataclass(frozen=True, slots=True)
class Unseal:
    """Forget a sealed secret for good."""

    name: str


@dataclass(frozen=True, slots=True)
class PutSource:
    state: SourceState


@dataclass(frozen=True, slots=True)
class PutRevision:
    """Insert or replace a revision, and forget the oldest ones beyond what is kept."""

    record: RevisionRecord


@dataclass(frozen=True, slots=True)
class PutFleet:
    """The last good Fleet document, as JSON text, so that windows can read it without the source."""

    text: str
    revision: str


@dataclass(frozen=True, slots=True)
class ClaimForge:
    """Whose the Forge token is, written down for the whole fleet before the first write to Forge. Nothing is done when that
    is known already: who comes first is the owner."""

    owner: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NameForgeOwner:
    """A person has decided whose what we make at Forge is from now on, whoever it was before."""

    owner: str
    at: datetime


Change = (
    PutTester
    | OnlyWhile
    | SetStatus
    | DropTester
    | PutObject
    | PutFacts
    | FreshenFacts
    | DropFacts
    | PutRest
    | PutCondition
    | DropCondition
    | AddEvent
    | AddRun
    | PutJournal
    | Seal
    | Void
    | Unseal
    | PutSource
    | PutRevision
    | PutFleet
    | ClaimForge
    | NameForgeOwner
    | PutToken
    | DropToken
    | NoteTokenUse
    | EndSession
)


@dataclass(frozen=True, slots=True)
class TesterBooks:
    """Everything that the store knows of one tester, read in one transaction."""

    record: TesterRecord
    objects: tuple[OutsideObject, ...] = ()
    facts: Mapping[str, StepFacts] = field(default_factory=dict)  # by step; without those of a machine that is no more
    facts_at: Mapping[str, datetime] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)  # by type
    journal: tuple[JournalEntry, ...] = ()  # unfinished entries only
    sealed: Mapping[str, Secret] = field(default_factory=dict)  # by full name; void ones left out
    forge_owner: str = ""  # the fleet's: whose what we made at Forge is; "" while nothing was made there
    mark: bytes = b""  # over all of it as it lies there (`controller/store/marks.py`), where that was asked for
