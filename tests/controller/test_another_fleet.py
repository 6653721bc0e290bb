"""Another Fleet: who is looked at, and when. (What connections come to: `tests/backends/test_machine_kept.py`.)"""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.records import PutTester
from specs.fleet import Fleet
from tests.controller.fakes import FLEET, OTHER_FLEET, Rig, a_tester, record_of
from tests.controller.test_engine import a_revision, one

__all__ = ["one"]


@pytest.mark.parametrize(
    ("count", "resync", "within"), [(50, "5m", 2.0), (300, "5m", 6.0), (300, "3s", 3.0)], ids=["few", "many", "often"]
)
async def test_after_another_fleet_everybody_is_looked_at_over_a_time_that_grows_with_their_number(
    one: Rig, count: int, resync: str, within: float
) -> None:
    await one.engine.adopt(FLEET)
    await one.store.write(*(PutTester(record_of(a_tester(f"t{number}"), uid=f"u{number}")) for number in range(count)))
    timing = {**FLEET.spec.timing.model_dump(mode="json"), "resync": resync}
    document = FLEET.model_dump(mode="json", by_alias=True)
    await one.engine.adopt(Fleet.model_validate({**document, "spec": {**document["spec"], "timing": timing}}))
    due = []
    for _ in range(10):
        one.clock.pass_by(timedelta(seconds=within / 10))
        due.append(one.engine.queue.depth())
    assert due[-1] == count
    assert all(abs(so_far - count * tenths / 10) < count / 4 for tenths, so_far in enumerate(due, start=1))


async def test_who_changes_with_another_fleet_waits_for_nobody(one: Rig) -> None:
    """Of the others nothing is taken away: so many removals are held back."""
    await one.engine.adopt(FLEET)
    await one.store.write(*(PutTester(record_of(a_tester(f"t{number}"), uid=f"u{number}")) for number in range(300)))
    await one.engine.take_in(a_revision("alice", fleet=OTHER_FLEET))
    assert one.engine.queue.depth() == 1
    assert await one.engine.queue.get() == "alice"
