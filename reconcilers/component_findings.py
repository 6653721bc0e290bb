"""What people are told about the components of a machine: how they are, what is newer, what is not ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconcilers.actions import Finding
from reconcilers.backends.machine import install_job
from reconcilers.facts import Facts, InstallLogsFacts, MachineFacts
from reconcilers.installs import UNKNOWN_VERSION, Standing, State, ended_badly, knows_not, same_version
from reconcilers.machine_look import Seen
from specs.catalogue import SUPERVISOR, catalogue
from specs.desired import DesiredComponent, DesiredTester

_TROUBLE = frozenset({Standing.FAILED, Standing.BROKEN, Standing.UNWELL})
_KEY = "_API_KEY"  # how the settings of AI providers' keys end (A)


def component_findings(
    desired: DesiredTester, observed: Seen, states: Sequence[State], facts: Facts
) -> tuple[Finding, ...]:
    """ComponentsHealthy always; UpdateAvailable once Forge has told; TestersOwnComponents when there are any."""
    return (
        _healthy(desired, [_as_last_seen(state, facts) for state in states], observed),
        *_update_available(desired, observed),
        *_testers_own(desired, observed),
    )


def _healthy(desired: DesiredTester, states: Sequence[State], observed: Seen) -> Finding:
    """Names each component that is in trouble, with the last words of its log; else those that are seen to do their work."""
    kind = "ComponentsHealthy"
    trouble = [state for state in states if state.standing in _TROUBLE]
    if trouble:
        words = "; ".join(f"{state.name}: {state.detail}{_hint(state, desired)}" for state in trouble)
        return Finding(kind, False, "ComponentFailing", words)
    under_way = [state.name for state in states if state.standing is not Standing.WELL]
    if under_way:
        return Finding(kind, None, "Installing", f"not there yet: {', '.join(under_way)}")
    asked = [state for state in states if state.component.sends]
    untold = [state.name for state in asked if knows_not(state.component, observed.look)]
    working = [state.name for state in asked if state.name not in untold]
    also = f"; seen to work: {', '.join(working)}" if working else ""
    also += f"; unknown whether they work, as they do not know our request: {', '.join(untold)}" if untold else ""
    return Finding(kind, True, "AllHealthy", f"all {len(states)} components answer{also}")


def _as_last_seen(state: State, facts: Facts) -> State:
    """What has failed and is being tried again has failed, until it is seen to end well: whoever looks in between is told too."""
    logs, machine = facts.get(InstallLogsFacts), facts.get(MachineFacts)
    kept = logs.kept.get(install_job(state.name)) if logs else None
    if state.standing is not Standing.INSTALLING or kept is None or machine is None:
        return state
    if (kept.machine, kept.wanted) != (machine.key, state.component.version or ""):
        return state  # what is under way now is something else
    detail = f"{ended_badly(kept.state, kept.log)}; it is being tried again"
    return replace(state, standing=Standing.FAILED, detail=detail)


def _hint(state: State, desired: DesiredTester) -> str:
    """A component that reads AI keys of which the spec gives none (lesson 35)."""
    known = catalogue().get(state.name)
    keys = (
        [key for key in known.settings if key.endswith(_KEY)] if known and state.standing is not Standing.UNWELL else []
    )
    given = {each.key for each in desired.settings} | {key for _, key in desired.foreign_settings}
    if not keys or given & set(keys):
        return ""
    return f" (it reads {' or '.join(keys)}, and the spec gives it none: see keys.providers)"


def _update_available(desired: DesiredTester, observed: Seen) -> tuple[Finding, ...]:
    """Against what runs. A pinned component is not waiting for anything; it is only mentioned."""
    if not observed.newest:
        return ()
    newer = [each for each in desired.components if _is_newer(each, observed)]
    free = _in_words([each for each in newer if each.version is None], observed)
    held = _in_words([each for each in newer if each.version is not None], observed)
    also = f"; pinned: {held}" if held else ""
    if not free:
        return (
            Finding("UpdateAvailable", False, "UpToDate", f"nothing newer is published in {desired.channel}{also}"),
        )
    return (Finding("UpdateAvailable", True, "NewerPublished", f"{free}{_what_happens(desired, newer)}{also}"),)


def _is_newer(component: DesiredComponent, observed: Seen) -> bool:
    there, newest = observed.look.versions.get(component.name), observed.newest.get(component.name)
    return there is not None and newest is not None and not same_version(there, newest)


def _in_words(components: Sequence[DesiredComponent], observed: Seen) -> str:
    versions: Mapping[str, str | None] = observed.look.versions
    return ", ".join(f"{each.name} {versions[each.name]} → {observed.newest[each.name]}" for each in components)


def _what_happens(desired: DesiredTester, newer: Sequence[DesiredComponent]) -> str:
    if desired.updates == "notify":
        return "; not installed by itself (version.updates: notify)"
    if any(each.name == SUPERVISOR and each.version is None for each in newer):
        return f"; {SUPERVISOR} is updated only by a pin, as everything on the machine stops with it"
    return ""


def _testers_own(desired: DesiredTester, observed: Seen) -> tuple[Finding, ...]:
    """What testers installed from their cockpit: shown, and left alone."""
    look = observed.look
    ours = {each.name for each in desired.components} | look.owned_components
    known_services = {service for each in desired.components for service in each.services}
    known_services |= {service for each in catalogue().values() for service in each.services} | {SUPERVISOR}
    own = {name: version or UNKNOWN_VERSION for name, version in look.versions.items() if name not in ours}
    own |= {service: UNKNOWN_VERSION for service in look.services if service not in known_services | ours}
    if not own:
        return ()
    words = ", ".join(f"{name} {version}" for name, version in sorted(own.items()))
    return (Finding("TestersOwnComponents", True, "LeftAlone", f"installed by the tester, and left alone: {words}"),)
