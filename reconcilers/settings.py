"""Every hero_proc secret that is ours, except what the gate keeps: written, read back, watched for drift (lessons 6, 26, 27)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconcilers.actions import Action, Disruption, FieldChange, Step
from reconcilers.backends import Backends
from reconcilers.backends.machine import MachineLook, SettingKey
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import Facts, SettingsFacts
from reconcilers.installs import RUNNING
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, look_supervised, machine_address
from reconcilers.secret import HIDDEN, Secret
from specs.desired import DesiredSetting, DesiredTester
from specs.ownership import GATE_SETTINGS

GATES_OWN = "hero_proxy"  # its restarts belong to the sign-in gate, which proves the door afterwards
_SHOWN = 120  # characters of a value in a plan


class SettingsReconciler(Base):
    """Keeps the settings. What others wrote stays; what we wrote and is no longer asked for goes."""

    name = "settings"
    needs: tuple[str, ...] = ("supervisor",)

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient."""
        return await look_supervised(tester, looks)

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Write, delete, restart the readers. Goes with the machine.

        Raises Blocked SecretMissing (lesson 37), but only when all else is in order, so that one missing key holds up no
        other. A preview says it at once.
        """
        if desired is None:
            return ()
        look = observed.look if observed else MachineLook(host_key="")
        held = {setting: _value(setting, facts) for setting in desired.settings}
        drifted = [
            each for each, value in held.items() if value is not None and look.secrets.get(_place(each)) != value
        ]
        wanted = {_place(setting) for setting in desired.settings}
        steps = (
            *_write(drifted, look.secrets),
            *_delete(sorted(look.owned_settings - wanted - GATE_SETTINGS)),
            *_restarts(look.stale, look.services),
        )
        if not steps or observed is None:
            _demand_secrets((each for each, value in held.items() if value is None), facts)
        return steps

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Raises Transient ReadBackMismatch when the machine reads something else than was written (lesson 30)."""
        machines, address = self.backends.machines, machine_address(tester.facts)
        if action.verb == "restart":
            await machines.restart_service(address, action.args[0])
        elif action.verb == "delete":
            await machines.delete_settings(address, [_parse(each) for each in action.args], {})
        else:
            chosen = [each for each in tester.desired.settings if _shown(_place(each)) in action.args]
            values = {_place(each): _value(each, tester.facts) for each in chosen}
            readers = {_place(each): each.readers for each in chosen}
            known = {place: value for place, value in values.items() if value is not None}
            await machines.write_settings(address, known, readers, owned=True)
        return None

    def learn(self, observed: Seen, facts: Facts) -> SettingsFacts:
        return SettingsFacts(written=len(observed.look.owned_settings))


def _place(setting: DesiredSetting) -> SettingKey:
    return setting.context, setting.key


def _shown(place: SettingKey) -> str:
    return "/".join(place)


def _parse(shown: str) -> SettingKey:
    context, _, key = shown.partition("/")
    return context, key


def _value(setting: DesiredSetting, facts: Facts) -> Secret | None:
    """None: it is kept elsewhere, and nobody holds it."""
    if setting.value is not None:
        return Secret(setting.value)
    return facts.secrets.get(setting.secret) if setting.secret is not None else None


def _demand_secrets(missing: Iterable[DesiredSetting], facts: Facts) -> None:
    lines = [f"{each.secret!r} for {each.key} ({each.origin})" for each in missing]
    if lines:
        raise Blocked(
            f"nobody holds {', '.join(lines)}: set it (an `env:` variable, a `file:`, or a name in the sealed store), "
            "or take it out of the spec",
            system="secrets",
            reason="SecretMissing",
        )


def _write(drifted: list[DesiredSetting], there: Mapping[SettingKey, Secret]) -> tuple[Action, ...]:
    if not drifted:
        return ()
    readers = tuple(dict.fromkeys(reader for each in drifted for reader in each.readers))
    return (
        Action(
            "write",
            "settings",
            changes=tuple(_change(each, there.get(_place(each))) for each in drifted),
            disruption=Disruption.RESTART if readers else Disruption.NONE,
            consequences=tuple(f"{reader} restarts if it runs" for reader in readers),
            args=tuple(_shown(_place(each)) for each in drifted),
            reason="SettingsWritten",
        ),
    )


def _change(setting: DesiredSetting, now: Secret | None) -> FieldChange:
    """Values of settings that are written in clear are shown, secrets never."""
    path = f"settings.{_shown(_place(setting))}"
    if setting.value is None:
        return FieldChange(path, HIDDEN if now is not None else None, HIDDEN)
    return FieldChange(path, _text(now), setting.value[:_SHOWN])


def _text(value: Secret | None) -> str | None:
    if value is None:
        return None
    try:
        return value.text()[:_SHOWN]
    except ValueError:
        return HIDDEN


def _delete(places: list[SettingKey]) -> tuple[Action, ...]:
    if not places:
        return ()
    return (
        Action(
            "delete",
            "settings",
            changes=tuple(FieldChange(f"settings.{_shown(place)}", HIDDEN, None) for place in places),
            args=tuple(_shown(place) for place in places),
            reason="SettingsDeleted",
        ),
    )


def _restarts(stale: frozenset[str], services: Mapping[str, str]) -> tuple[Action, ...]:
    """Services that run on values which were changed since they started."""
    return tuple(
        Action(
            "restart",
            f"service {service}",
            disruption=Disruption.RESTART,
            consequences=("it reads its changed settings",),
            args=(service,),
            reason="ServiceRestarted",
        )
        for service in sorted(stale)
        if service != GATES_OWN and services.get(service) == RUNNING
    )
