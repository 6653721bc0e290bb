"""The doors: no listener before its proof, nothing left open, no admin shut out.

**ListenerUnproven.** At the instant at which a script of ours sets the listener to open, the front door as it runs asks for
sign-in on every path, on its loopback and by its own name, whether or not a gateway leads there now. No allowance: what a
start that comes after that forgets (a fault) can be seen from outside only, and is `LeftOpen`'s.

**LeftOpen.** A stranger gets in through a public name; somebody's drift or a fault may do that. A whole pass of its tester, begun
later after that than a shared look may be old, must not end with the books saying that the door is protected; and of
`STILL_OPEN_PASSES` of them in a row, without a lie of the world since, one must have tried to shut it or to cut it off (a
machine that does not answer cannot be shut: that is told, and no violation). Paused or not, leaving or not. Not asked for
while the gateway is in no row (then it is `Unknown`).

**AdminShutOut.** Whenever a script of ours writes the list of who may sign in, every admin is on it whom the folder named when
its tester's desired state was made, and whom it names now. Allowance: an admin who is new since (the next pass writes anew).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from controller.records import JournalEntry
from examples.simulator import invariants
from examples.simulator.frontdoor import ALLOWED, LISTENER
from examples.simulator.http import Request
from examples.simulator.log import Entry
from examples.simulator.machine import Machine

if TYPE_CHECKING:
    from tests.worlds.watch import Watch

STILL_OPEN_PASSES = 3
PROTECTED = "SignInProtected"
SHUTS = frozenset({"shut", "restart_proxy", "cut_gateway"})


@dataclass
class _Open:
    since: datetime
    passes: int = 0


class Doors:
    """See the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._wrong: set[tuple[str, str]] | None = None
        self._open: dict[str, _Open] = {}  # by public name

    def served(self, entry: Entry) -> None:
        if not entry.writing or not entry.what.startswith("secret set") or entry.status:
            return
        machine = self._machine(entry)
        if machine is None:
            return
        if entry.what.endswith(f" {LISTENER}") and _secret(machine, LISTENER) == "1":
            self._check_proven(machine)
        elif entry.what.endswith(f" {ALLOWED}"):
            self._check_list(machine)

    def changed(self) -> None:
        """The world looks at its doors itself (`examples/simulator/invariants.py`) whenever something changed."""
        wrong = self._watch.rig.world.wrong_now
        if wrong is not self._wrong:
            self._wrong = wrong
            if wrong or self._open:
                self._see(what for kind, what in wrong if kind == "OpenDoor")

    def _see(self, found: object) -> None:
        names = {str(what).partition("/")[0] for what in found}  # type: ignore[attr-defined]
        now = self._watch.now()
        self._open = {name: self._open.get(name) or _Open(now) for name in sorted(names)}

    def passed(self, tester: str, began: datetime) -> None:
        if not self._open:
            return
        self._see(invariants.open_doors(self._watch.rig.world))
        watch = self._watch
        for name, door in self._open.items():
            if self._whose(name) != tester or began < door.since + watch.timing.look_age:
                continue
            if watch.books.is_true(tester, PROTECTED):
                text = f"{name} of {tester} stands open since +{door.since - watch.begun}, and the books say Protected"
                watch.violated("LeftOpen", f"{name} {door.since}", text)
            door.passes += not watch.lied_since(door.since)
            if door.passes >= STILL_OPEN_PASSES:
                text = f"{name} of {tester} stands open, and {door.passes} passes in a row have tried nothing"
                watch.violated("LeftOpen", f"{name} {door.since}", text)

    def begun(self, entry: JournalEntry) -> None:
        """A write that shuts a door, or takes its gateway away, is begun."""
        if entry.verb in SHUTS or (entry.step == "gateway" and entry.verb == "delete"):
            for name, door in self._open.items():
                if self._whose(name) == entry.tester:
                    door.passes = 0

    def _whose(self, fqdn: str) -> str | None:
        return self._watch.books.whose("gateway", fqdn.partition(".")[0])

    def _machine(self, entry: Entry) -> Machine | None:
        name = entry.system.removeprefix("machine:")
        return next((one for one in self._watch.rig.world.machines.values() if one.name == name), None)

    def _check_proven(self, machine: Machine) -> None:
        world = self._watch.rig.world
        # While its gateway is away, by the name that hero_proxy knows: it is to come back under it.
        gateways = [gateway.fqdn for _, gateway in world.grid.gateways() if world.behind(gateway) is machine]
        names = gateways or sorted(machine.state.domains)
        for fqdn in names:
            for path in invariants.PROBED:
                if invariants.lets_in(machine, fqdn, path, "loopback"):
                    text = (
                        f"the listener of {machine.name} is opened while its loopback lets strangers in at {fqdn}{path}"
                    )
                    self._watch.violated("ListenerUnproven", f"{machine.name} {self._watch.now()}", text)
        answers = [machine.door.answer(Request("GET", "/", headers={"host": fqdn}), "loopback") for fqdn in names]
        if not any(answer is not None and answer.status in range(300, 404) for answer in answers):
            text = f"the listener of {machine.name} is opened though its loopback asks nobody to sign in"
            self._watch.violated("ListenerUnproven", f"{machine.name} {self._watch.now()}", text)

    def _check_list(self, machine: Machine) -> None:
        watch = self._watch
        whose = watch.books.whose("machine", machine.name)
        record = watch.books.testers.get(whose or "")
        if record is None or watch.fleet is None:
            return
        listed = {name.strip().casefold() for name in _secret(machine, ALLOWED).split(",")}
        told = {admin.account.casefold() for admin in watch.fleet.spec.admins}
        if watch.books.fleet is not None and not record.source_error:
            told &= {admin.account.casefold() for admin in watch.books.fleet.spec.admins}
        else:
            told &= {admin.casefold() for admin in record.desired.admins}
        if missing := sorted(told - listed):
            text = f"{', '.join(missing)} is written off the allowlist of {machine.name}"
            watch.violated("AdminShutOut", f"{machine.name} {watch.now()}", text)


def _secret(machine: Machine, key: str) -> str:
    return machine.state.secrets.get("core", {}).get(key, b"").decode("utf-8", "replace").strip()
