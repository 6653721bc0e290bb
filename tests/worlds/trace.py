"""What happened in a world, as text: the world's request log, the controller's events and its journal, by virtual time."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.store import Store
from examples.simulator.world import World

MOST = 1_000_000


async def trace_of(world: World, store: Store, begun: datetime) -> str:
    """One line each: `+seconds kind …`. Neither the log nor the books hold a secret in clear."""
    start = begun.timestamp()
    lines = [
        (
            entry.time - start,
            0,
            entry.number,
            f"call  {entry.system} {entry.method} {entry.what} by {entry.who} → {entry.status}",
        )
        for entry in world.log
    ]
    lines += [
        (_since(event.at, begun), 1, event.id, f"event {event.tester} {event.step} {event.reason}: {event.message}")
        for event in await store.events(limit=MOST)
    ]
    journal = reversed(await store.journal(limit=MOST))
    lines += [
        (
            _since(entry.began_at, begun),
            2,
            number,
            f"wrote {entry.tester} {entry.step} {entry.verb} {entry.target} {entry.outcome} {entry.id} {entry.detail}",
        )
        for number, entry in enumerate(journal)
    ]
    return "".join(f"+{seconds:.3f} {text}\n" for seconds, _, _, text in sorted(lines))


def _since(moment: datetime, begun: datetime) -> float:
    return (moment - begun) / timedelta(seconds=1)
