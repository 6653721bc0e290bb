"""The things that stand outside: nothing doubled, nothing unknown, no machine taken from whom the spec leaves it.

**Doubled.** Two things of one kind that rows of one tester call wanted are a violation at once. What the books call retiring,
lost or kept, and what they list in quarantine, is declared. A twin, another thing under the very name of the wanted one, nobody
can know of before the next listing: it is a violation once `TWIN_PASSES` whole passes of its tester, begun later after a true
listing of this life than a shared look may be old, have not declared it.

**Unknown.** A thing that bears a name of ours, an engine's token among them, and is in no open row must be told to an admin
(`NothingOrphaned`). Allowance: two true listings that show it, further apart than the grace and within one life of the
controller, and `TOLD_WITHIN` after the second, which is when the chore that compares them comes by. So a thing that no listing
shows, and what nobody reads, is not asked for. Things at a daemon or node that the Fleet calls gone for good are nobody's.

Of both: a listing is true that came after the last lie of the system that gives it (`LISTED_BY`); no other one's excuses it.

**MachineLost.** No machine on which we ever were is deleted while its tester is in the folder and wanted, at the `rebuild` that
it was made for, unless a newer one has taken its place: neither when our journal begins a delete, nor when the daemon is
asked for it. That its tester is put back while the daemon does what it was asked for before cannot be helped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.records import JournalEntry
from examples.simulator.engines import REGISTRY
from examples.simulator.log import Entry
from examples.simulator.machine import Machine
from examples.simulator.seeding import CONTROLLER
from examples.simulator.server import COMPUTE_SECRET
from reconcilers.backends.machine import MachineLook
from reconcilers.facts import ObjectState, OutsideObject
from specs.gone import gone_of
from specs.names import tenant_name
from tests.worlds.watch_books import is_kept

if TYPE_CHECKING:
    from tests.worlds.watch import Watch

MACHINE, GATEWAY, APP, TENANT = "machine", "gateway", "sign_in_app", "engine_access"
LISTINGS = {"list_vms": MACHINE, "list_webgateways": GATEWAY}
LISTED_BY = {MACHINE: "compute", GATEWAY: "compute", APP: "forge", TENANT: "machine"}
IDS = {MACHINE: "vm_id", GATEWAY: "gateway_id", APP: "app_id"}
WANTED = frozenset({ObjectState.INTENDED, ObjectState.EXISTING})
TWIN_PASSES = 3
TOLD_WITHIN = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Thing:
    """`step` is the one that keeps it; `where` a daemon, an engine or "Forge"."""

    step: str
    where: str
    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.step} {self.name} ({self.where}/{self.id})"


@dataclass
class _Odd:
    """A thing that must be told of. `since`: when it appeared, or the last lie ended; `shown`: when a true listing of this life
    showed it first, and first after the grace; `passes`: whole ones of its tester since the former."""

    since: datetime
    shown: list[datetime] = field(default_factory=list)
    passes: int = 0

    def begin_anew(self, since: datetime) -> None:
        self.since, self.shown, self.passes = since, [], 0

    def show(self, now: datetime, grace: timedelta) -> None:
        if not self.shown or (len(self.shown) == 1 and now - self.shown[0] >= grace):
            self.shown.append(now)


class Things:
    """See the module."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._state: object = None
        self._been_on: set[str] = set()  # names of the machines that we were on
        self._twins: dict[tuple[str, Thing], _Odd] = {}  # by tester
        self._strays: dict[Thing, _Odd] = {}

    def begin(self) -> None:
        """A new life remembers no listing."""
        for _, odd in self._all_odd():
            odd.begin_anew(odd.since)

    # -- told

    def served(self, entry: Entry) -> None:
        if entry.method == "look" and entry.system.startswith("machine:"):
            self._been_on.add(entry.system.removeprefix("machine:"))
        listing = None if entry.writing else self._listing_of(entry)
        if entry.writing or listing is not None:
            self.look()
        if listing is not None and (self._strays or self._twins):
            self._listed(listing)

    def passed(self, tester: str, began: datetime) -> None:
        self.look()
        self._forget_lies()
        for (whose, thing), twin in self._twins.items():
            if whose == tester and twin.shown and began >= twin.shown[0] + self._watch.timing.look_age:
                twin.passes += 1
                if twin.passes >= TWIN_PASSES:
                    self._watch.violated(
                        "Doubled", f"{thing}", f"{thing} stands beside the one in use of {tester}, and nobody says so"
                    )

    def _all_odd(self) -> Iterator[tuple[Thing, _Odd]]:
        yield from self._strays.items()
        for (_, thing), twin in self._twins.items():
            yield thing, twin

    def _forget_lies(self) -> None:
        """What was listed before the last lie counts no more."""
        for thing, odd in self._all_odd():
            since = self._watch.true_since(odd.since, LISTED_BY[thing.step])
            if since > odd.since:
                odd.begin_anew(since)

    # -- looking

    def look(self) -> None:
        world, books = self._watch.rig.world, self._watch.books
        state = (
            books.version,
            tuple(
                (one.next_vm, len(one.vms), one.next_gateway, len(one.gateways)) for one in world.state.daemons.values()
            ),
            (world.state.forge.next_id, len(world.state.forge.apps)),
            world.admin.state.secret_changes,
        )
        if state != self._state:
            self._state = state
            self._compare()

    def _compare(self) -> None:
        now, books = self._watch.now(), self._watch.books
        wanted: dict[tuple[str, str], list[Thing]] = {}
        twins: dict[tuple[str, Thing], _Odd] = {}
        strays: dict[Thing, _Odd] = {}
        for thing in self.standing():
            whose = books.whose(thing.step, thing.name)
            if whose is None or thing.id in books.quarantined(whose, thing.step):
                continue
            rows = [row for row in books.rows_named(thing.step, thing.name) if row.state is not ObjectState.GONE]
            if not rows:
                if not self._is_tenant(thing, whose) and not self.is_told(thing, whose):
                    strays[thing] = self._strays.get(thing) or _Odd(now)
                continue
            if all(row.state in WANTED and not is_kept(row) for row in rows):
                if any(_is_another(row, thing) for row in rows):
                    twins[whose, thing] = self._twins.get((whose, thing)) or _Odd(now)
                else:
                    wanted.setdefault((whose, thing.step), []).append(thing)
        for (whose, step), things in wanted.items():
            names = {thing.name for thing in things}
            if len(names) > 1:
                found = ", ".join(map(str, things))
                self._watch.violated("Doubled", f"{whose}/{step}/{sorted(names)}", f"{whose} has {found} at once")
            elif len(things) > 1:  # which of them is ours is not known yet: all but one are twins
                for thing in things[1:]:
                    twins[whose, thing] = self._twins.get((whose, thing)) or _Odd(now)
        self._twins, self._strays = twins, strays

    def standing(self) -> Iterator[Thing]:
        """All that was made with our credentials, by whomever."""
        world, fleet = self._watch.rig.world, self._watch.books.fleet
        gone = gone_of(fleet) if fleet is not None else None
        for name, daemon in world.state.daemons.items():
            for vm in daemon.vms.values():
                if vm.secret == COMPUTE_SECRET and not (gone and gone.place(name, vm.node_sid)):
                    yield Thing(MACHINE, name, vm.sid, vm.name)
            for gateway in daemon.gateways.values():
                if gateway.secret == COMPUTE_SECRET and not (gone and gone.place(name)):
                    yield Thing(GATEWAY, name, gateway.sid, gateway.name)
        for app in world.state.forge.apps:
            if app.owner == CONTROLLER:
                yield Thing(APP, "Forge", str(app.id), app.name)
        for engine in world.state.engines:
            for tenant in world.engines.registered(engine) or ():
                if not (gone and engine.name in gone.engines):
                    yield Thing(TENANT, engine.name, tenant, tenant)

    def is_told(self, thing: Thing, whose: str) -> bool:
        """In quarantine, or an orphan of which an admin was told."""
        books = self._watch.books
        return thing.id in books.quarantined(whose, thing.step) or books.told_of_orphan(thing.step, thing.name)

    def _is_tenant(self, thing: Thing, whose: str) -> bool:
        """A tenant has no row of its own: its tester's does."""
        record = self._watch.books.testers.get(whose)
        return thing.step == TENANT and record is not None and tenant_name(record.name, record.uid) == thing.name

    def _listed(self, listing: tuple[str, str]) -> None:
        self._forget_lies()
        now = self._watch.now()
        for thing, odd in self._all_odd():
            if (thing.step, thing.where) == listing and now > odd.since:
                odd.show(now, self._watch.timing.listing_grace)
        for thing, stray in self._strays.items():
            if len(stray.shown) == 2 and now - stray.shown[1] >= TOLD_WITHIN:
                self._watch.violated("Unknown", f"{thing}", f"{thing} is in no row, and nobody was told of it")

    def _listing_of(self, entry: Entry) -> tuple[str, str] | None:
        """Of what, and where, an answer tells everything; None when it is no such answer."""
        if entry.status != 200:
            return None
        if entry.system == "forge" and entry.what.endswith("/applications/oauth2"):
            return APP, "Forge"
        last = entry.what.rpartition(" ")[2]
        return (LISTINGS[last], entry.system) if last in LISTINGS else None

    def looked(self, machine: Machine, look: MachineLook) -> None:
        """At the machine on which the engines' tokens are."""
        if machine is self._watch.rig.world.admin:
            self.look()
            for engine in self._watch.rig.world.state.engines:
                if (engine.context, REGISTRY) in look.secrets:
                    self._listed((TENANT, engine.name))

    # -- machines

    def begun(self, entry: JournalEntry) -> None:
        """That a machine is to be deleted is written down before it is done."""
        if entry.step == MACHINE and entry.verb == "delete":
            self._check_may_go(entry.tester, entry.target.removeprefix("machine "))

    def deleting(self, daemon: str, sid: str) -> None:
        """A daemon is asked to delete a machine: what its answer is waited for, or is lost, changes nothing any more."""
        vm = self._watch.rig.world.state.daemons[daemon].vms.get(sid)
        if vm is None:
            return
        thing, books = Thing(MACHINE, daemon, sid, vm.name), self._watch.books
        whose = books.whose(MACHINE, vm.name)
        if whose is not None and not all(_is_another(row, thing) for row in books.rows_named(MACHINE, vm.name)):
            self._check_may_go(whose, vm.name)

    def _check_may_go(self, tester: str, vm: str) -> None:
        books, watch = self._watch.books, self._watch
        record, said = books.testers.get(tester), watch.said()
        rows = list(books.rows_named(MACHINE, vm))
        if record is None or record.leaving or vm not in self._been_on or tester not in said.names or not rows:
            return
        row = rows[-1]
        made_for = row.identity.get("rebuild", "0")
        newer = any(
            other.state in WANTED and (other.incarnation, other.attempt) > (row.incarnation, row.attempt)
            for key, other in books.rows.items()
            if key[:2] == (tester, MACHINE)
        )
        if made_for == str(record.desired.machine.rebuild) and not newer:
            watch.violated("MachineLost", vm, f"{vm} of {tester} is deleted though its spec keeps it")


def _is_another(row: OutsideObject, thing: Thing) -> bool:
    """Whether the row is known to speak of another thing of this name."""
    told = row.identity.get(IDS.get(thing.step, ""), "")
    return bool(told) and (told, row.identity.get("daemon", thing.where)) != (thing.id, thing.where)
