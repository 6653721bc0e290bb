"""What a plan is made of: actions (one outside write each) and waits. Both are values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from reconcilers.facts import StepFacts
from reconcilers.secret import HIDDEN


class Disruption(StrEnum):
    """The worst that a tester notices of an action."""

    NONE = "none"
    RESTART = "restart"
    REBUILD = "rebuild"
    REMOVE = "remove"


class Effect(StrEnum):
    """How the engine journals an action."""

    CREATE = "create"  # makes the outside object of this step's row: intent is committed before the call
    DELETE = "delete"  # removes it: the row retires before the call, and is gone when it is seen to be gone
    CHANGE = "change"  # anything else, harmless to do again


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field: what it is, what it will be. A secret's values are HIDDEN; None means that there is no value."""

    path: str
    before: str | None
    after: str | None


def secret_change(path: str, *, known: bool) -> FieldChange:
    """Says *that* a secret changes, never what it is. `known`: there is a value today."""
    return FieldChange(path, HIDDEN if known else None, HIDDEN)


@dataclass(frozen=True, slots=True)
class Action:
    """One outside write, described before it is done; the preview shows it and the pass does it.

    `verb` is what `apply` switches on and what people read ("create", "restart"); `target` names the thing touched
    ("account Alice-B"); `args` are what `apply` needs beyond the tester, never a secret. `reason` is the CamelCase word
    for events ("DriftRepaired"); it defaults to the effect's own word.
    """

    verb: str
    target: str
    effect: Effect = Effect.CHANGE
    changes: tuple[FieldChange, ...] = ()
    disruption: Disruption = Disruption.NONE
    consequences: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    reason: str = ""
    why: str = ""  # what was seen that calls for it, where its changes do not tell: "seen open from outside at /"
    limit: timedelta | None = None  # set: an operation that may take this long, run beside the passes
    voids: tuple[str, ...] = ()  # sealed secrets that are worthless the moment this call is begun
    records: StepFacts | None = None  # facts that are true from the moment that this call is begun
    marks: tuple[tuple[str, str], ...] = ()  # of a delete: what its row is to remember, from the same moment on
    only_while: tuple[str, ...] = ()  # steps that must be in sync in this very pass, else it is not done
    urgent: bool = field(default=False)  # shutting a door: done also while the tester is paused


INSTALLING = "Installing"
"""The reason of a wait for a job on a machine."""

UPDATE_STARTED = "UpdateStarted"
"""The reason of an action that follows a new release."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but wait: for what, at most how long, and whom to blame when it takes longer (law 7)."""

    reason: str
    message: str
    limit: timedelta
    blames: str
    poll: timedelta | None = None  # how soon to look again; None: the fleet's usual poll


Step = Action | Wait


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that a step declares beside its own (`SignInProtected`, …). status None: unknown."""

    type: str
    status: bool | None
    reason: str
    message: str
