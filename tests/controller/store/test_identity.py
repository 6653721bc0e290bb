"""Whose what the fleet makes at Forge is: one account, and who comes first stays until a person decides otherwise."""

from __future__ import annotations

import asyncio
import json

from alembic import command
from sqlalchemy import insert, text

from controller.records import ClaimForge, NameForgeOwner, PutTester
from controller.store import Keyring, Store, migrations, sqlite
from controller.store.address import normal
from controller.store.tables import facts, testers
from reconcilers.clock import Clock
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import MINUTE, NOON, a_tester


async def test_who_comes_first_stays(store: Store) -> None:
    assert await store.forge_owner() == ""
    await store.write(ClaimForge("controller", NOON))
    await store.write(ClaimForge("somebody", NOON + MINUTE), ClaimForge("another", NOON + MINUTE))
    assert await store.forge_owner() == "controller"


async def test_of_many_at_once_one_is_first(open_store: OpenStore) -> None:
    one, other = await open_store(), await open_store()
    names = [f"account-{number}" for number in range(8)]
    await asyncio.gather(*((one, other)[i % 2].write(ClaimForge(name, NOON)) for i, name in enumerate(names)))
    assert await one.forge_owner() == await other.forge_owner() in names


async def test_a_person_decides_who_follows_and_every_tester_s_books_tell(store: Store) -> None:
    await store.write(PutTester(a_tester()), ClaimForge("controller", NOON))
    before = await store.books("alice")
    await store.write(NameForgeOwner("successor", NOON + MINUTE))
    after = await store.books("alice")
    assert before is not None
    assert after is not None
    assert (before.forge_owner, after.forge_owner) == ("controller", "successor")


async def test_what_testers_knew_by_themselves_is_the_fleet_s_after_the_upgrade(
    empty_database_url: str, clock: Clock
) -> None:
    """Most of them decide, should they not agree; those who never knew do not count."""
    address = normal(empty_database_url)
    if address.get_backend_name() == "sqlite":
        sqlite.prepare(address)
    settings = migrations.config()
    known = {"alice": "controller", "bob": "controller", "carol": "somebody", "dora": ""}
    with migrations.migrating_engine(address).execution_options(**sqlite.FOR_WRITING).begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0002")
        for name, owner in known.items():
            connection.execute(insert(testers).values(**_row(name)))
            body = {"app_id": 5, "client_id": "c", "redirect_uri": "https://x/", **({"owner": owner} if owner else {})}
            row = {"tester": name, "step": "sign_in_app", "machine": "", "body": json.dumps(body), "at": NOON}
            connection.execute(insert(facts).values(**row))
    store = await Store.open(empty_database_url, Keyring.generate(), clock)
    assert await store.forge_owner() == "controller"
    await store.aclose()


async def test_a_store_without_anything_at_forge_has_no_owner_after_the_upgrade(
    empty_database_url: str, clock: Clock
) -> None:
    store = await Store.open(empty_database_url, Keyring.generate(), clock)
    assert await store.forge_owner() == ""
    await store.aclose()
    with migrations.migrating_engine(normal(empty_database_url)).connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet_identity")) == 0, (
            "the sealing key is made with an empty store"
        )


def _row(name: str) -> dict[str, object]:
    record = a_tester(name)
    row = {column.name: getattr(record, column.name) for column in testers.columns}
    return {**row, "desired": record.desired.model_dump_json()}
