"""What must hold at every instant of a world, looked at after every call that it served, every commit and every change.

    watch = Watch(rig)              once, as soon as the world is there; it stays for all lives to come
    watch.violations                (at, kind, text) of what was not so
    watch.excuse(kind, text="")     a violation that this world expects: of this kind, with this in its text
    watch.raise_any()               looks once more, and raises AssertionError with all that are not excused

The kinds, what each holds, and what it lets pass (an allowance, and why) stand in `RULES` and at the rules themselves
(`watch_things.py`, `watch_doors.py`, `watch_people.py`, `watch_calls.py`). They look at the simulator's own truth, never at what
it answers, and at our books (`watch_books.py`) where the sentence speaks of them. A violation is told once per thing.

Rules are cheap because they look only when something of theirs can have changed; what lasts too long is measured from the
instant when it began to the instant when it is next looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import yaml

from controller.intake import Revision, Taken
from controller.records import Change, JournalEntry, Outcome, PutJournal
from examples.simulator.faults import Fault, Faults
from examples.simulator.http import Answer
from examples.simulator.log import Entry
from examples.simulator.world import World
from reconcilers.backends.machine import MachineAddress, MachineAnswer, Question
from specs.fleet import Fleet, Timing
from tests.worlds.rig import Rig
from tests.worlds.watch_books import Books
from tests.worlds.watch_calls import Calls, Quiet
from tests.worlds.watch_doors import Doors
from tests.worlds.watch_people import People
from tests.worlds.watch_things import Things

Answering = Callable[[MachineAddress, Question], Coroutine[Any, Any, MachineAnswer]]

RULES: Mapping[str, str] = {
    "Doubled": "never two VMs, gateways or OAuth apps for one tester beyond a declared quarantine",
    "Unknown": "nothing of ours that our books do not know for longer than the grace",
    "ListenerUnproven": "no listener opened by us before its proof",
    "LeftOpen": "no open path left for longer than one pass",
    "MailedTwice": "no mail twice",
    "MailedTooSoon": "none before Ready",
    "AdoptedTouched": "adopted accounts untouched",
    "RemovedThoughWanted": "nobody removed who is in the source",
    "AdminShutOut": "admins never off an allowlist",
    "MachineLost": "a tester's VM never deleted while its spec keeps it",
    "WroteForNothing": "no writing call while nothing differs",
    "TooManyAtOnce": "calls in flight within every backend's limit",
    "TooFast": "calls per second within every backend's limit",
}
"""Kind → the sentence that it holds."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`at`: since the start of the world."""

    at: timedelta
    kind: str
    text: str

    def __str__(self) -> str:
        return f"+{self.at} {self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Said:
    """What the folder says at a moment. `whole`: all of it can be read; `fleet` False: it has none."""

    names: frozenset[str]
    expires: Mapping[str, date]
    whole: bool
    fleet: bool


class Watch:
    """See the module. Everything of it is synchronous, and nothing of it is seen by the controller."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.violations: list[Violation] = []
        self.books = Books()
        self.fleet: Fleet | None = None  # of the last revision that was taken in and had one
        self._lied: dict[str, datetime] = {}  # by system: when a fault last had its way with a call
        self.begun = self.life_began = self.now()
        self._excused: list[tuple[str, str]] = []
        self._seen: set[tuple[str, str]] = set()
        self._files: dict[str, tuple[int, Any]] = {}
        self._said: list[Said] = []  # since the last revision that was taken in
        self.things, self.doors, self.people = Things(self), Doors(self), People(self)
        self.calls, self.quiet = Calls(self), Quiet(self)
        self._hook_world(rig.world)
        self._hook_lives()
        if getattr(rig, "controller", None) is not None:
            self._hook_life()

    # -- telling

    def excuse(self, kind: str, text: str = "") -> None:
        assert kind in RULES, kind
        self._excused.append((kind, text))

    def violated(self, kind: str, what: str, text: str) -> None:
        """`what`: the thing; the same one is told once."""
        if (kind, what) in self._seen:
            return
        self._seen.add((kind, what))
        self.violations.append(Violation(self.now() - self.begun, kind, text))

    def raise_any(self) -> None:
        self.things.look()
        found = [
            str(one)
            for one in self.violations
            if not any(one.kind == kind and text in one.text for kind, text in self._excused)
        ]
        assert not found, "\n".join(("what must hold at every instant did not:", *found))

    # -- the source

    def told(self, revision: Revision) -> None:
        """A revision was taken in. Of what the folder said before, nothing counts any more."""
        if revision.loaded.fleet is not None:
            self.fleet = revision.loaded.fleet
        self._said = [self.said()]

    def said(self) -> Said:
        """What the folder says now, read without the controller's own reader."""
        names: set[str] = set()
        expires: dict[str, date] = {}
        whole, fleet = True, False
        for path in sorted(self.rig.places.folder.glob("*.yaml")):
            documents = self._documents(path.name, path.stat().st_mtime_ns)
            whole = whole and documents is not None
            for document in documents or ():
                kind = document.get("kind")
                fleet = fleet or kind == "Fleet"
                if kind == "Tester":
                    name = str(document["metadata"]["name"])
                    names.add(name)
                    spec = document.get("spec")
                    until = spec.get("expires") if isinstance(spec, dict) else None
                    if until is not None:
                        expires[name] = date.fromisoformat(str(until))
        return Said(frozenset(names), expires, whole, fleet)

    def _documents(self, name: str, changed: int) -> list[dict[str, Any]] | None:
        known = self._files.get(name)
        if known is None or known[0] != changed:
            try:
                text = (self.rig.places.folder / name).read_text()
                read = [each for each in yaml.load_all(text, _Loader) if each is not None]
                whole = read if all(_is_document(each) for each in read) else None
            except (yaml.YAMLError, UnicodeDecodeError):
                whole = None
            known = self._files[name] = (changed, whole)
        documents: list[dict[str, Any]] | None = known[1]
        return documents

    def said_since_taken(self) -> list[Said]:
        """Everything that a reading may have found since the last revision was taken in."""
        return [*self._said, self.said()]

    # -- times

    def now(self) -> datetime:
        """By the world's own clock, which nobody sets."""
        return datetime.fromtimestamp(self.rig.world.clock.now(), UTC)

    def days(self) -> frozenset[date]:
        """Today, by the world's clock and by the controller's, which may have been set."""
        return frozenset((self.now().date(), self.rig.clock.now().date()))

    @property
    def timing(self) -> Timing:
        fleet = self.books.fleet or self.fleet
        return fleet.spec.timing if fleet is not None else Timing()

    def lied_since(self, moment: datetime, *systems: str) -> bool:
        return any(each in self._lied and self._lied[each] >= moment for each in systems)

    def true_since(self, moment: datetime, *systems: str) -> datetime:
        """Since when nothing that these systems say was spoilt: `moment`, or the end of the last lie after it."""
        return max([moment, *(self._lied[each] for each in systems if each in self._lied)])

    # -- hooks

    def _hook_world(self, world: World) -> None:
        self._hook_faults(world.faults)
        add = world.log.add

        def added(*entry: Any) -> None:
            add(*entry)
            self._served(world.log.entries[-1])

        world.log.add = added  # type: ignore[method-assign]
        world.on_changed.append(self._changed)
        rescan = self.rig.rescan

        def rescanned() -> None:
            self._said.append(self.said())
            rescan()

        self.rig.rescan = rescanned  # type: ignore[method-assign]

    def _hook_faults(self, faults: Faults) -> None:
        applying, around = faults._applying, faults.around

        def asked(system: str, *which: Any) -> Fault | None:
            fault = applying(system, *which)
            if fault is not None:
                self._lied[system] = self.now()
            return fault

        async def answered(call: tuple[str, str], *request: Any, **target: Any) -> Answer:
            began = self.now()
            answer = await around(call, *request, **target)
            self._lie_until_now(began, call[0])
            return answer

        faults._applying = asked  # type: ignore[method-assign]
        faults.around = answered  # type: ignore[method-assign]

    def _lie_until_now(self, began: datetime, system: str) -> None:
        """An answer is here: it lies if anything of that system was spoilt since it was asked for."""
        if self.lied_since(began, system):
            self._lied[system] = self.now()

    def _hook_lives(self) -> None:
        start = self.rig.start

        async def started() -> None:
            await start()
            self._hook_life()
            testers, rows = await self.rig.store.testers(), await self.rig.store.objects()
            self.books.begin(testers, rows)

        self.rig.start = started  # type: ignore[method-assign]

    def _hook_life(self) -> None:
        self.life_began = self.now()
        controller, store = self.rig.controller, self.rig.store
        store.listeners.insert(0, self.committed)
        controller.listeners.append(self._took)
        controller.options = self.calls.counted(controller.options)
        self.things.begin()
        self._hook_passes(controller.engine)

    def _hook_passes(self, engine: Any) -> None:
        look: Callable[[str], Awaitable[timedelta | None]] = engine.look

        async def looked(name: str) -> timedelta | None:
            began, writes = self.now(), self.quiet.begun_of(name)
            self.doors.begins(name)
            wait = await look(name)
            self._passed(name, began, writes)
            return wait

        engine.look = looked

    def looking(self, answer: Answering) -> Answering:
        """What a life's machines answer to a look, as before."""

        async def answered(address: MachineAddress, question: Question) -> MachineAnswer:
            began = self.now()
            told = await answer(address, question)
            machine = self.rig.world.reachable_at(address.host)
            if machine is not None:
                self._lie_until_now(began, "machine")
                self.doors.looked(machine, told.look, began)
                self.things.looked(machine, told.look)
            return told

        return answered

    def _took(self, revision: Revision, _: Taken) -> None:
        self.told(revision)

    # -- what the rules are told

    def _served(self, entry: Entry) -> None:
        self.things.served(entry)
        self.doors.served(entry)
        self.people.served(entry)

    def _changed(self) -> None:
        self.things.look()
        self.doors.changed()
        self.people.changed()

    def committed(self, changes: tuple[Change, ...]) -> None:
        """Before the books are compared with anything, they are as this commit left them."""
        self.people.commits(changes)
        before = self.books.version
        self.books.take(changes)
        for change in changes:
            if isinstance(change, PutJournal) and change.entry.outcome is Outcome.BEGUN:
                self._begun(change.entry)
        if self.books.version != before:
            self.things.look()

    def _begun(self, entry: JournalEntry) -> None:
        self.quiet.begun(entry)
        self.people.begun(entry)
        self.doors.begun(entry)

    def _passed(self, name: str, began: datetime, writes: int) -> None:
        self.things.passed(name, began)
        self.doors.passed(name, began)
        self.quiet.passed(name, began, writes)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _is_document(each: Any) -> bool:
    if not isinstance(each, dict) or each.get("kind") not in ("Tester", "Fleet"):
        return False
    metadata = each.get("metadata")
    return each["kind"] == "Fleet" or (isinstance(metadata, dict) and bool(metadata.get("name")))


__all__ = ["RULES", "Said", "Violation", "Watch"]
