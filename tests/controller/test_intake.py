"""Absent is not deleted: what a source says, and what follows for the rows (law 1)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from controller.intake import Edit, Revision, Taken, take_in
from controller.store import Store
from controller.store.sealing import Keyring
from specs.loading import load_folder
from tests.controller.fakes import FLEET, ManualClock

Read = Callable[[], "Revision"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "fleet"
    found.mkdir()
    fleet(found)
    for name in ("alice", "bob", "carol", "dora", "emil"):
        write_tester(found, name)
    return found


def fleet(folder: Path, **safety: int) -> None:
    import yaml

    body = FLEET.model_dump(mode="json", by_alias=True, exclude_unset=True)
    body["spec"]["safety"] = {"maxRemovals": 1, **safety}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(body))


def write_tester(folder: Path, name: str, *more: str) -> None:
    (folder / f"{name}.yaml").write_text(
        f"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {{name: {name}}}\n"
        f"spec:\n  identity: {{email: {name}@example.org}}\n" + "".join(more)
    )


async def read(folder: Path, store: Store, clock: ManualClock) -> Taken:
    loaded = load_folder(folder, clock.now().date(), frozenset(r.name for r in await store.testers()))
    revision = Revision("folder", str(sorted(loaded.files.items())), loaded)
    return await take_in(revision, store, clock, random.Random(1))


async def leaving(store: Store) -> list[str]:
    return [record.name for record in await store.testers() if record.leaving]


async def test_new_testers_get_a_row_a_uid_and_generation_one(folder: Path, store: Store, clock: ManualClock) -> None:
    taken = await read(folder, store, clock)
    assert taken.changed == ("alice", "bob", "carol", "dora", "emil")
    records = await store.testers()
    assert {record.generation for record in records} == {1}
    assert len({record.uid for record in records}) == 5


async def test_the_same_again_changes_nothing(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    commits = store.commits
    taken = await read(folder, store, clock)
    assert taken.changed == ()
    assert store.commits == commits


async def test_a_comment_is_no_change_and_a_field_raises_the_generation(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await read(folder, store, clock)
    path = folder / "alice.yaml"
    path.write_text("# hello\n" + path.read_text())
    assert (await read(folder, store, clock)).changed == ()
    write_tester(folder, "alice", "  allowlist: [bob]\n")
    assert (await read(folder, store, clock)).changed == ("alice",)
    record = await store.tester("alice")
    assert record is not None
    assert record.generation == 2


async def test_a_missing_file_removes_its_tester(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    (folder / "bob.yaml").unlink()
    assert (await read(folder, store, clock)).changed == ("bob",)
    assert await leaving(store) == ["bob"]


@pytest.mark.parametrize("broken", [b"", b"kind: [", b"\xff\xfe", b"apiVersion: hero.tester/v1\nkind: Tester\n"])
async def test_a_broken_file_removes_nobody_and_its_tester_stays_as_it_was(
    folder: Path, store: Store, clock: ManualClock, broken: bytes
) -> None:
    await read(folder, store, clock)
    (folder / "alice.yaml").write_bytes(broken)
    (folder / "bob.yaml").unlink()
    taken = await read(folder, store, clock)
    assert taken.changed == ()
    assert any("alice.yaml" in error for error in taken.errors)
    assert await leaving(store) == []
    record = await store.tester("alice")
    assert record is not None
    assert record.generation == 1
    assert "alice.yaml" in record.source_error
    write_tester(folder, "alice")
    assert (await read(folder, store, clock)).changed == ("bob",)
    mended = await store.tester("alice")
    assert mended is not None
    assert mended.source_error == ""


async def test_a_source_that_is_gone_or_empty_removes_nobody(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    for path in folder.iterdir():
        path.unlink()
    assert (await read(folder, store, clock)).changed == ()
    folder.rmdir()
    taken = await read(folder, store, clock)
    assert taken.changed == ()
    assert taken.errors
    assert await leaving(store) == []
    state = await store.source()
    assert state is not None
    assert not state.readable


async def test_without_the_fleet_nobody_is_removed(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    (folder / "fleet.yaml").unlink()
    (folder / "bob.yaml").unlink()
    await read(folder, store, clock)
    assert await leaving(store) == []


async def test_too_many_removals_are_held_until_the_fleet_names_them(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await read(folder, store, clock)
    for name in ("bob", "carol", "dora"):
        (folder / f"{name}.yaml").unlink()
    taken = await read(folder, store, clock)
    assert taken.held == ("bob", "carol", "dora")
    assert await leaving(store) == []
    (event,) = [e for e in await store.events() if e.reason == "TooManyRemovals"]
    assert "bob, carol, dora" in event.message
    fleet(folder, allowRemovals=2)
    assert (await read(folder, store, clock)).held == ("bob", "carol", "dora")
    fleet(folder, allowRemovals=3)
    assert (await read(folder, store, clock)).held == ()
    assert await leaving(store) == ["bob", "carol", "dora"]


async def stalled(store: Store) -> tuple[str, str] | None:
    """The fleet's own condition."""
    found = [(str(each.status), each.reason) for each in await store.conditions("") if each.type == "Stalled"]
    return found[0] if found else None


async def test_the_brake_is_a_condition_of_the_fleet(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    assert await stalled(store) is None
    texts = {name: (folder / f"{name}.yaml").read_text() for name in ("bob", "carol")}
    for name in texts:
        (folder / f"{name}.yaml").unlink()
    await read(folder, store, clock)
    assert await stalled(store) == ("True", "TooManyRemovals")
    (condition,) = await store.conditions("")
    assert "bob, carol" in condition.message
    assert "spec.safety.allowRemovals: 2" in condition.message
    commits = store.commits
    await read(folder, store, clock)
    assert store.commits == commits, "said once"
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    await read(folder, store, clock)
    assert await stalled(store) == ("False", "Moving")


LAST_DAY = "  expires: 2026-11-25\n"


async def test_many_that_expire_at_once_are_held_like_removals(folder: Path, store: Store, clock: ManualClock) -> None:
    for name in ("alice", "bob", "carol"):
        write_tester(folder, name, LAST_DAY)
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    taken = await read(folder, store, clock)
    assert (taken.held, taken.changed) == (("alice", "bob", "carol"), ())
    assert await leaving(store) == []
    assert await stalled(store) == ("True", "TooManyRemovals")
    (event,) = [each for each in await store.events() if each.reason == "TooManyRemovals"]
    assert "alice, bob, carol" in event.message
    commits = store.commits
    assert (await read(folder, store, clock)).held == ("alice", "bob", "carol")
    assert store.commits == commits
    fleet(folder, allowRemovals=3)
    taken = await read(folder, store, clock)
    assert (taken.held, taken.changed) == ((), ("alice", "bob", "carol"))
    assert await leaving(store) == ["alice", "bob", "carol"]
    assert await stalled(store) == ("False", "Moving")


async def test_expiries_and_removals_are_counted_together(folder: Path, store: Store, clock: ManualClock) -> None:
    write_tester(folder, "alice", LAST_DAY)
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    (folder / "bob.yaml").unlink()
    assert (await read(folder, store, clock)).held == ("alice", "bob")
    assert await leaving(store) == []
    fleet(folder, allowRemovals=1)
    assert (await read(folder, store, clock)).held == ("alice", "bob")
    fleet(folder, allowRemovals=2)
    assert (await read(folder, store, clock)).changed == ("alice", "bob")
    assert await leaving(store) == ["alice", "bob"]


async def test_who_has_left_already_does_not_count_against_the_next(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    write_tester(folder, "alice", LAST_DAY)
    write_tester(folder, "bob", "  expires: 2026-11-26\n")
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    assert (await read(folder, store, clock)).changed == ("alice",)
    clock.pass_by(timedelta(days=1))
    assert (await read(folder, store, clock)).changed == ("bob",)


async def test_an_expired_one_that_is_held_still_follows_its_file(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    for name in ("alice", "bob"):
        write_tester(folder, name, LAST_DAY)
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    await read(folder, store, clock)
    write_tester(folder, "alice", "  expires: 2027-01-01\n")
    taken = await read(folder, store, clock)
    assert (taken.held, taken.changed) == ((), ("alice", "bob")), "bob alone is not too many"
    assert await leaving(store) == ["bob"]


async def test_expiries_are_held_in_a_revision_with_a_broken_file_too(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    for name in ("alice", "bob"):
        write_tester(folder, name, LAST_DAY)
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    (folder / "carol.yaml").write_text("kind: [")
    assert (await read(folder, store, clock)).held == ("alice", "bob")
    assert await leaving(store) == []


async def test_put_back_while_leaving(folder: Path, store: Store, clock: ManualClock) -> None:
    await read(folder, store, clock)
    text = (folder / "bob.yaml").read_text()
    (folder / "bob.yaml").unlink()
    await read(folder, store, clock)
    (folder / "bob.yaml").write_text(text)
    assert (await read(folder, store, clock)).changed == ("bob",)
    record = await store.tester("bob")
    assert record is not None
    assert (record.leaving, record.generation) == (False, 3)


async def test_a_tester_that_moves_to_another_file_is_the_same_tester(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await read(folder, store, clock)
    (folder / "bob.yaml").rename(folder / "team.yaml")
    assert (await read(folder, store, clock)).changed == ()
    record = await store.tester("bob")
    assert record is not None
    assert record.source_file == "team.yaml"


async def test_a_file_that_was_renamed_and_broken_at_once_is_said_at_its_tester(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await read(folder, store, clock)
    (folder / "bob.yaml").unlink()
    write_tester(folder, "team", "  allowlist: {}\n")
    (folder / "team.yaml").write_text((folder / "team.yaml").read_text().replace("{name: team}", "{name: bob}"))
    await read(folder, store, clock)
    record = await store.tester("bob")
    assert record is not None
    assert not record.leaving
    assert "team.yaml" in record.source_error


async def test_an_expired_tester_leaves_and_its_file_keeps_its_row_until_it_goes(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    write_tester(folder, "alice", "  expires: 2026-11-25\n")
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=5))
    assert (await read(folder, store, clock)).changed == ()
    clock.pass_by(timedelta(days=1))
    assert (await read(folder, store, clock)).changed == ("alice",)
    assert await leaving(store) == ["alice"]
    commits = store.commits
    assert (await read(folder, store, clock)).changed == ()
    assert store.commits == commits
    (folder / "bob.yaml").unlink()
    assert (await read(folder, store, clock)).changed == ("bob",)
    (folder / "alice.yaml").unlink()
    assert (await read(folder, store, clock)).changed == ("alice",)
    record = await store.tester("alice")
    assert record is not None
    assert not record.named


async def test_a_later_last_day_brings_an_expired_tester_back(folder: Path, store: Store, clock: ManualClock) -> None:
    write_tester(folder, "alice", "  expires: 2026-11-25\n")
    await read(folder, store, clock)
    clock.pass_by(timedelta(days=6))
    await read(folder, store, clock)
    write_tester(folder, "alice", "  expires: 2027-01-01\n")
    assert (await read(folder, store, clock)).changed == ("alice",)
    assert await leaving(store) == []


# ------------------------------------------------------------------------------------------------ an edit alone


def revision_of(folder: Path, clock: ManualClock, edit: Edit | None = None) -> Revision:
    loaded = load_folder(folder, clock.now().date(), frozenset(("alice", "bob", "carol", "dora", "emil")))
    return Revision("folder", str(sorted(loaded.files.items())), loaded, edit=edit)


async def edited(folder: Path, store: Store, clock: ManualClock, of: str, *names: str) -> Taken:
    return await take_in(revision_of(folder, clock, Edit(of, frozenset(names))), store, clock, random.Random(1))


async def everything(store: Store) -> tuple[object, ...]:
    return (
        await store.testers(),
        await store.source(),
        await store.revisions(),
        [replace(each, id=0) for each in await store.events()],
    )


@pytest.fixture
async def other_store(clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open("sqlite://", Keyring.generate(), clock)
    yield opened
    await opened.aclose()


async def test_an_edit_comes_to_what_a_comparison_of_all_comes_to(
    folder: Path, store: Store, other_store: Store, clock: ManualClock
) -> None:
    before = revision_of(folder, clock)
    for each in (store, other_store):
        await take_in(before, each, clock, random.Random(1))
    write_tester(folder, "bob", "  allowlist: [alice]\n")
    write_tester(folder, "carol", "# a remark\n")
    whole = await read(folder, other_store, clock)
    taken = await edited(folder, store, clock, before.id, "bob", "carol")
    assert taken.changed == whole.changed == ("bob",)
    assert await everything(store) == await everything(other_store)
    commits = store.commits
    assert (await edited(folder, store, clock, before.id, "bob", "carol")).changed == ()  # it is none of that any more
    assert store.commits == commits


async def test_an_edit_of_what_is_not_in_force_is_compared_with_all(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await read(folder, store, clock)
    write_tester(folder, "bob", "  allowlist: [alice]\n")
    write_tester(folder, "carol", "  allowlist: [alice]\n")
    assert (await edited(folder, store, clock, "another", "bob")).changed == ("bob", "carol")


async def test_who_comes_or_goes_by_an_edit_is_compared_with_all(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    """The brake on removals counts everybody."""
    before = revision_of(folder, clock)
    await take_in(before, store, clock, random.Random(1))
    for name in ("alice", "bob"):
        write_tester(folder, name, "  expires: 2026-11-01\n")
    taken = await edited(folder, store, clock, before.id, "alice", "bob")
    assert taken.held == ("alice", "bob")
    held = revision_of(folder, clock)
    write_tester(folder, "carol", "  allowlist: [alice]\n")
    taken = await edited(folder, store, clock, held.id, "carol")
    assert (taken.held, taken.changed) == (("alice", "bob"), ("carol",))
    assert await stalled(store) == ("True", "TooManyRemovals")
