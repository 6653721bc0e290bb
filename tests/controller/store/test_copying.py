"""The books copied from one database to another, and back: every row, and ids that go on."""

from __future__ import annotations

import pytest

from controller.records import AddEvent, PutCondition, PutTester, Seal
from controller.store import Keyring, Store, StoreError
from controller.store.copying import copy
from reconcilers.secret import Secret
from tests.controller.fakes import ManualClock
from tests.controller.store import samples


async def test_everything_arrives_and_comes_back(
    sqlite_with_tables: str,
    postgres_url: str,
    keyring: Keyring,
    clock: ManualClock,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = await Store.open(sqlite_with_tables, keyring, clock)
    names = [f"t{number}" for number in range(3)]
    for name in names:
        await store.write(
            PutTester(samples.a_tester(name)),
            AddEvent(samples.an_event(of=name)),
            PutCondition(samples.a_condition(of=name)),
            Seal(f"{name}/one_time_password", Secret("hunter2"), samples.NOON),
        )
    books = [await store.books(name) for name in names]
    events = await store.events()
    await store.aclose()

    back = f"sqlite:///{tmp_path_factory.mktemp('back')}/controller.db"
    count = copy(sqlite_with_tables, postgres_url)
    assert count == copy(postgres_url, back) == 12
    for url in (postgres_url, back):
        other = await Store.open(url, keyring, clock)
        assert [await other.books(name) for name in names] == books
        assert await other.events() == events
        await other.write(AddEvent(samples.an_event("another one", of="t0")))
        assert (await other.events(limit=1))[0].id == events[0].id + 1
        await other.aclose()
    with pytest.raises(StoreError, match="holds something already"):
        copy(sqlite_with_tables, postgres_url)
