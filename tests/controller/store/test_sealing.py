"""Sealed secrets open under their own name and key only; keys are made, refused, changed and dropped as people expect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from controller.records import AddEvent, PutTester, Seal, Void
from controller.store import Keyring, KeySource, SealingError, Store, open_keyring
from controller.store.address import normal
from controller.store.migrations import migrating_engine
from controller.store.sealing import VARIABLE, SealingKey
from reconcilers.clock import Clock
from reconcilers.secret import Secret
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import NOON, a_tester, an_event

CANARY = b"c4n4ry-5e4led-in-the-c0al-mine"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "sealing.key"


def keys_in(file: Path) -> list[str]:
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_text().split()


def run_sql(url: str, statement: str) -> None:
    engine = migrating_engine(normal(url))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


# ------------------------------------------------------------------------------------------------ boxes


@pytest.mark.parametrize("value", [b"", b"\x00\xff\n", b"x" * 100_000])
def test_a_box_opens_to_the_same_bytes(keyring: Keyring, value: bytes) -> None:
    key_id, box = keyring.seal("alice/key", Secret(value))
    assert keyring.open("alice/key", key_id, box) == Secret(value)
    assert not value or value not in box


def test_the_same_value_is_never_sealed_alike(keyring: Keyring) -> None:
    assert keyring.seal("alice/key", Secret("v")) != keyring.seal("alice/key", Secret("v"))


def test_a_changed_box_does_not_open(keyring: Keyring) -> None:
    key_id, box = keyring.seal("alice/key", Secret(CANARY))
    broken = [box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :] for at in range(len(box))]
    for each in [*broken, box[:-1], box[:5], b""]:
        with pytest.raises(SealingError, match="'alice/key' does not open"):
            keyring.open("alice/key", key_id, each)


def test_keys_and_rings_do_not_show_themselves(keyring: Keyring) -> None:
    shown = f"{keyring!r} {keyring.primary!r} {KeySource({VARIABLE: keyring.primary.text()}, Path('k'))!r}"
    assert keyring.primary.text() not in shown
    assert keyring.primary.id in shown


async def test_swapped_rows_do_not_open(store: Store, any_database_url: str) -> None:
    await store.write(Seal("alice/key", Secret("a"), NOON), Seal("bob/key", Secret("b"), NOON))
    run_sql(any_database_url, "UPDATE sealed SET name = 'x' || name")
    run_sql(
        any_database_url, "UPDATE sealed SET name = CASE WHEN name = 'xalice/key' THEN 'bob/key' ELSE 'alice/key' END"
    )
    for name in ("alice/key", "bob/key"):
        with pytest.raises(SealingError, match=name):
            await store.sealed(name)


async def test_a_sealed_value_is_nowhere_on_the_disk(sqlite_url: str, keyring: Keyring, clock: Clock) -> None:
    store = await Store.open(sqlite_url, keyring, clock)
    await store.write(Seal("alice/key", Secret(CANARY), NOON), AddEvent(an_event("a mark that is found")))
    folder = Path(str(make_url(sqlite_url).database)).parent
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    await store.aclose()
    files["closed"] = (folder / "controller.db").read_bytes()
    assert "controller.db-wal" in files
    assert b"a mark that is found" in files["controller.db-wal"]
    assert b"a mark that is found" in files["closed"]
    assert not [name for name, content in files.items() if CANARY in content]


# ------------------------------------------------------------------------------------------------ where keys come from


def test_the_first_key_is_made_with_an_empty_store(key_file: Path) -> None:
    made = open_keyring({}, key_file, store_is_empty=True)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key_file.parent.stat().st_mode & 0o777 == 0o700
    assert list(key_file.parent.iterdir()) == [key_file]
    assert open_keyring({}, key_file, store_is_empty=False) == made
    assert open_keyring({}, key_file, store_is_empty=True) == made


def test_a_filled_store_without_its_key_is_an_error_that_says_so(key_file: Path) -> None:
    with pytest.raises(SealingError, match="sealing key is missing"):
        open_keyring({VARIABLE: " "}, key_file, store_is_empty=False)
    assert not key_file.exists()


def test_the_environment_wins_and_makes_no_file(key_file: Path) -> None:
    keys = [SealingKey.generate() for _ in range(2)]
    ring = open_keyring({VARIABLE: f"{keys[0].text()}, {keys[1].text()},"}, key_file, store_is_empty=True)
    assert [key.id for key in ring.keys] == [key.id for key in keys]
    assert not key_file.exists()
    with pytest.raises(SealingError, match=VARIABLE):
        ring.rotated()


@pytest.mark.parametrize("unfit", ["short", "ключ", "A" * 44 + "!", "Zm9v" * 20])
def test_an_unfit_key_is_refused_without_being_shown(key_file: Path, unfit: str) -> None:
    with pytest.raises(SealingError) as refused:
        open_keyring({VARIABLE: unfit}, key_file, store_is_empty=True)
    assert unfit not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_is_refused(key_file: Path, mode: int) -> None:
    open_keyring({}, key_file, store_is_empty=True)
    key_file.chmod(mode)
    with pytest.raises(SealingError, match="chmod 600"):
        open_keyring({}, key_file, store_is_empty=True)


def test_a_key_file_that_is_none_is_refused(key_file: Path) -> None:
    key_file.parent.mkdir()
    key_file.touch(mode=0o600)
    with pytest.raises(SealingError, match="no sealing key"):
        open_keyring({}, key_file, store_is_empty=True)
    key_file.unlink()
    os.mkfifo(key_file, 0o600)
    with pytest.raises(SealingError, match="not a plain file"):
        open_keyring({}, key_file, store_is_empty=True)
    key_file.unlink()
    key_file.mkdir(0o700)
    with pytest.raises(SealingError):
        open_keyring({}, key_file, store_is_empty=True)


def test_a_broken_link_is_a_missing_key_and_not_a_place_for_a_new_one(key_file: Path, tmp_path: Path) -> None:
    key_file.parent.mkdir()
    key_file.symlink_to(tmp_path / "unmounted")
    with pytest.raises(SealingError, match="cannot be read"):
        open_keyring({}, key_file, store_is_empty=True)


async def test_a_store_makes_its_key_once_and_asks_for_it_afterwards(
    any_database_url: str, key_file: Path, clock: Clock
) -> None:
    source = KeySource({}, key_file)
    store = await Store.open(any_database_url, source, clock)
    await store.write(PutTester(a_tester()))
    await store.aclose()
    await (await Store.open(any_database_url, source, clock)).aclose()
    os.unlink(key_file)
    with pytest.raises(SealingError, match="missing"):
        await Store.open(any_database_url, source, clock)
    assert not os.listdir(key_file.parent)


async def test_a_store_refuses_keys_that_do_not_open_it(open_store: OpenStore, keyring: Keyring) -> None:
    first = await open_store()
    await first.write(Seal("alice/key", Secret("k"), NOON), Void("alice/key"))
    with pytest.raises(SealingError, match=keyring.primary.id):
        await open_store(Keyring.generate())


# ------------------------------------------------------------------------------------------------ changing keys


async def test_keys_change_without_a_secret_being_lost(any_database_url: str, key_file: Path, clock: Clock) -> None:
    source = KeySource({}, key_file)
    store = await Store.open(any_database_url, source, clock)
    names = [f"alice/{n}" for n in range(3)]
    await store.write(*(Seal(name, Secret(name), NOON) for name in names), Void(names[0]))
    old = store.keyring.primary

    fresh = store.keyring.rotated()
    assert keys_in(key_file) == [fresh.primary.text(), old.text()]
    with pytest.raises(SealingError, match="reseal"):
        await store.drop_old_keys()
    assert await store.reseal(fresh) == 3
    assert await store.reseal() == 0
    await store.drop_old_keys()
    assert keys_in(key_file) == [fresh.primary.text()]
    assert [await store.sealed(name) for name in names] == [None, Secret(names[1]), Secret(names[2])]
    await store.aclose()

    again = await Store.open(any_database_url, source, clock)
    assert await again.sealed(names[1]) == Secret(names[1])
    await again.aclose()
    with pytest.raises(SealingError, match=fresh.primary.id):
        await Store.open(any_database_url, KeySource({VARIABLE: old.text()}, key_file), clock)


async def test_a_process_that_runs_meanwhile_follows_the_key_file(
    any_database_url: str, key_file: Path, clock: Clock
) -> None:
    """`testerctl` changes the key while the controller runs: the controller neither loses a secret nor seals with the old key."""
    running = await Store.open(any_database_url, KeySource({}, key_file), clock)
    await running.write(Seal("alice/one", Secret("1"), NOON))
    other = await Store.open(any_database_url, KeySource({}, key_file), clock)
    await other.reseal(other.keyring.rotated())
    await other.drop_old_keys()

    assert await running.sealed("alice/one") == Secret("1")
    await running.write(Seal("alice/two", Secret("2"), NOON))
    assert await other.sealed("alice/two") == Secret("2")
    for store in (running, other):
        await store.aclose()


async def test_a_row_that_does_not_open_leaves_all_keys_as_they_were(
    any_database_url: str, key_file: Path, clock: Clock
) -> None:
    store = await Store.open(any_database_url, KeySource({}, key_file), clock)
    await store.write(Seal("alice/a", Secret("a"), NOON), Seal("alice/b", Secret("b"), NOON))
    run_sql(any_database_url, "UPDATE sealed SET name = 'alice/z' WHERE name = 'alice/b'")
    with pytest.raises(SealingError, match="alice/z"):
        await store.reseal(store.keyring.rotated())
    with pytest.raises(SealingError, match="reseal"):
        await store.drop_old_keys()
    assert await store.sealed("alice/a") == Secret("a")
    await store.aclose()
