"""The doors: no listener before its proof, nothing left open, no admin shut out.

**ListenerUnproven.** At the instant at which a script of ours sets the listener to open, the front door as it runs asks for
sign-in on every path, on its loopback and by its own name, whether or not a gateway leads there now; and a look of ours that was
begun after our last write to that door has asked its loopback, and was answered. No allowance: what a start that comes after that
forgets (a fault) can be seen from outside only, and is `LeftOpen`'s.

**LeftOpen.** A stranger gets in through a public name; somebody's drift or a fault may do that. A whole pass of its tester, begun
later after that than a shared look may be old, must not end with the books saying that the door is protected, nor before
shutting it, or cutting it off, was begun; and `SHUT_WITHIN` later at most it is shut, or its gateway is gone. What is asked for
within a time begins anew where the machine or the daemon lied since, and with each life. Paused or not, leaving or not. Not asked
for while the gateway is in no row (then it is `Unknown`).

**AdminShutOut.** Whenever a script of ours writes the list of who may sign in, every admin is on it whom the folder named when
its tester's desired state was made, when the pass began, and whom it names now. Allowance: an admin who is new since (the next
pass writes anew).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.records import JournalEntry
from examples.simulator import invariants
from examples.simulator.frontdoor import ALLOWED, LISTENER
from examples.simulator.http import Request
from examples.simulator.log import Entry
from examples.simulator.machine import Machine
from reconcilers.backends.machine import MachineLook
from reconcilers.listener import PROXY
from specs.ownership import GATE_SETTINGS

if TYPE_CHECKING:
    from tests.worlds.watch import Watch

SHUT_WITHIN = timedelta(minutes=10)
"""Of the first try. What cannot be shut for so long has lost its gateway by then: a daemon may take five minutes for that."""
PROTECTED = "SignInProtected"
WRITES = (
    "domain.",
    f"service restart {PROXY}",
    *(f"secret set --quiet --context {context} {key}" for context, key in GATE_SETTINGS),
)
"""How a write to a door begins."""
SEEN_BY = ("machine", "compute")
"""The systems that a look at a door asks."""
SHUTS = frozenset({"shut", "restart_proxy", "cut_gateway"})


@dataclass
class _Open:
    """`since`: when it was opened, or the last lie about it ended; `tried`: when shutting it was first begun since."""

    opened: datetime
    since: datetime
    tried: datetime | None = None


class Doors:
    """See the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._wrong: set[tuple[str, str]] | None = None
        self._open: dict[str, _Open] = {}  # by public name
        self._written: dict[str, datetime] = {}  # by machine: our last write to its door, but for the listener
        self._asked: dict[str, datetime] = {}  # by machine: when the last look began that asked its loopback
        self._admins: dict[str, set[str]] = {}  # by tester: who was named when its last pass began

    def looked(self, machine: Machine, look: MachineLook, began: datetime) -> None:
        """A look of ours was answered."""
        if any(probe.side == "loopback" and answer.status for probe, answer in look.probes.items()):
            self._asked[machine.name] = began

    def served(self, entry: Entry) -> None:
        if entry.writing and entry.what.startswith(WRITES) and not entry.what.endswith(f" {LISTENER}"):
            self._written[entry.system.removeprefix("machine:")] = self._watch.now()
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

    def _see(self, found: Iterable[str]) -> None:
        names, now = {what.partition("/")[0] for what in found}, self._watch.now()
        for name, door in self._open.items():
            since = self._watch.true_since(door.since, *SEEN_BY)
            if since > door.since:
                door.since, door.tried = since, None
            if door.tried is not None and now - max(door.tried, self._watch.life_began) > SHUT_WITHIN:
                self._left_open(name, door, f"was not shut within {SHUT_WITHIN}, and its gateway not taken away")
        self._open = {name: self._open.get(name) or _Open(now, now) for name in sorted(names)}

    def begins(self, tester: str) -> None:
        """A pass over a tester."""
        self._admins[tester] = self._named(tester)

    def passed(self, tester: str, began: datetime) -> None:
        if not self._open:
            return
        self._see(invariants.open_doors(self._watch.rig.world))
        look_age = self._watch.timing.look_age
        for name, door in self._open.items():
            if self._whose(name) != tester:
                continue
            if began >= door.opened + look_age and self._watch.books.is_true(tester, PROTECTED):
                self._left_open(name, door, "and the books say Protected")
            if began >= door.since + look_age and door.tried is None:
                self._left_open(name, door, "and a whole pass has tried nothing")

    def _left_open(self, name: str, door: _Open, what: str) -> None:
        text = f"{name} of {self._whose(name)} stands open since +{door.opened - self._watch.begun}, {what}"
        self._watch.violated("LeftOpen", f"{name} {door.opened}", text)

    def begun(self, entry: JournalEntry) -> None:
        """A write that shuts a door, or takes its gateway away, is begun."""
        if entry.verb in SHUTS or (entry.step == "gateway" and entry.verb == "delete"):
            for name, door in self._open.items():
                if self._whose(name) == entry.tester:
                    door.tried = door.tried or self._watch.now()

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
        asked, written = self._asked.get(machine.name), self._written.get(machine.name)
        if asked is None or (written is not None and asked < written):
            text = f"the listener of {machine.name} is opened, and nobody has asked its loopback since our last write"
            self._watch.violated("ListenerUnproven", f"{machine.name} {self._watch.now()} unasked", text)

    def _check_list(self, machine: Machine) -> None:
        watch = self._watch
        whose = watch.books.whose("machine", machine.name) or ""
        listed = {name.strip().casefold() for name in _secret(machine, ALLOWED).split(",")}
        told = self._named(whose)
        if missing := sorted((told & self._admins.get(whose, told)) - listed):
            text = f"{', '.join(missing)} is written off the allowlist of {machine.name}"
            watch.violated("AdminShutOut", f"{machine.name} {watch.now()}", text)

    def _named(self, tester: str) -> set[str]:
        """The admins, as this tester's desired state may have them."""
        watch, record = self._watch, self._watch.books.testers.get(tester)
        if record is None or watch.fleet is None:
            return set()
        told = {admin.account.casefold() for admin in watch.fleet.spec.admins}
        if watch.books.fleet is not None and not record.source_error:
            told &= {admin.account.casefold() for admin in watch.books.fleet.spec.admins}
        else:
            told &= {admin.casefold() for admin in record.desired.admins}
        return told


def _secret(machine: Machine, key: str) -> str:
    return machine.state.secrets.get("core", {}).get(key, b"").decode("utf-8", "replace").strip()
