"""What a tester at rest rests on: as it is remembered, and as it is kept in the store for the next start.

What is kept holds no answers, only marks of them, and no hours: these stand in the books.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from controller.passes.marks import Marked, Marker
from controller.world import World
from reconcilers.backends.machine import MachineAddress, MachineQuery, Question, Shape, question_of
from reconcilers.backends.probes import Probe
from reconcilers.contract import Renewal
from reconcilers.facts import FACTS
from reconcilers.listed import Read

Kinds = tuple[frozenset[str], frozenset[str]]
"""Types of conditions, and steps with facts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a machine was asked, and the digest of its answer."""

    address: MachineAddress
    question: Question
    digest: bytes | Marked = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rest:
    """`until`: then some step's turn is due, or a whole pass (`whole_by`). `renewals`: what falls due and needs neither. `needs`:
    the secrets that the spec refers to, `secrets`: a mark of their values. `dated`: the spec names a day. `seen`: what a look
    that finds all of it as it was has seen. `books`: the mark over those of the pass, b"" where none was made."""

    world: World
    since: datetime
    until: datetime
    whole_by: datetime
    renewals: tuple[Renewal, ...]
    reads: tuple[Read, ...]
    machine: Asked
    needs: tuple[str, ...]
    secrets: bytes
    dated: bool
    seen: Kinds
    books: bytes = field(default=b"", repr=False)


def body_of(rest: Rest, marker: Marker) -> str:
    """As it is kept. Raises TypeError when something that it rests on has no mark."""
    address, question, digest = rest.machine.address, rest.machine.question, rest.machine.digest
    body = {
        "since": rest.since.isoformat(),
        "until": rest.until.isoformat(),
        "whole_by": rest.whole_by.isoformat(),
        "renewals": {each.facts.step: each.kept() for each in rest.renewals},
        "reads": [[each.question, each.by, each.key, _mark(each, marker).hex()] for each in rest.reads],
        "machine": [address.key, address.host, address.user, address.host_key, address.port],
        "asked": [_text_of(question.shape), question.hosts],
        "answer": (digest.mark if isinstance(digest, Marked) else marker.of(digest)).hex(),
        "needs": rest.needs,
        "secrets": rest.secrets.hex(),
        "dated": rest.dated,
        "seen": [sorted(kinds) for kinds in rest.seen],
    }
    return packed(json.dumps(body, separators=(",", ":")))


def packed(text: str) -> str:
    """A third of it: most of what is asked is asked of everybody."""
    return b64encode(zlib.compress(text.encode(), 6)).decode()


def unpacked(body: str) -> str:
    """Raises ValueError for what was not packed."""
    try:
        return zlib.decompress(b64decode(body, validate=True)).decode()
    except zlib.error as error:
        raise ValueError("not packed") from error


def rest_of(body: str, books: bytes, hours: Mapping[str, str], world: World, now: datetime) -> Rest | None:
    """What was kept by this very program, in this world, with the hours that the books have now. None: it is over, or its hours
    are none that it could have. Raises ValueError, KeyError or TypeError for what this program did not write."""
    told: dict[str, Any] = json.loads(unpacked(body))
    whole_by = datetime.fromisoformat(told["whole_by"])
    renewals = [_renewal(step, kept, hours[step], world, now) for step, kept in told["renewals"].items()]
    if now >= whole_by or None in renewals:
        return None
    key, host, user, host_key, port = told["machine"]
    shape, hosts = told["asked"]
    conditions, facts = told["seen"]
    return Rest(
        world=world,
        since=datetime.fromisoformat(told["since"]),
        until=datetime.fromisoformat(told["until"]),
        whole_by=whole_by,
        renewals=tuple(each for each in renewals if each is not None),
        reads=tuple(Read(question, by, of, Marked(bytes.fromhex(mark))) for question, by, of, mark in told["reads"]),
        machine=Asked(
            MachineAddress(key, host, user, host_key, port),
            Question(_shape_of(shape), tuple(hosts)),
            Marked(bytes.fromhex(told["answer"])),
        ),
        needs=tuple(told["needs"]),
        secrets=bytes.fromhex(told["secrets"]),
        dated=told["dated"],
        seen=kinds_of(tuple(conditions), tuple(facts)),
        books=books,
    )


def told_again(read: Read, told: object, marker: Marker) -> Read | None:
    """The same with the answer itself, where the same is told once more; None: something else is."""
    if not isinstance(read.answer, Marked):
        return read if told is read.answer or told == read.answer else None
    again = replace(read, answer=told)
    return again if _mark(again, marker) == read.answer.mark else None


def answered_again(asked: Asked, digest: bytes, marker: Marker) -> Asked | None:
    """Likewise, of the machine."""
    if not isinstance(asked.digest, Marked):
        return asked if digest == asked.digest else None
    return replace(asked, digest=digest) if digest and marker.of(digest) == asked.digest.mark else None


@lru_cache(maxsize=64)
def kinds_of(conditions: tuple[str, ...], facts: tuple[str, ...]) -> Kinds:
    """Alike for most testers: one value for all."""
    return frozenset(conditions), frozenset(facts)


def _mark(read: Read, marker: Marker) -> bytes:
    if isinstance(read.answer, Marked):
        return read.answer.mark
    return marker.of_value(read.answer) if read.by else marker.of_whole(read.question, read.answer)


def _renewal(step: str, kept: str, facts: str, world: World, now: datetime) -> Renewal | None:
    return world.step(step).renewal_of(kept, FACTS[step].model_validate_json(facts), now)


@lru_cache(maxsize=64)
def _text_of(shape: Shape) -> str:
    return json.dumps(asdict(shape.query))


@lru_cache(maxsize=64)
def _shape_of(text: str) -> Shape:
    """The one that is asked of others as well. JSON has lists where a query has tuples."""
    told = json.loads(text)
    query = MachineQuery(
        components=tuple(told["components"]),
        health=tuple(told["health"]),
        secrets=tuple((context, key) for context, key in told["secrets"]),
        contexts=tuple(told["contexts"]),
        probes=tuple(Probe(**probe) for probe in told["probes"]),
        logs=tuple(told["logs"]),
    )
    return question_of(query).shape
