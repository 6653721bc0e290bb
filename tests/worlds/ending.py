"""What stands at the end of a world, beside what the folder asks for: the simulator's own things, never what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from examples.simulator.invariants import open_doors, stale_tenants
from examples.simulator.records import Engine
from tests.worlds.edits import Asked
from tests.worlds.watch import Watch
from tests.worlds.watch_things import APP, GATEWAY, MACHINE, TENANT, Thing

ONE_OF_EACH = (MACHINE, GATEWAY, APP)


def wrong_at_the_end(watch: Watch, asked: Mapping[str, Asked]) -> list[str]:
    """Whoever is asked to be Ready has one of each thing, and a token at every engine; who is gone, or whose last day is over,
    nothing that our books do not tell somebody of. No door is open, and no engine goes by another list than it has."""
    world, things, whose = watch.rig.world, list(watch.things.standing()), watch.books.whose
    wrong = [*open_doors(world), *stale_tenants(world)]
    for name, wanted in asked.items():
        theirs = [
            thing for thing in things if whose(thing.step, thing.name) == name and not watch.things.is_told(thing, name)
        ]
        if wanted is Asked.READY:
            wrong += _lacking_or_doubled(watch, name, theirs)
        elif wanted in (Asked.GONE, Asked.EXPIRED):
            wrong += [f"{thing} of {name} is left over" for thing in theirs]
            accept = (engine.name for engine in world.state.engines if _accepts(engine, name, watch))
            wrong += [f"{engine} accepts a token of {name}" for engine in accept]
    return wrong


def _lacking_or_doubled(watch: Watch, name: str, theirs: list[Thing]) -> Iterator[str]:
    for step in ONE_OF_EACH:
        found = [thing for thing in theirs if thing.step == step]
        if len(found) != 1:
            yield f"{name} has {', '.join(map(str, found)) or 'none'} as {step}"
    wanted = sorted(engine.name for engine in watch.books.testers[name].desired.engines)
    if sorted(thing.where for thing in theirs if thing.step == TENANT) != wanted:
        yield f"{name} has tokens at other engines than {wanted}"


def _accepts(engine: Engine, name: str, watch: Watch) -> bool:
    return any(watch.books.whose(TENANT, tenant) == name for tenant in engine.accepted)
