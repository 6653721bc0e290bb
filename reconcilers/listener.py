"""The listener of the front door: the port that the web gateway reaches. What sets it (S), and how it is shut.

hero_proxy reads the setting at its start only (S): after each change it must be restarted.

The gate opens and shuts it; the front door's step shuts it when the gateway had to be cut off and the gate cannot run.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconcilers.actions import Action, Disruption, FieldChange
from reconcilers.backends.machine import MachineAddress, Machines, SettingKey
from reconcilers.secret import Secret

PROXY = "hero_proxy"
LISTENER_KEY: SettingKey = ("core", "HERO_PROXY_SEED_GATEWAY_LISTENER")
LISTENER_ON, LISTENER_OFF = Secret("1"), Secret("0")

BEFORE_ANOTHER_VERSION: Mapping[str, Mapping[SettingKey, Secret]] = {PROXY: {LISTENER_KEY: LISTENER_OFF}}
"""By component, what its install writes before the new version starts. Nobody has seen what another hero_proxy lets in: it starts
with the door shut, also when no controller lives to look at it, and is opened when it has been proven."""


def shut_actions(*, set_open: bool, why: str) -> tuple[Action, ...]:
    """Listener off, and hero_proxy restarted so that it takes effect; before anything else."""
    off = Action(
        "shut",
        "listener of the front door",
        changes=(FieldChange("listener", "open", "shut"),),
        disruption=Disruption.REMOVE,
        consequences=("nobody reaches the machine through the gateway",),
        reason="DoorShut",
        why=why,
        urgent=True,
    )
    restart = Action(
        "restart_proxy",
        f"service {PROXY}",
        disruption=Disruption.RESTART,
        consequences=("the listener goes away",),
        reason="ServiceRestarted",
        why="" if set_open else why,
        urgent=True,
    )
    return (off, restart) if set_open else (restart,)


async def write_gate_settings(machines: Machines, address: MachineAddress, values: Mapping[SettingKey, Secret]) -> None:
    """Write what hero_proxy reads. Never as `owned`: what is owned and not among the spec's settings would be deleted.

    Raises Transient ReadBackMismatch when hero_proxy would read something else (lesson 20).
    """
    await machines.write_settings(address, values, dict.fromkeys(values, (PROXY,)), owned=False)
