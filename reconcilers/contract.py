"""The one shape of every reconciler, and what the engine lends it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from reconcilers.actions import Action, Finding, Step
from reconcilers.facts import Facts, Promise, StepFacts
from reconcilers.looks import Looks, TesterLooks
from reconcilers.secret import Secret
from specs.desired import DesiredTester


@dataclass(frozen=True, slots=True)
class TesterView:
    """The tester as a reconciler sees it: its last good desired state (also while it leaves), and what is known."""

    desired: DesiredTester
    facts: Facts

    @property
    def name(self) -> str:
        return self.facts.tester


class Ports(Protocol):
    """What `apply` may ask of the engine. Each is durable when it returns."""

    async def seal(self, name: str, value: Secret) -> None:
        """Keep a secret of this tester under a short name, encrypted, before its first use (law 3)."""

    async def record(self, facts: StepFacts) -> None:
        """Keep a fact now, not only at the end of the action."""

    async def erase(self, name: str) -> None:
        """Forget a sealed secret of this tester for good: nothing secret is kept longer than needed (lesson 39)."""

    async def place(self, identity: dict[str, str]) -> None:
        """Before a create is called: where it goes and how large it is, kept in the row that is being made (law 2),
        with the moment: from then on it is promised."""

    def placing(self) -> AbstractAsyncContextManager[None]:
        """To be held from choosing a place until it is written down: one tester of the whole fleet at a time."""

    async def promises(self) -> tuple[Promise, ...]:
        """Room that our books have given away, and a readout may not show yet; as of now."""

    async def claim_forge(self, owner: str) -> str:
        """Before a write to Forge: whose token makes it, written down for the whole fleet unless that is known already.
        Returns whose what we make at Forge is."""

    async def note(self, text: str) -> None:
        """Add a line to what people read about this step. Never a secret."""


class Renewal(Protocol):
    """How a step in sync does over by itself what has fallen due (`Reconciler.due`), while all else is as it was: without its
    books, and without a plan. A value."""

    @property
    def facts(self) -> StepFacts:
        """What it knows; with each time it is done over only their hours are others (`StepFacts.is_as`)."""
        ...

    @property
    def due(self) -> datetime: ...

    def kept(self) -> str:
        """What it is beside its facts, so that `Reconciler.renewal_of` can make it anew after a start. Never a secret."""
        ...

    async def renewed(self, looks: Looks) -> Renewal | None:
        """Do it over. None: it did not come out as before, or cannot be told, and a whole pass must see to it. May raise an
        OutsideError, which means the same."""
        ...


O = TypeVar("O")  # noqa: E741 - what a step observes; DESIGN calls it O


class Reconciler(Protocol[O]):
    """Keeps one kind of thing as the spec says.

    name     the step's name; facts, conditions and events use it
    needs    steps whose recorded facts this one uses
    makes    True: it makes an outside object of its own, so the engine keeps rows for it
    leaves   when it goes, on removal: "access" first, "standing" after `keepAfterRemoval`, "machine" with the machine
    watches  True: it guards a door, so every pass looks at it first, backoff and pause or not
    """

    name: str
    needs: tuple[str, ...]
    makes: bool
    leaves: str
    watches: bool

    async def observe(self, tester: TesterView, looks: TesterLooks) -> O | None:
        """What is there now; None: it is not there. Raises an OutsideError when it cannot tell."""
        ...

    def plan(self, desired: DesiredTester | None, observed: O | None, facts: Facts) -> tuple[Step, ...]:
        """Pure. What to do so that `observed` becomes `desired`; None: it must go. () means in sync.

        May raise Rejected or Blocked when the spec cannot be met as it is.
        """
        ...

    def delete_unseen(self, facts: Facts) -> Action | None:
        """Pure. How the row's object is told to go although no look shows it, where a look is not the last word: it is told
        until one such call is answered. None: `observe` has asked for it by itself, or it is not known what to ask for."""
        ...

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> O | None:
        """One outside write. Returns what it saw, when the answer showed it, else None. Raises an OutsideError."""
        ...

    def learn(self, observed: O, facts: Facts) -> StepFacts | None:
        """Pure. The facts to record from an observation; None while there is nothing that others could use."""
        ...

    def findings(self, desired: DesiredTester, observed: O | None, facts: Facts) -> tuple[Finding, ...]:
        """Pure. Conditions that this step declares beside its own."""
        ...

    def due(self, desired: DesiredTester, facts: Facts) -> datetime | None:
        """Pure. Of a step in sync: when it has something to do although nothing may have changed (a proof is due, say); None:
        never. Until then the same answers to the same questions mean that it still is."""
        ...

    def renewal(self, desired: DesiredTester, facts: Facts) -> Renewal | None:
        """Pure. How what falls due is done over alone; None: only a turn of the step can do it."""
        ...

    def renewal_of(self, kept: str, facts: StepFacts, now: datetime) -> Renewal | None:
        """Pure. That of before a start, by `Renewal.kept` and the facts that the books have now; None: they do not go
        together."""
        ...

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> Promise | None:
        """Before anything of a tester is begun: raises Blocked or Rejected when this step could not be done, so that no other
        is. Returns the room that it will take."""
        ...

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        """Pure. The outside name of a row; "" for steps that make nothing."""
        ...

    def identity(self, observed: O) -> dict[str, str]:
        """Pure. What the outside calls the object (daemon and id, …), to be kept in its row."""
        ...

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """All names that the bulk look behind this step shows now, so that a mass disappearance is noticed (law 1)."""
        ...


class Base:
    """The answers of a reconciler that has nothing to say to a question."""

    makes: bool = False
    leaves: str = "machine"
    watches: bool = False

    def delete_unseen(self, facts: Facts) -> Action | None:
        return None

    def findings(self, desired: DesiredTester, observed: Any, facts: Facts) -> tuple[Finding, ...]:
        return ()

    def due(self, desired: DesiredTester, facts: Facts) -> datetime | None:
        return None

    def renewal(self, desired: DesiredTester, facts: Facts) -> Renewal | None:
        return None

    def renewal_of(self, kept: str, facts: StepFacts, now: datetime) -> Renewal | None:
        return None

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> Promise | None:
        return None

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return ""

    def identity(self, observed: Any) -> dict[str, str]:
        return {}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        return frozenset()
