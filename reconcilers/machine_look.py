"""What a pass wants to know of a machine: one question for all the steps that live there, so that one round trip answers.

The question derives from the desired state and the recorded facts alone. Every step asks the same one, and the shared
look answers it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconcilers.backends.hiding import unnamed
from reconcilers.backends.machine import MachineAddress, MachineLook, MachineQuery, Question, question_of
from reconcilers.backends.probes import Probe, Side
from reconcilers.contract import TesterView
from reconcilers.errors import Transient
from reconcilers.facts import Facts, GatewayFacts, MachineAccessFacts, MachineFacts, SettingsFacts
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.looks import TesterLooks
from reconcilers.proof import FOREIGN_HOST, demands
from reconcilers.secret import HIDDEN, Secret
from reconcilers.wanted_settings import parse_place
from specs.catalogue import catalogue
from specs.desired import DesiredComponent, DesiredTester
from specs.ownership import GATE_SETTINGS

SIDES: tuple[Side, ...] = ("loopback", "inner")
WHETHER_LISTENING = Probe("inner", FOREIGN_HOST, "/")
"""Any answer to it means that the listener is on. Asked in every look."""
SHORTEST_HIDDEN = 8
"""Characters: anything shorter stands in a log by chance as well."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A machine at a moment (UTC, by our clock): when the look at it was begun, which may be some time ago.

    newest         component → its newest published version, as far as Forge has told
    wanted         the components that the step keeps
    authorize_url  where the front door must send strangers, for a step that starts something behind it
    """

    at: datetime
    look: MachineLook = field(default_factory=lambda: MachineLook(host_key=""))
    newest: Mapping[str, str] = field(default_factory=dict)
    wanted: tuple[DesiredComponent, ...] = ()
    authorize_url: str = ""


def machine_address(facts: Facts) -> MachineAddress:
    """Where the tester's machine is reached, and the host key that it must show, once one is pinned."""
    machine = facts.need(MachineFacts)
    access = facts.get(MachineAccessFacts)
    return MachineAddress(
        key=machine.key,
        host=machine.address,
        user=facts.fleet.spec.installer.user,
        host_key=access.host_key if access else None,
        hidden=tuple(facts.secrets.values()),
    )


def machine_system(facts: Facts) -> str:
    """How errors and waits name the machine."""
    return f"machine of {facts.tester}"


def machine_query(desired: DesiredTester, facts: Facts) -> MachineQuery:
    """Everything that the steps of a pass want to know. Pure; equal inputs ask the same question."""
    known, gateway = facts.get(SettingsFacts), facts.get(GatewayFacts)
    key = ("query", desired, tuple(known.handed) if known else (), gateway.fqdn if gateway else None)
    query = facts.memory.get("query")
    if query is None or query[0] != key:
        query = facts.memory["query"] = key, _machine_query(desired, facts)
    return query[1]


def machine_question(desired: DesiredTester, facts: Facts) -> Question:
    """The same as it is put: for all steps of a pass it is made once."""
    query = machine_query(desired, facts)
    known = facts.memory.get("question")
    if known is None or known[0] is not query:
        known = facts.memory["question"] = query, question_of(query)
    question: Question = known[1]
    return question


def _machine_query(desired: DesiredTester, facts: Facts) -> MachineQuery:
    settings = {(setting.context, setting.key) for setting in desired.settings}
    settings |= {(engine.context, engine.token_setting) for engine in desired.engines}
    known = facts.get(SettingsFacts)
    settings |= {parse_place(place) for place in known.handed} if known else set()
    return MachineQuery(
        components=tuple(dict.fromkeys((*(component.name for component in desired.components), *catalogue()))),
        health=tuple(component.health for component in desired.components if component.health),
        secrets=tuple(sorted(settings | GATE_SETTINGS)),
        probes=_probes(desired, facts),
    )


def _probes(desired: DesiredTester, facts: Facts) -> tuple[Probe, ...]:
    working = tuple(works_probe(component.sends) for component in desired.components if component.sends)
    gateway = facts.get(GatewayFacts)
    if gateway is None:
        return (WHETHER_LISTENING, *working)
    asked = demands(gateway.fqdn, desired)
    door = (Probe(side, each.host, each.path) for side in SIDES for each in asked)
    return (*door, *working)


def works_probe(path: str) -> Probe:
    """The request that only a working app answers: through hero_router, behind the front door."""
    return Probe("router", "127.0.0.1", path)


def is_listening(look: MachineLook) -> bool:
    """The port that the gateway reaches is open: set to be, seen to be, or not known to have been closed by a restart."""
    answer = look.probes.get(WHETHER_LISTENING)
    seen = answer is not None and answer.status is not None
    return seen or look.secrets.get(LISTENER_KEY) == LISTENER_ON


async def look_at(tester: TesterView, looks: TesterLooks) -> MachineLook:
    """One look at the tester's machine. Raises Unreachable, Transient, Blocked (HostKeyChanged)."""
    looks.question = machine_question(tester.desired, tester.facts)
    look = await looks.machine(machine_address(tester.facts))
    if not any(job.log for job in look.jobs.values()):
        return look
    hidden = _pieces(tester.facts.secrets.values())
    jobs = {name: replace(job, log=_without(job.log, hidden)) if job.log else job for name, job in look.jobs.items()}
    return replace(look, jobs=jobs)


async def newest_versions(tester: TesterView, looks: TesterLooks) -> dict[str, str]:
    """Component → the newest version of the tester's channel, as far as Forge has told. A release's name is its version (A)."""
    releases = await looks.releases(tester.facts.fleet, tester.desired.channel)
    return {name: release.name.strip() for name, release in releases.items() if release.name.strip()}


def redacted(text: str, hidden: Iterable[Secret]) -> str:
    """A log without any of these secrets: what programs print is shown to people (lesson 36, law 10)."""
    return _without(text, _pieces(hidden))


def _pieces(hidden: Iterable[Secret]) -> list[str]:
    """What must not be seen of them, longest first: values, and their lines."""
    pieces: set[str] = set()
    for secret in hidden:
        try:
            value = secret.text().strip()
        except ValueError:
            continue
        pieces |= {piece for piece in (value, *value.splitlines()) if len(piece.strip()) >= SHORTEST_HIDDEN}
    return sorted(pieces, key=lambda piece: (-len(piece), piece))


def _without(text: str, pieces: Iterable[str]) -> str:
    text = unnamed(text)
    for piece in pieces:
        text = _without_cut_off(text.replace(piece, HIDDEN), piece)
    return text


def _without_cut_off(text: str, piece: str) -> str:
    """A log is a tail: it may begin in the middle of a secret."""
    if text[:SHORTEST_HIDDEN] not in piece:
        return text
    for start in range(1, len(piece) - SHORTEST_HIDDEN + 1):
        if text.startswith(piece[start:]):
            return HIDDEN + text[len(piece) - start :]
    return text


async def look_supervised(tester: TesterView, looks: TesterLooks) -> Seen:
    """As `look_at`, for steps that can say nothing while hero_proc does not answer. Raises Transient SupervisorDown then."""
    look = await look_at(tester, looks)
    if not look.supervisor_up:
        raise Transient(
            "hero_proc does not answer: services and settings cannot be read until it does",
            system=machine_system(tester.facts),
            reason="SupervisorDown",
        )
    return Seen(looks.machine_at or looks.now(), look)
