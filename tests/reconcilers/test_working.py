"""Components that live and do not work: seen by a request that only a working app answers, and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from examples.simulator.drift import Drift
from reconcilers.actions import Action
from reconcilers.repairs import FIRST_PATIENCE
from tests.reconcilers.conftest import Lives

SET = {"demo": ["hero_db", "hero_books", "hero_agent"]}
TO_COMPONENTS = ("account", "machine", "machine_access", "supervisor", "front_door", "engine_access", "settings")


async def test_books_and_the_assistant_are_asked_for_their_work(lives: Lives) -> None:
    life = lives(componentSets=SET)
    await life.converge(*TO_COMPONENTS, "components")
    fine = (await life.findings("components"))["ComponentsHealthy"]
    assert fine.status is True
    assert "seen to work: hero_agent, hero_books, hero_cockpit" in _sorted(fine.message)

    Drift(life.world).break_service(life.vm, "hero_books")
    seen: Any = await life.seen("components")
    assert (seen.look.services["hero_books"], seen.look.health["hero_books"]) == ("running", 200)
    told = (await life.findings("components"))["ComponentsHealthy"]
    assert told.status is False
    assert "hero_books lives, but /hero_books/api/libraries answers with 500" in told.message
    assert "hero_agent" not in told.message

    later = replace(seen, at=seen.at + FIRST_PATIENCE + timedelta(seconds=1))
    (restart,) = life.planned("components", later)
    assert isinstance(restart, Action)
    assert (restart.verb, restart.args[0]) == ("restart", "hero_books")
    await life.perform("components", restart)
    Drift(life.world).break_service(life.vm, "hero_books", works=True)
    await life.settle("components")
    assert (await life.findings("components"))["ComponentsHealthy"].status is True


def _sorted(message: str) -> str:
    """The names at the end, in the order of the alphabet."""
    head, _, names = message.rpartition(": ")
    return f"{head}: {', '.join(sorted(names.split(', ')))}"
