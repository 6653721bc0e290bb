"""Troubles of the fleet are looked for once a minute, and everybody's conditions are read only when they may have changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from controller.fleet_troubles import CONDITION, FleetTroubles
from controller.passes.outcomes import TOKEN_REFUSED
from controller.records import Condition, PutCondition, PutTester, Status
from controller.store import Store
from reconcilers.errors import Blocked
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import a_tester


async def test_nobodys_conditions_are_read_again_before_something_was_written(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = store.conditions, 0

    async def counted(tester: str | None = None) -> tuple[Condition, ...]:
        nonlocal reads
        reads += 1
        return await read(tester)

    monkeypatch.setattr(store, "conditions", counted)

    async def refused() -> None:
        raise Blocked("no", system="Forge", reason=TOKEN_REFUSED)

    world: Any = SimpleNamespace(backends=SimpleNamespace(forge=SimpleNamespace(whoami=refused)))
    troubles = FleetTroubles(store, clock, wake=lambda _: None)
    await store.write(PutTester(a_tester("alice")))
    for _ in range(3):
        await troubles.look(world)
    assert reads == 1
    await store.write(
        PutCondition(
            Condition("alice", "Account", Status.FALSE, TOKEN_REFUSED, "", 1, clock.now(), blames="Forge", failures=1)
        )
    )
    await troubles.look(world)
    (told,) = [each for each in await read("") if each.type == CONDITION]
    assert (told.status, reads) == (Status.FALSE, 2)
    await troubles.look(world)
    assert reads == 3, "while somebody waits it is looked whether he still does"
