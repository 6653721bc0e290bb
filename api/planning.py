"""Plans for a folder as it is now: what the next passes would do once it is taken in. Nothing is written anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from api.books import books_or_none
from api.complaint import Complaint
from api.worlds import opened_world
from controller.engine import fleet_references
from controller.in_use import kept_to_what_is_used, last_good_fleet
from controller.passes.preview import Preview, preview
from controller.places import Places
from controller.records import TesterBooks, TesterRecord
from controller.references import References
from controller.store import Store
from controller.telling.expected import expected
from controller.world import World
from reconcilers.clock import Clock
from reconcilers.secret import Secret
from specs.desired import needs_of_secret
from specs.errors import SpecError
from specs.loading import Loaded, load_folder
from specs.suggest import nearest


@dataclass(frozen=True)
class Planned:
    """One tester's plan. `provisional` is the uid that stands in for one that is not chosen yet, "" for a known tester."""

    preview: Preview
    provisional: str = ""


@dataclass(frozen=True)
class FolderPlan:
    """All plans, the errors of the folder, and testers whose removal would be held back."""

    plans: tuple[Planned, ...]
    errors: tuple[SpecError, ...] = ()
    held: tuple[str, ...] = ()


async def plan_folder(where: Places, names: tuple[str, ...], clock: Clock) -> FolderPlan:
    """Raises Complaint when there is no usable Fleet, or nobody of a name; StoreError, OutsideError as they come."""
    async with books_or_none(where, clock) as store:
        records = {record.name: record for record in await store.testers()}
        last = await last_good_fleet(store)
        loaded = load_folder(where.folder, clock.now().date(), frozenset(records), last)
        loaded = await kept_to_what_is_used(loaded, store)
        if loaded.fleet is None:
            raise Complaint(_no_fleet(loaded, where.folder))
        rows, held = expected(records, loaded, clock.now())
        chosen = _chosen(rows, names)
        async with opened_world(loaded.fleet, where.files, store, clock) as world:
            found = await asyncio.gather(*(_one(record, records, store, world, where.files) for record in chosen))
    return FolderPlan(tuple(found), loaded.errors, held)


async def plan_known(name: str, store: Store, world: World, references: References) -> Preview | None:
    """The plan of a tester as it was taken in last, in a world that is open already; None when there is no such tester."""
    books = await store.books(name)
    if books is None:
        return None
    return await preview(books, await _secrets(references, world, books.record), world, store)


def _no_fleet(loaded: Loaded, folder: Path) -> str:
    errors = " ".join(f"{error}." for error in loaded.errors[:3])
    return f"There is no usable Fleet in {folder}: {errors} `testerctl validate {folder}` shows everything."


def _chosen(expected: Mapping[str, TesterRecord], names: tuple[str, ...]) -> list[TesterRecord]:
    wanted = dict.fromkeys(names) if names else sorted(expected)
    strangers = [name for name in wanted if name not in expected]
    if strangers:
        raise Complaint(_stranger(strangers[0], expected))
    return [expected[name] for name in wanted]


def _stranger(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    hint = f" Did you mean {near}?" if near else ""
    return f"There is no tester {name} in the folder, as far as it can be read, and none in the books.{hint}"


async def _one(
    record: TesterRecord, records: Mapping[str, TesterRecord], store: Store, world: World, folder: Path
) -> Planned:
    books = await store.books(record.name) or TesterBooks(record)
    secrets = await _secrets(References(store, folder), world, record)
    found = await preview(replace(books, record=record), secrets, world, store)
    return Planned(found, provisional="" if record.name in records else record.uid)


async def _secrets(references: References, world: World, record: TesterRecord) -> dict[str, Secret]:
    """What the tester's own spec refers to, and the Fleet's credentials: what a pass is given too."""
    return await references.resolve([*fleet_references(world.fleet), *needs_of_secret(record.desired)])
