"""Every hero_proc secret that is ours, except what the gate keeps: written, read back, watched for drift (lessons 6, 26, 27)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconcilers.actions import INSTALLING, Action, Disruption, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.machine import JobState, MachineLook, SettingKey, install_job
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import Facts, SettingsFacts
from reconcilers.installs import RUNNING
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, look_supervised, machine_address, machine_system
from reconcilers.secret import HIDDEN, Secret
from reconcilers.wanted_settings import (
    WantedSetting,
    is_shared_key,
    mark_of,
    parse_place,
    provider_places,
    readers_of_gone,
    shown_place,
    wanted_settings,
)
from specs.catalogue import owner_of
from specs.desired import DesiredTester
from specs.ownership import GATE_SETTINGS

GATES_OWN = "hero_proxy"  # its restarts belong to the sign-in gate, which proves the door afterwards
_SHOWN = 120  # characters of a value in a plan


class SettingsReconciler(Base):
    """Keeps the settings. What others wrote stays; what we wrote and is no longer asked for goes."""

    name = "settings"
    needs: tuple[str, ...] = ("supervisor", "engine_access")

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient."""
        return await look_supervised(tester, looks)

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Write, delete, restart the readers. Goes with the machine.

        Raises Blocked SecretMissing (lesson 37), but only when all else is in order, so that one missing key holds up no
        other. A preview says it at once. An engine's token that is not made yet holds up nothing.
        """
        if desired is None:
            return ()
        look = observed.look if observed else MachineLook(host_key="")
        wanted = wanted_settings(desired, facts)
        drifted = [each for each in wanted if each.value is not None and look.secrets.get(each.place) != each.value]
        if observed is None:
            drifted += [each for each in wanted if each.value is None and not each.demanded]
        restarts, later = _restarts(look)
        steps: tuple[Step, ...] = (
            *_write(drifted, look.secrets),
            *_delete(_no_longer_wanted(desired, look, facts), desired),
            *restarts,
        )
        if not steps or observed is None:
            _demand_secrets([each for each in wanted if each.value is None and each.demanded])
        return steps or _wait_for(later, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Raises Transient ReadBackMismatch when the machine reads something else than was written (lesson 30)."""
        machines, address = self.backends.machines, machine_address(tester.facts)
        if action.verb == "restart":
            await machines.restart_service(address, action.args[0])
        elif action.verb == "delete":
            places = [parse_place(each) for each in action.args]
            readers = {place: readers_of_gone(place, tester.desired) for place in places}
            await machines.delete_settings(address, places, readers)
        else:
            chosen = [
                each for each in wanted_settings(tester.desired, tester.facts) if shown_place(each.place) in action.args
            ]
            readers = {each.place: each.readers for each in chosen}
            known = {each.place: each.value for each in chosen if each.value is not None}
            await machines.write_settings(address, known, readers, owned=True)
        return None

    def learn(self, observed: Seen, facts: Facts) -> SettingsFacts:
        """How many are ours; and which providers' keys there are ones that we hold, so that a tester's own is told apart."""
        look = observed.look
        known = facts.get(SettingsFacts) or SettingsFacts()
        held = set(facts.secrets.values())
        handed = {}
        for place in provider_places(facts.fleet) & look.owned_settings:
            value, shown = look.secrets.get(place), shown_place(place)
            mark = mark_of(value, place, facts) if value is not None else ""
            if mark and (value in held or known.handed.get(shown) == mark):
                handed[shown] = mark
        return SettingsFacts(written=len(look.owned_settings), handed=dict(sorted(handed.items())))

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """SharedKeysHandedOut: keys of the fleet that a determined tester can read on this machine (lesson 46)."""
        shared = [each.key for each in desired.settings if is_shared_key(each, facts.fleet)]
        if not shared:
            return ()
        text = f"{', '.join(shared)}: the fleet's own, which a determined tester can read on the machine"
        return (Finding("SharedKeysHandedOut", True, "DefaultKey", text),)


def _no_longer_wanted(desired: DesiredTester, look: MachineLook, facts: Facts) -> list[SettingKey]:
    """Ours, and no longer asked for. A provider's key goes only while it is the very one that we wrote: any other is the
    tester's own, which is never touched."""
    wanted = {each.place for each in wanted_settings(desired, facts)}
    known = facts.get(SettingsFacts)
    handed = known.handed if known else {}

    def is_ours(place: SettingKey) -> bool:
        value = look.secrets.get(place)
        return value is not None and handed.get(shown_place(place)) == mark_of(value, place, facts)

    keys = provider_places(facts.fleet)
    gone = look.owned_settings - wanted - GATE_SETTINGS
    return sorted(place for place in gone if place not in keys or is_ours(place))


def _demand_secrets(missing: Iterable[WantedSetting]) -> None:
    lines = [f"{each.reference!r} for {each.place[1]} ({each.origin})" for each in missing]
    if lines:
        raise Blocked(
            f"nobody holds {', '.join(lines)}: set it (an `env:` variable, a `file:`, or a name in the sealed store), "
            "or take it out of the spec",
            system="secrets",
            reason="SecretMissing",
        )


def _write(drifted: list[WantedSetting], there: Mapping[SettingKey, Secret]) -> tuple[Action, ...]:
    if not drifted:
        return ()
    readers = tuple(dict.fromkeys(reader for each in drifted for reader in each.readers))
    warnings = tuple(each.warning for each in drifted if each.warning)
    return (
        Action(
            "write",
            "settings",
            changes=tuple(_change(each, there.get(each.place)) for each in drifted),
            disruption=Disruption.RESTART if readers else Disruption.NONE,
            consequences=(*(f"{reader} restarts if it runs" for reader in readers), *warnings),
            args=tuple(shown_place(each.place) for each in drifted),
            reason="SettingsWritten",
        ),
    )


def _change(setting: WantedSetting, now: Secret | None) -> FieldChange:
    """Values of settings that are written in clear are shown, secrets never."""
    path = f"settings.{shown_place(setting.place)}"
    if setting.clear is None:
        return FieldChange(path, HIDDEN if now is not None else None, HIDDEN)
    return FieldChange(path, _text(now), setting.clear[:_SHOWN])


def _text(value: Secret | None) -> str | None:
    if value is None:
        return None
    try:
        return value.text()[:_SHOWN]
    except ValueError:
        return HIDDEN


def _delete(places: list[SettingKey], desired: DesiredTester) -> tuple[Action, ...]:
    if not places:
        return ()
    readers = tuple(dict.fromkeys(reader for place in places for reader in readers_of_gone(place, desired)))
    return (
        Action(
            "delete",
            "settings",
            changes=tuple(FieldChange(f"settings.{shown_place(place)}", HIDDEN, None) for place in places),
            disruption=Disruption.RESTART if readers else Disruption.NONE,
            consequences=tuple(f"{reader} restarts if it runs" for reader in readers),
            args=tuple(shown_place(place) for place in places),
            reason="SettingsDeleted",
        ),
    )


def _restarts(look: MachineLook) -> tuple[tuple[Action, ...], tuple[str, ...]]:
    """Services that run on values which were changed since they started; apart from them those whose component is being
    installed just now: the install must not find its service stopped half-way."""
    due = [each for each in sorted(look.stale) if each != GATES_OWN and look.services.get(each) == RUNNING]
    later = tuple(service for service in due if _is_being_installed(service, look))
    actions = tuple(
        Action(
            "restart",
            f"service {service}",
            disruption=Disruption.RESTART,
            consequences=("it reads its changed settings",),
            args=(service,),
            reason="ServiceRestarted",
        )
        for service in due
        if service not in later
    )
    return actions, later


def _is_being_installed(service: str, look: MachineLook) -> bool:
    job = look.jobs.get(install_job(owner_of(service)))
    return job is not None and job.state is JobState.RUNNING


def _wait_for(later: tuple[str, ...], facts: Facts) -> tuple[Wait, ...]:
    if not later:
        return ()
    text = f"{', '.join(later)} reads its changed settings when its install has ended"
    return (Wait(INSTALLING, text, facts.fleet.spec.timing.install_limit, blames=machine_system(facts)),)
