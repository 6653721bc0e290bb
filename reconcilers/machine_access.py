"""SSH into the machine: reachable, its host key pinned, exactly the right authorised keys (lesson 5).

A removed tester's machine may be kept for a while, and her own keys go from it at once: what stays are the admins' and
the installer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from reconcilers.account_keys import account_keys, key_page
from reconcilers.actions import Action, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.machine import MachineLook
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import OutsideError, Unreachable
from reconcilers.facts import AccountFacts, Facts, MachineAccessFacts, MachineFacts
from reconcilers.installer_key import installer_public_key
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import look_at, machine_address
from specs.desired import DesiredTester
from specs.ssh_keys import key_identity

TRIED_EVERY = timedelta(minutes=2)
"""How often a removed tester's machine is tried that is kept and does not answer."""


@dataclass(frozen=True, slots=True)
class SeenAccess:
    """What a look over SSH showed; None: nobody answered, which is a state like any other (lesson 10).

    own_keys  those that the account has on Forge, if the spec asks for one; None: Forge does not tell now
    """

    look: MachineLook | None
    own_keys: tuple[str, ...] | None = ()

    @property
    def reachable(self) -> bool:
        return self.look is not None


class MachineAccessReconciler(Base):
    """Waits for the network as long as it takes, visibly, and keeps the authorised keys exact."""

    name = "machine_access"
    needs: tuple[str, ...] = ("machine",)
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenAccess | None:
        """None: the tester leaves, and there is no machine. Raises Transient (LoginRefused), Blocked (HostKeyChanged)."""
        if tester.facts.leaving and tester.facts.get(MachineFacts) is None:
            return None
        try:
            look = await look_at(tester, looks)
        except Unreachable:
            return SeenAccess(None)
        return SeenAccess(look, await self._own_keys(tester, looks))

    async def _own_keys(self, tester: TesterView, looks: TesterLooks) -> tuple[str, ...] | None:
        """A Forge that does not answer must not hold up what can be done on the machine (law 6)."""
        known = tester.facts.get(AccountFacts)
        if not tester.desired.ssh_key_required or tester.facts.leaving:
            return ()
        looks.unshared()
        try:
            return await account_keys(self.backends.forge, known.account) if known else None
        except OutsideError:
            return None

    def plan(self, desired: DesiredTester | None, observed: SeenAccess | None, facts: Facts) -> tuple[Step, ...]:
        """Wait for the network, or set the keys. On removal the tester's own go, should the machine ever answer.

        Raises Blocked InstallerKeyUnusable.
        """
        if observed is None:
            return ()
        if observed.look is None:
            return (_keys_may_be_left(facts) if desired is None else _waiting_for_network(facts),)
        there = _by_identity(observed.look.authorized_keys)
        wanted = _of_admins(facts) if desired is None else _wanted(desired, observed, there, facts)
        changes = _differences(there, wanted)
        if not changes:
            return ()
        return (
            Action(
                "set_keys", "authorised keys", changes=changes, args=tuple(wanted.values()), reason="AuthorizedKeysSet"
            ),
        )

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenAccess | None:
        await self.backends.machines.set_authorized_keys(machine_address(tester.facts), action.args)
        return None

    def learn(self, observed: SeenAccess, facts: Facts) -> MachineAccessFacts | None:
        """The host key, pinned at the first contact and never changed afterwards: a new machine brings new facts."""
        if observed.look is None:
            return None
        return facts.get(MachineAccessFacts) or MachineAccessFacts(host_key=observed.look.host_key)

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """SshKeyPresent, where the spec asks for a key: one that was taken away later on does not cost the machine."""
        if not desired.ssh_key_required or not isinstance(observed, SeenAccess) or observed.look is None:
            return ()
        if observed.own_keys is None:
            text = "Forge does not tell now which keys the account has; those on the machine stay"
            return (Finding("SshKeyPresent", None, "ForgeUnread", text),)
        if not observed.own_keys:
            known = facts.get(AccountFacts)
            login = known.account if known else desired.account.name
            page = key_page(facts.fleet.spec.forge.url)
            text = (
                f"{login} has no usable public SSH key on Forge any more, so none is on the machine: add one at {page}"
            )
            return (Finding("SshKeyPresent", False, "SshKeyRequired", text),)
        text = f"{len(observed.own_keys)} of the account's keys from Forge are authorised"
        return (Finding("SshKeyPresent", True, "SshKeyPresent", text),)


def _waiting_for_network(facts: Facts) -> Wait:
    return Wait(
        "WaitingForNetwork",
        "the machine runs, and cannot be reached over Mycelium yet",
        facts.fleet.spec.timing.reachable_limit,
        blames="the grid's network",
    )


def _keys_may_be_left(facts: Facts) -> Wait:
    """Nobody's removal waits for a dead machine; one that is kept is tried for as long as it is."""
    return Wait(
        "KeysMayBeLeft",
        "the tester's own keys cannot be taken from the machine until it can be reached; they go with it at the latest",
        facts.fleet.spec.timing.reachable_limit,
        blames="the grid's network",
        poll=TRIED_EVERY,
    )


def _of_admins(facts: Facts) -> dict[str, str]:
    """By identity: the admins' keys and the installer's."""
    admins = (key for admin in facts.fleet.spec.admins for key in admin.ssh_keys)
    return {key_identity(key): key for key in (*admins, installer_public_key(facts))}


def _wanted(desired: DesiredTester, observed: SeenAccess, there: dict[str, str], facts: Facts) -> dict[str, str]:
    """By identity: the spec's keys, the account's own and the installer's; no key twice. While the account's own are not
    known, what is there stays."""
    lines = (*desired.ssh_keys, *(observed.own_keys or ()), installer_public_key(facts))
    wanted = {key_identity(key): key for key in lines}
    if observed.own_keys is None:
        return {**{key: key for key in there if key.startswith(("ssh-", "ecdsa-", "sk-"))}, **wanted}
    return wanted


def _by_identity(lines: tuple[str, ...]) -> dict[str, str]:
    """By type and data. A line with options before the key is not that key: it allows something else."""
    return {
        key_identity(" ".join(line.split())): line
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    }


def _differences(have: dict[str, str], want: dict[str, str]) -> tuple[FieldChange, ...]:
    gone = [FieldChange("authorizedKeys", _short(have[key]), None) for key in have if key not in want]
    new = [FieldChange("authorizedKeys", None, _short(want[key])) for key in want if key not in have]
    return (*gone, *new)


def _short(line: str) -> str:
    """Enough of a public key to know it by: its type, the end of its data, its comment."""
    kind, _, rest = line.partition(" ")
    data, _, comment = rest.partition(" ")
    return f"{kind} …{data[-12:]} {comment}".strip()[:120]
