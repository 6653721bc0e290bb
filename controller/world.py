"""The world as the present Fleet describes it: its clients, the shared looks at them, and the steps. Replaced as a whole
when the Fleet changes; the old one is closed when the last pass has left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reconcilers.backends import Backends
from reconcilers.contract import Reconciler
from reconcilers.looks import Looks, TesterLooks
from specs.fleet import Fleet
from specs.gone import Gone

Step = Reconciler[Any]


@dataclass
class World:
    """`steps` in graph order; `looks` shared by all passes; `gone`: what `fleet` is already without; `mark`: over the
    Fleet, what it was opened with and the program, b"" for one under which nobody's rest is kept."""

    fleet: Fleet
    backends: Backends
    looks: Looks
    steps: Sequence[Step]
    gone: Gone = field(default_factory=Gone)
    mark: bytes = field(default=b"", repr=False)
    users: int = 0
    retired: bool = field(default=False)

    @property
    def needs(self) -> Mapping[str, tuple[str, ...]]:
        return {step.name: step.needs for step in self.steps}

    @property
    def poll(self) -> timedelta:
        return self.fleet.spec.timing.poll

    @property
    def capacity_lag(self) -> timedelta:
        """How long a node's readout may not show room that was given away."""
        return self.fleet.spec.timing.capacity_lag

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def looks_of_a_turn(self) -> TesterLooks:
        """The looks as one turn of one tester uses them."""
        return TesterLooks(self.looks)

    async def leave(self) -> None:
        """One user fewer; the last one out of a retired world closes it."""
        self.users -= 1
        if self.retired and self.users == 0:
            await self.backends.aclose()

    async def retire(self) -> None:
        """Another world takes over."""
        self.retired = True
        if self.users == 0:
            await self.backends.aclose()
