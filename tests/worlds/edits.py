"""What admins do to the folder of specs, as data: it can be drawn from a seed, printed, pasted, shortened and done again.

    Edit(timedelta(minutes=5), "pause", "alice", {"paused": {"reason": "demo", "by": "mik"}})
    +300.000 pause alice {"paused": {"reason": "demo", "by": "mik"}}

`Desk` does them to a rig's folder, and knows what the folder asks for at every moment. Doing is total: what makes no sense at
this moment (editing a file that is not there) does nothing, so that any part of a schedule is a schedule.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.rig import tester_document
from tests.worlds.rig import Rig

SECOND = timedelta(seconds=1)
COMPONENTS = ("hero_slides", "hero_whiteboard", "hero_planner")
PEOPLE = ("bob", "mik")
FLEET = "fleet.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG93bm93bm93bm93bm93bm93bm93bm93bm93bm93bm93 laptop"
PAUSE = {"reason": "demo on Friday", "by": "mik"}


class Asked(StrEnum):
    """What the folder asks for, for one name."""

    READY = "Ready"
    PAUSED = "Paused"
    EXPIRED = "Expired"
    GONE = "gone"


@dataclass(frozen=True)
class Edit:
    """`spec` is laid over what the file says, mapping by mapping; None takes a field out. Days are counted from that day."""

    at: timedelta
    kind: str
    tester: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One readable line, from which `of_line` makes the same again."""
        words = [f"+{self.at / SECOND:.3f}", self.kind, self.tester or "-"]
        return " ".join([*words, json.dumps(self.spec)] if self.spec else words)

    @staticmethod
    def of_line(text: str) -> Edit:
        """Raises ValueError for anything else."""
        at, kind, tester, *rest = text.split(" ", 3)
        if kind not in DOING:
            raise ValueError(f"no such edit: {kind}")
        spec = json.loads(rest[0]) if rest else {}
        return Edit(float(at) * SECOND, kind, "" if tester == "-" else tester, spec)


class Desk:
    """Somebody with an editor, in front of a rig's folder."""

    def __init__(self, rig: Rig, testers: Mapping[str, Mapping[str, Any]]) -> None:
        """`testers`: whose files the rig has already, and the fields of their specs."""
        self.rig = rig
        self.specs: dict[str, dict[str, Any]] = {name: _whole(spec, name) for name, spec in testers.items()}
        self.present = set(testers)
        self.broken: set[str] = set()
        self.lost: dict[str, bytes] = {}  # files that are gone or broken for a while, as they were
        self.files: dict[str, str] = {}  # of those whose file has another name than they have
        self.engines = {each["name"]: each for each in self._fleets()["engines"]}  # as they were at first

    @property
    def absent(self) -> set[str]:
        """Who was there once, and is not now."""
        return set(self.specs) - self.present

    def do(self, edit: Edit) -> None:
        """One edit, now."""
        DOING[edit.kind](self, edit)

    def mend_all(self) -> None:
        """Nothing is gone or broken any more that should not be, and whoever was taken out may go."""
        self.reappear()
        if len(self.absent) > self._fleets()["safety"]["maxRemovals"]:
            self.rig.write_fleet(safety={"maxRemovals": len(self.absent)})
        for name in sorted(self.broken):
            self._save(name)

    def asked(self, today: date) -> dict[str, Asked]:
        """What the folder asks for, for every name that it ever had."""
        return {name: self._asked(name, today) for name in self.specs}

    def _asked(self, name: str, today: date) -> Asked:
        spec = self.specs[name]
        if name not in self.present:
            return Asked.GONE
        if "expires" in spec and date.fromisoformat(spec["expires"]) < today:
            return Asked.EXPIRED
        if (pause := spec.get("paused")) and date.fromisoformat(pause.get("until", "9999-12-31")) >= today:
            return Asked.PAUSED
        return Asked.READY

    # -- doing

    def add(self, edit: Edit) -> None:
        if edit.tester not in self.present:
            self.specs[edit.tester] = self._dated(_laid(_whole({}, edit.tester), edit.spec))
            self._save(edit.tester)

    def edit(self, edit: Edit) -> None:
        if edit.tester in self.present:
            self.specs[edit.tester] = self._dated(_laid(self.specs[edit.tester], edit.spec))
            self._save(edit.tester)

    def remove(self, edit: Edit) -> None:
        if edit.tester in self.present:
            self.present.discard(edit.tester)
            self.broken.discard(edit.tester)
            for file in (self.file_of(edit.tester), self._copy_of(edit.tester)):
                self.lost.pop(file.name, None)
                file.unlink(missing_ok=True)
            self.files.pop(edit.tester, None)
            self.rig.rescan()

    def put_back(self, edit: Edit) -> None:
        if edit.tester in self.specs and edit.tester not in self.present:
            self.specs[edit.tester] = self._dated(_laid(self.specs[edit.tester], edit.spec))
            self._save(edit.tester)

    def spoil(self, edit: Edit) -> None:
        if edit.tester in self.present:
            self.broken.add(edit.tester)
            how = SPOILING[edit.spec.get("how", "half")]
            self.file_of(edit.tester).write_bytes(how(self._text(edit.tester)))
            self.rig.rescan()

    def copy(self, edit: Edit) -> None:
        """Two files name one tester, as when a new one is begun from a copy."""
        if edit.tester in self.present:
            self.broken.add(edit.tester)
            self._copy_of(edit.tester).write_bytes(self._text(edit.tester))
            self.rig.rescan()

    def mend(self, edit: Edit) -> None:
        if edit.tester in self.broken:
            self._save(edit.tester)

    def move(self, edit: Edit) -> None:
        """The file is called otherwise, the tester is not."""
        file, to = self.file_of(edit.tester), self.rig.places.folder / edit.spec["to"]
        if edit.tester in self.present and file.exists() and not to.exists():
            self.files[edit.tester] = to.name
            self.lost.pop(file.name, None)
            file.rename(to)
            self.rig.rescan()

    def fleet(self, edit: Edit) -> None:
        self._bring_back(FLEET)
        self.rig.write_fleet(**edit.spec)

    def break_fleet(self, edit: Edit) -> None:
        self._bring_back(FLEET)
        file = self.rig.places.folder / FLEET
        self.lost[FLEET] = file.read_bytes()
        file.write_bytes(SPOILING[edit.spec["how"]](self.lost[FLEET]))
        self.rig.rescan()

    def engine(self, edit: Edit) -> None:
        """A shared engine comes (back), is retired, leaves once it was; or is torn out of the Fleet, which is broken then."""
        self._bring_back(FLEET)
        name, does = edit.spec["name"], edit.spec["does"]
        there = {each["name"]: each for each in self._fleets()["engines"]}
        if does == "come" and name in self.engines:
            there[name] = self.engines[name]
        elif does == "retire" and name in there:
            there[name] = {**there[name], "retired": True}
        elif does == "tear" and name in there:
            self.lost[FLEET] = (self.rig.places.folder / FLEET).read_bytes()
            del there[name]
        elif does == "leave" and there.get(name, {}).get("retired"):
            del there[name]
        self.rig.write_fleet(engines=list(there.values()))

    def _fleets(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.rig.places.folder / FLEET).read_text())["spec"]
        return found

    def vanish(self, edit: Edit) -> None:
        """Many files are gone at once, as when a disk is not there or a checkout went wrong: all, or all `but` the Fleet's."""
        for file in sorted(self.rig.places.folder.glob("*.yaml")):
            if file.name != edit.spec.get("but"):
                before = self.lost.get(FLEET) if file.name == FLEET else None  # as it was before it was broken
                self.lost[file.name] = before or file.read_bytes()
                file.unlink()
        self.rig.rescan()

    def reappear(self, edit: Edit | None = None) -> None:
        """What was written anew meanwhile stays as it is; what is broken of its own accord stays broken."""
        for name in sorted(self.lost):
            self._bring_back(name)
        self.rig.rescan()

    def _bring_back(self, name: str) -> None:
        text, file = self.lost.pop(name, None), self.rig.places.folder / name
        if text is not None and (name == FLEET or not file.exists()):
            file.write_bytes(text)

    def release(self, edit: Edit) -> None:
        self.rig.world.drift.publish(edit.spec["component"], edit.spec["version"])

    def _save(self, name: str) -> None:
        self.present.add(name)
        self.broken.discard(name)
        self.lost.pop(self._copy_of(name).name, None)
        self._copy_of(name).unlink(missing_ok=True)
        self.file_of(name).write_bytes(self._text(name))
        self.rig.rescan()

    def file_of(self, name: str) -> Path:
        return self.rig.places.folder / self.files.get(name, f"{name}.yaml")

    def _copy_of(self, name: str) -> Path:
        return self.rig.places.folder / f"{name}-copy.yaml"

    def _text(self, name: str) -> bytes:
        return yaml.safe_dump(tester_document(name, **self.specs[name]), sort_keys=False).encode()

    def _dated(self, spec: dict[str, Any]) -> dict[str, Any]:
        """With a date for every number of days from now."""
        if isinstance(days := spec.get("expires"), int):
            return {**spec, "expires": str(self.rig.clock.now().date() + timedelta(days=days))}
        return spec


DOING: Mapping[str, Callable[[Desk, Edit], None]] = {
    "add": Desk.add,
    "edit": Desk.edit,
    "pause": Desk.edit,
    "resume": Desk.edit,
    "expire": Desk.edit,
    "extend": Desk.edit,
    "remove": Desk.remove,
    "put_back": Desk.put_back,
    "break": Desk.spoil,
    "copy": Desk.copy,
    "mend": Desk.mend,
    "move": Desk.move,
    "fleet": Desk.fleet,
    "break_fleet": Desk.break_fleet,
    "mend_fleet": Desk.reappear,
    "engine": Desk.engine,
    "vanish": Desk.vanish,
    "reappear": Desk.reappear,
    "release": Desk.release,
}

SPOILING: Mapping[str, Callable[[bytes], bytes]] = {
    "half": lambda text: text[: len(text) // 2],
    "torn_name": lambda text: text[: text.index(b"name:") + 6],
    "unknown_field": lambda text: text.replace(b"spec:\n", b"spec:\n  colour: red\n"),
    "conflict": lambda text: b"<<<<<<< ours\n" + text + b"=======\n>>>>>>> theirs\n",
    "binary": lambda text: text[:20] + b"\xff\xfe\x00" + text[20:],
    "two_testers": lambda text: text + b"---\n" + text,
    "clear_key": lambda text: text.replace(
        b"spec:\n", b"spec:\n  keys: {providers: {openrouter: sk-or-v1-aaaaaaaa}}\n"
    ),
}
"""How a file is broken → what then stands in it."""


def _whole(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    document: dict[str, Any] = tester_document(name, **spec)["spec"]
    return document


def _laid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping; None takes out."""
    both = dict(base)
    for key, value in over.items():
        mine = both.get(key)
        both[key] = _laid(mine if isinstance(mine, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return {key: value for key, value in both.items() if value is not None}


# -- drawing


def is_only_told(edits: Iterable[Edit]) -> bool:
    """Whether somebody wants to be told of releases and no more: a broken one stays with her, tried again for ever, until a
    person pins another. That is as it should be, and never quiet."""
    return any(each.spec.get("version") == {"updates": "notify"} for each in edits)


def wishes(rng: random.Random) -> dict[str, Any]:
    """Something that a person may want to be otherwise in a spec."""
    count = rng.randint(1, 3)
    return rng.choice(
        [
            {"allowlist": rng.sample(PEOPLE, rng.randint(0, 2))},
            {"components": {"add": rng.sample(COMPONENTS, rng.randint(0, 2))}},
            {"components": {"settings": {"hero_books": {"BOOKS_LIBRARIES": f"hero,lib{count}"}}}},
            {"components": {"settings": None}},
            {"components": {"publicPaths": ["/hero_books/share/"] if count > 1 else []}},
            {"version": {"pin": {"hero_books": rng.choice(("v0.3.0", "v0.3.1"))}}},
            {"version": {"pin": None}},
            {"version": {"updates": rng.choice(("apply", "notify"))}},
            {"keys": {"ssh": [KEY] if count > 1 else []}},
            {"keys": {"rotateEngineTokens": count}},
            {"keys": {"providers": {"openrouter": rng.choice(("default", "own", "none"))}}},
            {"identity": {"passwordReset": count}},
            {"identity": {"whenRemoved": rng.choice(("keep", "disable", "delete", "purge"))}},
            {"welcomeEmail": {"send": True, "resend": count}},
            {"machine": {"rebuild": count}},
            {"machine": {"keepAfterRemoval": rng.choice(("0s", "5m", "40m"))}},
        ]
    )


WEIGHTS = {
    "edit": 8,
    "remove": 3,
    "add": 3,
    "pause": 2,
    "break": 3,
    "expire": 1,
    "fleet": 2,
    "release": 1,
    "break_fleet": 1,
    "vanish": 1,
}
"""What is begun; what was begun is also ended: put back, resumed, mended, given a later last day."""

ENDS = {
    "remove": "put_back",
    "pause": "resume",
    "break": "mend",
    "expire": "extend",
    "break_fleet": "mend_fleet",
    "vanish": "reappear",
}
NOBODYS = frozenset({"fleet", "release", "break_fleet", "vanish"})
"""Edits of no tester's file."""
ENDING = {"pause": {"paused": None}, "expire": {"expires": None}}
ENDED_OFTEN = 0.7
FLEETS: Sequence[Mapping[str, Any]] = (
    {"admins": [{"account": "mik"}]},
    {"admins": [{"account": "mik"}, {"account": "sara"}]},
    {"forge": {"feedbackRepository": "geomind/feedback"}},
    {"defaults": {"allowlist": ["bob"]}},
    {"defaults": {"components": {"add": ["hero_slides"]}}},
    {"defaults": {"allowlist": [], "components": {"add": []}}},
)


def drawn(rng: random.Random, span: timedelta, testers: Sequence[str], *, count: int) -> tuple[Edit, ...]:
    """So many beginnings within the span, with their ends, in the order of time."""
    names, edits = list(testers), []
    for number in range(count):
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        at = _moment(rng, span)
        if kind == "add":
            names.append(f"new{chr(97 + number % 26)}{number // 26 or ''}")
        name = "" if kind in NOBODYS else names[-1] if kind == "add" else rng.choice(names)
        edits.append(Edit(at, kind, name, _spec(rng, kind)))
        if kind in ENDS and rng.random() < ENDED_OFTEN:
            later = at + _moment(rng, span - at)
            edits.append(Edit(later, ENDS[kind], name, ENDING.get(kind, {})))
    return tuple(sorted(edits, key=lambda edit: edit.at))


def _spec(rng: random.Random, kind: str) -> Mapping[str, Any]:
    match kind:
        case "add" | "edit":
            return wishes(rng)
        case "pause":
            return {"paused": PAUSE}
        case "expire":
            return {"expires": rng.randint(0, 1)}
        case "vanish":
            return rng.choice(({}, {"but": FLEET}))
        case "break" | "break_fleet":
            return {"how": rng.choice(list(SPOILING))}
        case "fleet":
            return rng.choice(FLEETS)
        case "release":
            return {"component": rng.choice(("hero_books", "hero_proxy")), "version": f"v0.4.{rng.randint(0, 2)}"}
    return {}


def _moment(rng: random.Random, span: timedelta) -> timedelta:
    return round(rng.random() * (span / SECOND), 3) * SECOND
