"""Components × versions: who runs which version of what, beside the newest that is published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.records import TesterRecord
from controller.store.briefs import Brief
from controller.world import World
from reconcilers.facts import (
    ComponentsFacts,
    FrontDoorFacts,
    InstallLogsFacts,
    KeptLog,
    StepFacts,
    SupervisorFacts,
    WatchedFacts,
)
from reconcilers.installs import UNKNOWN_VERSION, jobs_of, same_version
from specs.catalogue import SUPERVISOR

PROXY, ROUTER = "hero_proxy", "hero_router"


@dataclass(frozen=True, slots=True)
class VersionCount:
    """Who runs one version, by name; `version` "" for those who have none yet."""

    version: str
    testers: tuple[str, ...]
    newest: bool


@dataclass(frozen=True, slots=True)
class ComponentBoard:
    """One component over all testers that should have it. `newest`: "" while Forge has not told."""

    name: str
    wanted: int
    pinned: int
    newest: str
    versions: tuple[VersionCount, ...]  # the most frequent first, "" last
    unwell: tuple[str, ...]  # where it does not answer, or its last install failed


def component_boards(every: Iterable[Brief], world: World | None) -> tuple[ComponentBoard, ...]:
    """By name."""
    staying = {each.record.name: each for each in every if not each.record.leaving}
    testers = [each.record for _, each in sorted(staying.items())]  # the books tell them in no order
    wanted: dict[str, list[TesterRecord]] = defaultdict(list)
    for tester in testers:
        for component in tester.desired.components:
            wanted[component.name].append(tester)
    versions = {each.name: versions_of(staying[each.name].facts) for each in testers}
    unwell = {each.name: in_trouble(each, staying[each.name].facts) for each in testers}
    return tuple(
        _board(name, wanted[name], versions, unwell, newest_of(world, wanted[name])) for name in sorted(wanted)
    )


def versions_of(facts: Mapping[str, StepFacts]) -> dict[str, str]:
    """What a tester's machine was last seen to run, by component."""
    found: dict[str, str] = {}
    for each in facts.values():
        match each:
            case SupervisorFacts(version=version):
                found[SUPERVISOR] = version
            case FrontDoorFacts(router=router, proxy=proxy):
                found |= {ROUTER: router, PROXY: proxy}
            case ComponentsFacts(versions=versions):
                found |= versions
            case _:
                pass
    return {name: version for name, version in found.items() if version}


def unwell_of(facts: Mapping[str, StepFacts]) -> frozenset[str]:
    """Services that run and do not answer."""
    return frozenset(name for each in facts.values() if isinstance(each, WatchedFacts) for name in each.unwell)


def failed_installs(facts: Mapping[str, StepFacts]) -> Mapping[str, KeptLog]:
    """Jobs that ended badly and were not seen to end well since."""
    logs = facts.get(InstallLogsFacts.step)
    return logs.kept if isinstance(logs, InstallLogsFacts) else {}


def in_trouble(tester: TesterRecord, facts: Mapping[str, StepFacts]) -> frozenset[str]:
    """Its components that run and do not answer, or whose last install ended badly."""
    unwell, failed, jobs = unwell_of(facts), failed_installs(facts), jobs_of(tester.desired)
    return frozenset(
        each.name
        for each in tester.desired.components
        if unwell & {each.name, *each.services} or jobs[each.name] in failed
    )


def newest_of(world: World | None, testers: list[TesterRecord]) -> Mapping[str, str]:
    """The newest published versions in the channel that most of them follow, as Forge told last; nobody is asked."""
    if world is None or not testers:
        return {}
    channels = [each.desired.channel for each in testers]
    return published(world, max(set(channels), key=lambda each: (channels.count(each), each)))


def published(world: World | None, channel: str) -> Mapping[str, str]:
    """Component → version, as Forge told last."""
    look = world.looks.at_hand(f"forge/releases/{channel}") if world is not None else None
    return {} if look is None else {name: release.name for name, release in look.value.newest.items()}


def _board(
    name: str,
    testers: list[TesterRecord],
    versions: Mapping[str, Mapping[str, str]],
    unwell: Mapping[str, frozenset[str]],
    newest: Mapping[str, str],
) -> ComponentBoard:
    there: dict[str, list[str]] = defaultdict(list)
    for tester in testers:
        there[versions[tester.name].get(name, "")].append(tester.name)
    best = newest.get(name, "")
    counts = [
        VersionCount(version, tuple(names), bool(best) and version != UNKNOWN_VERSION and same_version(version, best))
        for version, names in there.items()
    ]
    pinned = sum(any(each.name == name and each.version for each in tester.desired.components) for tester in testers)
    return ComponentBoard(
        name=name,
        wanted=len(testers),
        pinned=pinned,
        newest=best,
        versions=tuple(sorted(counts, key=lambda one: (one.version == "", -len(one.testers), one.version))),
        unwell=tuple(tester.name for tester in testers if name in unwell[tester.name]),
    )
