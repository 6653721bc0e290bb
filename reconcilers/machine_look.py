"""What a pass wants to know of a machine: one question for all the steps that live there, so that one round trip answers.

The question derives from the desired state and the recorded facts alone. Every step asks the same one, and the shared
look answers it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from reconcilers.backends.machine import MachineAddress, MachineLook, MachineQuery
from reconcilers.backends.probes import Probe
from reconcilers.contract import TesterView
from reconcilers.errors import Transient
from reconcilers.facts import Facts, GatewayFacts, MachineAccessFacts, MachineFacts
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.looks import TesterLooks
from reconcilers.proof import FOREIGN_HOST, demands
from specs.desired import DesiredTester
from specs.ownership import GATE_SETTINGS

WHETHER_LISTENING = Probe("inner", FOREIGN_HOST, "/")
"""Any answer to it means that the listener is on. Asked in every look."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A machine at a moment (UTC, by our clock)."""

    at: datetime
    look: MachineLook = field(default_factory=lambda: MachineLook(host_key=""))


def machine_address(facts: Facts) -> MachineAddress:
    """Where the tester's machine is reached, and the host key that it must show, once one is pinned."""
    machine = facts.need(MachineFacts)
    access = facts.get(MachineAccessFacts)
    return MachineAddress(
        key=machine.key,
        host=machine.address,
        user=facts.fleet.spec.installer.user,
        host_key=access.host_key if access else None,
    )


def machine_system(facts: Facts) -> str:
    """How errors and waits name the machine."""
    return f"machine of {facts.tester}"


def machine_query(desired: DesiredTester, facts: Facts) -> MachineQuery:
    """Everything that the steps of a pass want to know. Pure; equal inputs ask the same question."""
    settings = {(setting.context, setting.key) for setting in desired.settings}
    return MachineQuery(
        components=tuple(component.name for component in desired.components),
        health=tuple(component.health for component in desired.components if component.health),
        secrets=tuple(sorted(settings | GATE_SETTINGS)),
        probes=_probes(desired, facts),
    )


def _probes(desired: DesiredTester, facts: Facts) -> tuple[Probe, ...]:
    gateway = facts.get(GatewayFacts)
    if gateway is None:
        return (WHETHER_LISTENING,)
    asked = demands(gateway.fqdn, desired)
    return tuple(Probe(side, each.host, each.path) for side in ("loopback", "inner") for each in asked)


def is_listening(look: MachineLook) -> bool:
    """The port that the gateway reaches is open: set to be, seen to be, or not known to have been closed by a restart."""
    answer = look.probes.get(WHETHER_LISTENING)
    seen = answer is not None and answer.status is not None
    return seen or look.secrets.get(LISTENER_KEY) == LISTENER_ON


async def look_at(tester: TesterView, looks: TesterLooks) -> MachineLook:
    """One look at the tester's machine. Raises Unreachable, Transient, Blocked (HostKeyChanged)."""
    looks.query = machine_query(tester.desired, tester.facts)
    return await looks.machine(machine_address(tester.facts))


async def look_supervised(tester: TesterView, looks: TesterLooks) -> Seen:
    """As `look_at`, for steps that can say nothing while hero_proc does not answer. Raises Transient SupervisorDown then."""
    at = looks.now()
    look = await look_at(tester, looks)
    if not look.supervisor_up:
        raise Transient(
            "hero_proc does not answer: services and settings cannot be read until it does",
            system=machine_system(tester.facts),
            reason="SupervisorDown",
        )
    return Seen(at, look)
