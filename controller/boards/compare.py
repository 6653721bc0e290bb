"""Desired against observed, field by field, each with the age of what is known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.queries import KnownFacts, TesterDetail
from controller.records import Condition, Status
from reconcilers.facts import (
    AccountFacts,
    EngineAccessFacts,
    GatewayFacts,
    MachineAccessFacts,
    MachineFacts,
    ObjectState,
    SettingsFacts,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
    WelcomeFacts,
)
from specs.desired import DesiredTester


@dataclass(frozen=True, slots=True)
class Line:
    """One field. `agrees`: None while nothing was seen of it. `wanted` "" for what nobody chooses."""

    topic: str
    field: str
    wanted: str
    seen: str
    agrees: bool | None
    changed_at: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Book:
    detail: TesterDetail
    facts: Mapping[str, KnownFacts]
    conditions: Mapping[str, Condition]

    @property
    def desired(self) -> DesiredTester:
        return self.detail.summary.record.desired

    def line(
        self, step: type[StepFacts], topic: str, field: str, wanted: str, seen: str, agrees: bool | None = None
    ) -> Line:
        """`agrees` None: judged by whether both say the same."""
        known = self.facts.get(step.step)
        if known is None or not seen:
            return Line(topic, field, wanted, "", None, None, None)
        same = agrees if agrees is not None else (not wanted or wanted == seen)
        return Line(topic, field, wanted, seen, same, known.changed_at, known.seen_at)

    def said(self, kind: str, topic: str, field: str, wanted: str, seen: str = "") -> Line:
        """A field of which only a condition tells whether it is so."""
        one = self.conditions.get(kind)
        if one is None or one.status is Status.UNKNOWN:
            return Line(topic, field, wanted, "", None, None, None)
        so = one.status is Status.TRUE
        shown = (seen or wanted) if so else one.message
        return Line(topic, field, wanted, shown, so, one.since, self.detail.seen_at.get(kind))


def compared(detail: TesterDetail) -> tuple[Line, ...]:
    """In the order in which a tester comes to life. Secrets are no part of it."""
    book = _Book(
        detail, {known.facts.step: known for known in detail.facts}, {one.type: one for one in detail.conditions}
    )
    parts = (_account, _machine, _access, _address, _door, _settings, _engines, _letter)
    return tuple(line for part in parts for line in part(book))


def _account(book: _Book) -> Iterator[Line]:
    wanted, known = book.desired.account, book.facts.get(AccountFacts.step)
    facts = known.facts if known else None
    seen = facts.account if isinstance(facts, AccountFacts) else ""
    yield book.line(AccountFacts, "Account", "name", wanted.name, seen, seen.casefold() == wanted.name.casefold())
    if isinstance(facts, AccountFacts):
        origin = "made by us" if facts.made_by_us else "adopted"
        yield book.line(AccountFacts, "Account", "origin", "adopted" if wanted.existing else "", origin)


def _machine(book: _Book) -> Iterator[Line]:
    wanted, known = book.desired.machine, book.facts.get(MachineFacts.step)
    facts = known.facts if known else None
    machine = facts if isinstance(facts, MachineFacts) else None
    row = next(
        (one for one in book.detail.objects if one.step == "machine" and one.state is ObjectState.EXISTING), None
    )
    told = row.identity if row is not None else {}
    node = f"{machine.daemon}/{machine.node_sid}" if machine else ""
    yield book.line(MachineFacts, "Machine", "node", wanted.node, node, wanted.node in ("auto", node))
    memory, disk = told.get("memory_mb", ""), told.get("disk_gb", "")
    both = wanted.disk_gb + wanted.rootfs_gb
    yield book.line(MachineFacts, "Machine", "memory", _size(wanted.memory_mb), _size(int(memory)) if memory else "")
    yield book.line(MachineFacts, "Machine", "disk and root", f"{both} GiB", f"{disk} GiB" if disk else "")
    yield book.line(MachineFacts, "Machine", "name and id", "", f"{machine.vm_name} ({machine.key})" if machine else "")
    yield book.line(MachineFacts, "Machine", "address", "", machine.address if machine else "")


def _access(book: _Book) -> Iterator[Line]:
    keys = len(book.desired.ssh_keys)
    text = f"{keys} key{'' if keys == 1 else 's'} and the installer's"
    yield book.said("MachineAccess", "SSH", "authorised keys", text, "exactly these")
    known = book.facts.get(MachineAccessFacts.step)
    facts = known.facts if known else None
    host = facts.host_key if isinstance(facts, MachineAccessFacts) else ""
    yield book.line(MachineAccessFacts, "SSH", "host key", "", f"pinned ({host.split(' ')[0]})" if host else "")


def _address(book: _Book) -> Iterator[Line]:
    wanted = book.desired.address
    known, app = book.facts.get(GatewayFacts.step), book.facts.get(SignInAppFacts.step)
    gateway = known.facts if known and isinstance(known.facts, GatewayFacts) else None
    fqdn = gateway.fqdn if gateway else ""
    label = fqdn.partition(".")[0]
    shown = f"{fqdn} (computed)" if gateway and gateway.computed else fqdn
    yield book.line(GatewayFacts, "Address", "public name", wanted, shown, wanted in ("auto", label))
    yield book.said("PublicReachable", "Address", "reachable", "from outside")
    facts = app.facts if app and isinstance(app.facts, SignInAppFacts) else None
    redirect = f"https://{fqdn}/oauth/callback" if fqdn else ""
    yield book.line(SignInAppFacts, "Address", "sign-in returns to", redirect, facts.redirect_uri if facts else "")


def _door(book: _Book) -> Iterator[Line]:
    yield book.said("SignInProtected", "Door", "asks for sign-in", "on every path", "on every path")
    yield book.said("InnerProtected", "Door", "from inside too", "on every path", "on every path")
    people = _few(book.desired.allowlist)
    yield book.said("Settings", "Door", "lets in", people, people)
    if book.desired.public_paths:
        paths = _few(book.desired.public_paths)
        yield book.said("SignInGate", "Door", "open to strangers", paths, paths)
    known = book.facts.get(SignInGateFacts.step)
    facts = known.facts if known and isinstance(known.facts, SignInGateFacts) else None
    if facts is not None:
        yield book.line(SignInGateFacts, "Door", "listener", "on", "on" if facts.listening else "off")


def _settings(book: _Book) -> Iterator[Line]:
    wanted = len(book.desired.settings)
    known = book.facts.get(SettingsFacts.step)
    written = known.facts.written if known and isinstance(known.facts, SettingsFacts) else 0
    one = book.conditions.get("Settings")
    so = one is not None and one.status is Status.TRUE
    yield book.line(SettingsFacts, "Settings", "in hero_proc", f"{wanted} of the spec", f"{written} written", so)


def _engines(book: _Book) -> Iterator[Line]:
    known = book.facts.get(EngineAccessFacts.step)
    facts = known.facts if known and isinstance(known.facts, EngineAccessFacts) else None
    for engine in book.desired.engines:
        there = facts is not None and engine.name in facts.engines
        proven = facts is not None and engine.name in facts.proven
        seen = "token registered, strangers refused" if proven else "token registered" if there else ""
        yield book.line(EngineAccessFacts, "Engines", engine.name, "a token of its own", seen, there)


def _letter(book: _Book) -> Iterator[Line]:
    known = book.facts.get(WelcomeFacts.step)
    facts = known.facts if known and isinstance(known.facts, WelcomeFacts) else None
    wanted = "sent once" if book.desired.welcome.send else "not sent"
    seen = {"": "", "off": "not sent", "sent": "sent once", "logged": "logged only", "sending": "being sent"}
    yield book.line(WelcomeFacts, "Letter", "welcome", wanted, seen.get(facts.state, facts.state) if facts else "")


def _size(mib: int) -> str:
    return f"{mib} MiB" if mib % 512 else f"{mib / 1024:g} GiB"


def _few(names: Iterable[str], most: int = 6) -> str:
    every = tuple(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
