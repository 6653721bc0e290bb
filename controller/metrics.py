"""How a controller stands at the moment at which it is asked, beside what it has counted; and when its loop is stuck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from controller.meters import PREFIX
from controller.queries import FleetSummary, Queries
from controller.queue import Standing
from controller.running import Controller
from controller.sightings import Sightings

STUCK: Final = timedelta(minutes=5)
"""So long nobody is taken up although somebody is due: no pass that goes on by itself holds up all the others so long."""

Sample = tuple[Mapping[str, str], float]


def is_stuck(queue: Standing) -> bool:
    """Whether the loop has stopped handing out testers. One that is slow with many is not stuck."""
    return queue.oldest_due >= STUCK and queue.handed_out >= STUCK


async def exposed(controller: Controller, ask: Queries) -> bytes:
    """In the text format of Prometheus. Raises StoreError."""
    summary, names = await ask.fleet(), (await ask.briefs()).keys()
    now = CollectorRegistry()
    now.register(_Now(tuple(_families(controller, summary, all_looked_at(controller.engine.sightings, names)))))
    return generate_latest(controller.engine.meters.registry) + generate_latest(now)


def all_looked_at(sightings: Sightings, names: Iterable[str]) -> datetime | None:
    """The moment since which every tester has been looked at in a whole pass; None: one has not, or there is none."""
    moments = [sightings.looked_at(name) for name in names]
    known = [at for at in moments if at is not None]
    return min(known) if known and len(known) == len(moments) else None


def _families(controller: Controller, fleet: FleetSummary, all_at: datetime | None) -> Iterator[Metric]:
    engine, now = controller.engine, controller.clock.now()
    queue, source = engine.queue.standing(), fleet.source
    yield _gauge("testers", "Testers by phase", [({"phase": phase}, count) for phase, count in fleet.phases.items()])
    yield _one("queue_depth", "Testers that are due and wait for a pass", queue.due)
    yield _one("queue_oldest_seconds", "How long the first of them has been due", queue.oldest_due.total_seconds())
    yield _one("queue_later", "Testers whose next look is not due", queue.later)
    yield _one("passes_under_way", "Testers that are being looked at", queue.working)
    longest = queue.longest[1] if queue.longest is not None else timedelta(0)
    yield _one("longest_pass_seconds", "How long the longest pass under way has lasted", longest.total_seconds())
    yield _one("stuck", "Whether testers are due and nobody is taken up", engine.world is not None and is_stuck(queue))
    yield _at("last_pass_timestamp_seconds", "When a pass ended last", engine.meters.last_pass_at)
    yield _at("last_full_pass_timestamp_seconds", "Since when every tester was looked at in a whole pass", all_at)
    yield _one("source_readable", "Whether the source of specs can be read", source is not None and source.readable)
    yield _one("source_errors", "What is wrong with the specs", len(source.errors) if source is not None else 0)
    good = fleet.good_at or (source.read_at if source is not None and source.readable else None)
    age: list[Sample] = [({}, max(0.0, (now - good).total_seconds()))] if good is not None else []
    yield _gauge("source_age_seconds", "How long ago the source was last read without an error", age)
    yield _one("needs_fleet", "What is wrong with the fleet itself", len(fleet.troubles))


def _one(name: str, words: str, value: float) -> Metric:
    return _gauge(name, words, [({}, value)])


def _at(name: str, words: str, moment: datetime | None) -> Metric:
    """Without a value while it is not known: 0 would be a lie."""
    return _gauge(name, words, [({}, moment.timestamp())] if moment is not None else [])


def _gauge(name: str, words: str, samples: Iterable[Sample]) -> Metric:
    every = list(samples)
    labels = tuple(every[0][0]) if every else ()
    family = GaugeMetricFamily(f"{PREFIX}_{name}", words, labels=labels)
    for told, value in every:
        family.add_metric([told[label] for label in labels], float(value))
    return family


class _Now(Collector):
    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
