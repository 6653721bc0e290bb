"""The longest chain of waits that nobody can avoid, from the latencies of the world alone. Pure.

Only what the outside takes by itself is counted: the grid making a machine and finding its network, packages, downloads,
starts. Looking, planning, talking and writing down are ours, and count nothing. Installs on one machine run as many at
once as the Fleet allows, packed as well as they can be by somebody who knows beforehand how long each takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.simulator.catalogue import services_of
from examples.simulator.post import TAKES as MAIL_TAKES
from examples.simulator.world import FORGE_DELAY
from specs.catalogue import catalogue

SUPERVISOR, ROUTER, PROXY = "hero_proc", "hero_router", "hero_proxy"
READY = "letter"  # the last wait

Draws = Sequence[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Wait:
    """`seconds` that pass once everything in `needs` is over."""

    name: str
    seconds: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One install: it takes one of the places while it builds and starts, then `tail` passes until its service answers. What
    it needs must be over before it starts, not before it builds."""

    name: str
    build: float
    start: float
    tail: float
    needs: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.build + self.start


def ends(waits: Sequence[Wait]) -> dict[str, float]:
    """When each is over if nothing is lost in between; `waits` in an order in which needs come first."""
    known: dict[str, float] = {}
    for wait in waits:
        known[wait.name] = wait.seconds + max((known[need] for need in wait.needs), default=0.0)
    return known


def longest(waits: Sequence[Wait], last: str) -> tuple[Wait, ...]:
    """The chain that decides when `last` is over, from its beginning."""
    over, by_name = ends(waits), {wait.name: wait for wait in waits}
    chain = [by_name[last]]
    while chain[-1].needs:
        chain.append(by_name[max(chain[-1].needs, key=over.__getitem__)])
    return tuple(reversed(chain))


def shortest_schedule(jobs: Sequence[Job], places: int) -> float:
    """How long all jobs take at the least, with so many places: no order of them is quicker.

    Of what a job needs only the chain itself is counted, not the places that it holds meanwhile: never too long.
    """
    by_name = {job.name: job for job in jobs}

    def chain(job: Job) -> float:
        return job.start + max([job.build, *(chain(by_name[need]) for need in job.needs if need in by_name)])

    least = max((chain(job) + job.tail for job in jobs), default=0.0)
    # In one place, the longest tail first: no other order ends sooner.
    ordered = sorted(jobs, key=lambda job: job.tail, reverse=True)
    best = sum(job.seconds + job.tail for job in jobs)

    def place(index: int, loads: tuple[float, ...], end: float) -> None:
        nonlocal best
        if end >= best:
            return
        if index == len(ordered):
            best = end
            return
        job = ordered[index]
        for load in sorted(set(loads)):
            lane = loads.index(load)
            filled = load + job.seconds
            place(index + 1, (*loads[:lane], filled, *loads[lane + 1 :]), max(end, filled + job.tail))

    place(0, (0.0,) * places, 0.0)
    return max(least, best)


def waits_of(
    vm: Mapping[str, Any], gateway: Mapping[str, Any], jobs: Mapping[str, Job], restart: float, places: int
) -> list[Wait]:
    """The graph of one cold tester. `vm`, `gateway`: as the world's own books have them; the front door is among the installs
    that share the places, and may be the first of them."""
    front_door = [jobs[name] for name in (ROUTER, PROXY)]
    installs = [job for name, job in jobs.items() if name != SUPERVISOR]
    return [
        Wait("account", FORGE_DELAY),
        Wait("machine", vm["ready_at"] - vm["created_at"], ("account",)),
        Wait("address", vm["address_at"] - vm["ready_at"], ("machine",)),
        Wait("gateway", gateway["ready_at"] - gateway["created_at"], ("address",)),
        Wait("sign-in app", FORGE_DELAY, ("gateway",)),
        Wait("network", vm["reachable_at"] - vm["ready_at"], ("machine",)),
        Wait("packages", 40.0, ("network", "address")),
        Wait("lab", FORGE_DELAY, ("packages",)),
        Wait("hero_proc", jobs[SUPERVISOR].seconds, ("lab",)),
        Wait("front door", max(job.seconds for job in front_door), ("hero_proc",)),
        Wait("listener", restart, ("front door", "sign-in app")),
        Wait("components", shortest_schedule(installs, places), ("hero_proc",)),
        Wait(READY, MAIL_TAKES, ("components", "listener")),
    ]


def jobs_of(draws: Draws, machine: str, components: Sequence[str]) -> dict[str, Job]:
    """What each install and first start of a machine took, by component. Raises KeyError for one that never came."""
    installs, starts, colds = _by_kind(draws, machine)
    found = {}
    for name in components:
        services = (SUPERVISOR,) if name == SUPERVISOR else services_of(name)
        start = sum(starts[service][0] for service in services)
        tail = max((colds[service][0] for service in services if service in colds), default=0.0)
        found[name] = Job(name, installs[name], start, tail, tuple(catalogue()[name].needs))
    return found


def quickest_restart(draws: Draws, machine: str, service: str) -> float:
    """One restart after the first start is needed to open the door; it is charged at the quickest that was drawn."""
    return min(_by_kind(draws, machine)[1][service][1:], default=0.0)


def _by_kind(draws: Draws, machine: str) -> tuple[dict[str, float], dict[str, list[float]], dict[str, list[float]]]:
    """Installs by component; starts and cold starts by service, in the order in which they came."""
    installs: dict[str, float] = {}
    starts: dict[str, list[float]] = {}
    colds: dict[str, list[float]] = {}
    for what, seconds in draws:
        match what:
            case (_, name, command) if name == machine:
                verb, _, rest = command.partition(" ")
                subject = rest.split()[0]
                if verb == "install":
                    installs[subject] = seconds
                elif verb == "start":
                    starts.setdefault(subject, []).append(seconds)
            case (key, service, pid) if pid.isdigit() and not key.startswith("admin"):
                colds.setdefault(service, []).append(seconds)
    return installs, starts, colds
