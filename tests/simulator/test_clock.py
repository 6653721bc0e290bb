"""The world's clock."""

from typing import TYPE_CHECKING

from examples.simulator.clock import WORLD_BEGINS, WorldClock

if TYPE_CHECKING:
    from tests.simulator.conftest import Virtually


def test_runs_at_its_speed(virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock = WorldClock(speed=60)
        assert clock.now() == WORLD_BEGINS
        await clock.sleep(3600)
        assert clock.now() == WORLD_BEGINS + 3600

    virtually(scenario())


def test_goes_on_from_a_saved_moment(virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock = WorldClock(start=500.0)
        assert clock.now() == 500.0
        await clock.sleep_until(700.0)
        assert clock.now() == 700.0
        await clock.sleep_until(600.0)
        assert clock.now() == 700.0

    virtually(scenario())
