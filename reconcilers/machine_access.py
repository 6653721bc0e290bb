"""SSH into the machine: reachable, its host key pinned, exactly the right authorised keys (lesson 5)."""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers.actions import Action, FieldChange, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.machine import MachineLook
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Unreachable
from reconcilers.facts import Facts, MachineAccessFacts
from reconcilers.installer_key import installer_public_key
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import look_at, machine_address
from specs.desired import DesiredTester
from specs.ssh_keys import key_identity


@dataclass(frozen=True, slots=True)
class SeenAccess:
    """What a look over SSH showed; None: nobody answered, which is a state like any other (lesson 10)."""

    look: MachineLook | None

    @property
    def reachable(self) -> bool:
        return self.look is not None


class MachineAccessReconciler(Base):
    """Waits for the network as long as it takes, visibly, and keeps the authorised keys exact."""

    name = "machine_access"
    needs: tuple[str, ...] = ("machine",)

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenAccess:
        """Raises Transient (LoginRefused), Blocked (HostKeyChanged)."""
        try:
            return SeenAccess(await look_at(tester, looks))
        except Unreachable:
            return SeenAccess(None)

    def plan(self, desired: DesiredTester | None, observed: SeenAccess | None, facts: Facts) -> tuple[Step, ...]:
        """Wait for the network, or set the keys. Goes with the machine. Raises Blocked InstallerKeyUnusable."""
        if desired is None or observed is None:
            return ()
        if observed.look is None:
            return (
                Wait(
                    "WaitingForNetwork",
                    "the machine runs, and cannot be reached over Mycelium yet",
                    facts.fleet.spec.timing.reachable_limit,
                    blames="the grid's network",
                ),
            )
        changes = _differences(observed.look.authorized_keys, _wanted(desired, facts))
        if not changes:
            return ()
        return (Action("set_keys", "authorised keys", changes=changes, reason="AuthorizedKeysSet"),)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenAccess | None:
        keys = _wanted(tester.desired, tester.facts)
        await self.backends.machines.set_authorized_keys(machine_address(tester.facts), keys)
        return None

    def learn(self, observed: SeenAccess, facts: Facts) -> MachineAccessFacts | None:
        """The host key, pinned at the first contact and never changed afterwards: a new machine brings new facts."""
        if observed.look is None:
            return None
        return facts.get(MachineAccessFacts) or MachineAccessFacts(host_key=observed.look.host_key)


def _wanted(desired: DesiredTester, facts: Facts) -> tuple[str, ...]:
    """The spec's keys and the installer's; no key twice."""
    keys = {key_identity(key): key for key in (*desired.ssh_keys, installer_public_key(facts))}
    return tuple(keys.values())


def _differences(there: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[FieldChange, ...]:
    """By type and data. A line with options before the key is not that key: it allows something else."""
    have = {
        key_identity(" ".join(line.split())): line
        for line in there
        if line.strip() and not line.lstrip().startswith("#")
    }
    want = {key_identity(key): key for key in wanted}
    gone = [FieldChange("authorizedKeys", _short(have[key]), None) for key in have if key not in want]
    new = [FieldChange("authorizedKeys", None, _short(want[key])) for key in want if key not in have]
    return (*gone, *new)


def _short(line: str) -> str:
    """Enough of a public key to know it by: its type, the end of its data, its comment."""
    kind, _, rest = line.partition(" ")
    data, _, comment = rest.partition(" ")
    return f"{kind} …{data[-12:]} {comment}".strip()[:120]
