"""A real folder, watched: however editors and deployments write, what is read is whole, and nobody is lost by it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from controller.intake import Edit, Revision
from controller.sources import folder as source_module
from controller.sources import judging
from controller.sources.folder import FolderSource
from reconcilers.clock import SystemClock
from specs import memory
from specs.documents import FileContent, parse_file
from specs.fleet import Fleet
from specs.folder import CalledAway, Folder, FolderReader, never
from tests.controller.fakes import FLEET, until

KNOWN = frozenset({"alice", "bob"})


class ScriptedClock(SystemClock):
    """The real one, which lets a test do something in the middle of a reading and remembers how long was waited."""

    def __init__(self) -> None:
        self.then: list[Callable[[], object]] = []
        self.slept: list[timedelta] = []

    async def sleep(self, span: timedelta) -> None:
        self.slept.append(span)
        if self.then:
            self.then.pop(0)()
        await asyncio.sleep(0)


def put_tester(folder: Path, name: str, more: str = "") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text_of(name, more))
    return path


def text_of(name: str, more: str = "") -> str:
    return (
        f"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {{name: {name}}}\n"
        f"spec:\n  identity: {{email: {name}@example.org}}\n{more}"
    )


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    body = FLEET.model_dump(mode="json", by_alias=True, exclude_unset=True)
    (folder / "fleet.yaml").write_text(yaml.safe_dump(body))
    put_tester(folder, "alice")
    put_tester(folder, "bob")
    return folder


async def known() -> tuple[frozenset[str], Fleet | None]:
    return KNOWN, None


async def everybody() -> tuple[frozenset[str], Fleet | None]:
    return KNOWN | {"carol"}, None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "fleet")


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
def source(folder: Path, clock: ScriptedClock) -> FolderSource:
    return FolderSource(folder, clock, known)


def names(revision: Revision) -> set[str]:
    return set(revision.loaded.testers)


# ------------------------------------------------------------------------------------------------ one reading


async def test_a_reading_is_what_stands_there(source: FolderSource) -> None:
    revision = await source.read()
    assert names(revision) == {"alice", "bob"}
    assert revision.loaded.whole
    assert (await source.read()).id == revision.id


async def test_a_saved_file_is_parsed_once_and_the_others_not_again(
    source: FolderSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.read()
    parsed: list[str] = []

    def counted(file: str, data: bytes) -> FileContent:
        parsed.append(file)
        return parse_file(file, data)

    monkeypatch.setattr(memory, "parse_file", counted)
    put_tester(folder, "alice", "  allowlist: [bob]\n")
    revision = await source.read()
    assert "bob" in revision.loaded.testers["alice"].desired.allowlist
    assert parsed == ["alice.yaml"]
    assert (await source.read()).id == revision.id
    assert parsed == ["alice.yaml"]


async def test_the_day_and_who_is_known_are_asked_each_time(
    source: FolderSource, folder: Path, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was thought before holds for the day and the testers that it was thought for."""
    today = SystemClock().now()
    monkeypatch.setattr(clock, "now", lambda: today)
    put_tester(folder, "carol", f"  expires: {today.date()}\n")
    assert "carol" in names(await source.read())
    monkeypatch.setattr(clock, "now", lambda: today + timedelta(days=1))
    assert "carol" not in names(await source.read())  # it would be new, and is over
    monkeypatch.setattr(source, "_known", everybody)
    assert "carol" in names(await source.read())


async def test_a_file_that_is_truncated_and_written_again_is_read_whole(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    await source.read()
    (folder / "alice.yaml").write_text("")
    clock.then.append(lambda: put_tester(folder, "alice", "  allowlist: [bob]\n"))
    revision = await source.read()
    assert revision.loaded.whole
    assert revision.loaded.testers["alice"].desired.allowlist.count("bob") == 1


async def test_a_file_that_is_moved_away_first_is_not_missing(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    await source.read()
    path = folder / "alice.yaml"
    path.rename(folder / "alice.yaml~")
    clock.slept.clear()
    clock.then.append(lambda: put_tester(folder, "alice", "  allowlist: [bob]\n"))
    assert names(await source.read()) == {"alice", "bob"}
    assert sum(clock.slept[:2], timedelta()) >= timedelta(seconds=1)


async def test_a_file_that_is_away_when_the_controller_starts_is_given_the_same_time(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    (folder / "alice.yaml").rename(folder / "alice.yaml~")
    clock.then.append(lambda: (folder / "alice.yaml~").rename(folder / "alice.yaml"))
    assert names(await source.read()) == {"alice", "bob"}
    assert sum(clock.slept[:2], timedelta()) >= timedelta(seconds=1)


async def test_a_file_that_stays_away_is_gone(source: FolderSource, folder: Path) -> None:
    await source.read()
    (folder / "alice.yaml").unlink()
    revision = await source.read()
    assert names(revision) == {"bob"}
    assert revision.loaded.whole


async def test_a_folder_that_is_copied_anew_file_by_file_is_waited_for(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    await source.read()
    shutil.rmtree(folder)
    assert not (await source.read()).loaded.readable
    fill(folder)
    (folder / "alice.yaml").unlink()
    clock.slept.clear()
    clock.then.append(lambda: put_tester(folder, "alice"))
    revision = await source.read()
    assert sum(clock.slept[:2], timedelta()) >= timedelta(seconds=1)
    assert names(revision) == {"alice", "bob"}


async def test_in_a_folder_that_does_not_come_to_rest_nobody_is_absent(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    await source.read()
    (folder / "bob.yaml").unlink()
    clock.then.extend([partial(put_tester, folder, "alice", f"# {number}\n") for number in range(500)])
    revision = await source.read()
    assert not revision.loaded.whole
    assert any("does not come to rest" in str(error) for error in revision.loaded.errors)
    clock.then.clear()
    assert (await source.read()).loaded.whole


async def test_a_missing_or_empty_folder_tells_nothing(clock: ScriptedClock, tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "nowhere", clock, known)
    assert not (await source.read()).loaded.readable
    (tmp_path / "nowhere").mkdir()
    assert not (await source.read()).loaded.readable


async def test_a_pipe_does_not_stop_the_reading(source: FolderSource, folder: Path) -> None:
    os.mkfifo(folder / "carol.yaml")
    async with asyncio.timeout(20):
        revision = await source.read()
    assert names(revision) == {"alice", "bob"}
    assert not revision.loaded.whole


async def test_a_link_within_the_folder_counts_and_one_that_leaves_it_does_not(
    source: FolderSource, folder: Path, tmp_path: Path
) -> None:
    (folder / "bob.yaml").rename(folder / "bob.spec")
    (folder / "bob.yaml").symlink_to("bob.spec")
    assert names(await source.read()) == {"alice", "bob"}
    (tmp_path / "carol.yaml").write_text(text_of("carol"))
    (folder / "carol.yaml").symlink_to(tmp_path / "carol.yaml")
    revision = await source.read()
    assert names(revision) == {"alice", "bob"}
    assert not revision.loaded.whole


# ------------------------------------------------------------------------------------------------ watching


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[tuple[FolderSource, list[Revision], asyncio.Event]]:
    source, seen, stop = FolderSource(folder, SystemClock(), known), list[Revision](), asyncio.Event()

    async def follow() -> None:
        async for revision in source.revisions(stop):
            seen.append(revision)

    task = asyncio.ensure_future(follow())
    try:
        await until(lambda: bool(seen) or task.done())
        yield source, seen, stop
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task


def replaced(folder: Path, more: str) -> None:
    (folder / "alice.new").write_text(text_of("alice", more))
    (folder / "alice.new").rename(folder / "alice.yaml")


def moved_away_first(folder: Path, more: str) -> None:
    (folder / "alice.yaml").rename(folder / "alice.yaml~")
    put_tester(folder, "alice", more)


def written_in_place(folder: Path, more: str) -> None:
    put_tester(folder, "alice", more)


@pytest.mark.parametrize("save", [written_in_place, replaced, moved_away_first])
async def test_a_saved_file_is_picked_up_however_it_is_saved(folder: Path, save: Callable[[Path, str], None]) -> None:
    async with followed(folder) as (_, seen, _stop):
        save(folder, "  allowlist: [carol]\n")
        await until(lambda: "carol" in seen[-1].loaded.testers["alice"].desired.allowlist)
        assert all(names(revision) == {"alice", "bob"} for revision in seen)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Readings of a whole folder."""
    wholes: list[str] = []
    read = FolderReader.read

    def noted(self: FolderReader, called_away: Callable[[], bool] = never) -> Folder:
        wholes.append("whole")
        return read(self, called_away)

    monkeypatch.setattr(FolderReader, "read", noted)
    return wholes


async def test_of_an_edit_only_its_file_is_read_and_a_new_file_has_all_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wholes = counted(monkeypatch)
    async with followed(folder) as (_, seen, _stop):
        wholes.clear()
        written_in_place(folder, "  allowlist: [carol]\n")
        await until(lambda: "carol" in seen[-1].loaded.testers["alice"].desired.allowlist)
        replaced(folder, "  allowlist: [dora]\n")
        await until(lambda: "dora" in seen[-1].loaded.testers["alice"].desired.allowlist)
        assert wholes == []
        assert all(each.edit == Edit(of.id, frozenset({"alice"})) for of, each in pairwise(seen))
        told = seen[-1]
        put_tester(folder, "carol")
        await until(lambda: "carol" in seen[-1].loaded.testers)
        assert seen[-1].edit is None
        (folder / "carol.yaml").unlink()
        await until(lambda: seen[-1].id == told.id)  # as a reading of the whole has it


async def test_a_rescan_gives_way_to_an_edit_once_and_comes_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among thousands of files it takes a second, in which nobody should wait for an edit; and it is not put off for ever."""
    done, edited = list[str](), ["alice", "bob"]
    read = FolderReader.read

    def slow(self: FolderReader, called_away: Callable[[], bool] = never) -> Folder:
        if edited:  # during the first reading, and during the next
            done.append(edited.pop(0))
            put_tester(folder, done[-1], "  allowlist: [carol]\n")
            while called_away is not never and not called_away():
                time.sleep(0.001)
        try:
            return read(self, called_away)
        except CalledAway:
            done.append("gave way")
            raise

    async with followed(folder) as (source, seen, _stop):
        monkeypatch.setattr(FolderReader, "read", slow)
        source.rescan()
        await until(lambda: all("carol" in each.desired.allowlist for each in seen[-1].loaded.testers.values()))
    assert done == ["alice", "gave way", "bob"]
    assert seen[1].edit == Edit(seen[0].id, frozenset({"alice"}))
    assert seen[2].edit is None


async def test_what_is_written_and_says_the_same_tells_nothing(folder: Path, source: FolderSource) -> None:
    paths = [str(folder / "alice.yaml"), str(folder / "alice.yaml.new"), str(folder / "notes.txt")]
    await source.read()
    assert await source.read_again(paths) is None
    put_tester(folder, "alice", "  allowlist: [bob]\n")
    assert await source.read_again(paths[1:]) is None
    revision = await source.read_again(paths)
    assert revision is not None
    assert revision.edit is not None
    assert revision == replace(await source.read(), edit=revision.edit)


async def test_what_stands_as_it_stood_is_neither_judged_nor_waited_for_again(
    source: FolderSource, folder: Path, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at each rescan; an edit in between is no reason to think about everybody."""
    await source.read()
    path = put_tester(folder, "alice", "  allowlist: [bob]\n")
    edited = await source.read_again([str(path)])
    monkeypatch.setattr(judging, "load_folder_content", None)
    clock.slept.clear()
    revision = await source.read()
    assert edited is not None
    assert (revision.id, revision.loaded, revision.edit) == (edited.id, edited.loaded, None)
    assert clock.slept == []
    monkeypatch.undo()
    (folder / "alice.yaml").unlink()
    await source.read()
    assert sum(clock.slept, timedelta()) >= timedelta(seconds=1)


async def test_an_edit_that_is_half_written_is_waited_for(
    source: FolderSource, folder: Path, clock: ScriptedClock
) -> None:
    await source.read()
    path = put_tester(folder, "alice", "  machine: {memory: 16GiB}\n")
    clock.then += [partial(put_tester, folder, "alice", "  machine: {memory: 16GiB, disk: 80GiB}\n")] * 2
    revision = await source.read_again([str(path)])
    assert revision is not None
    assert revision.edit is not None
    assert "80" in str(revision.loaded.testers["alice"].desired.machine.disk_gb)


@pytest.mark.parametrize("change", ["folder", "moved", "link", "gone", "fleet", "elsewhere"])
async def test_whatever_more_than_a_file_may_be_different_has_all_read(
    source: FolderSource, folder: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "team").mkdir()
    put_tester(folder / "team", "carol")
    await source.read()
    wholes = counted(monkeypatch)
    path = folder / "new"
    match change:
        case "folder":
            path.mkdir()
        case "moved":
            (folder / "team").rename(folder.parent / "team")
            path = folder / "team"
        case "link":
            path.symlink_to("alice.yaml")
        case "gone":
            path = folder / "alice.yaml"
            path.unlink()
        case "fleet":
            path = folder / "fleet.yaml"
            path.write_text(path.read_text() + "# anew\n")
        case "elsewhere":
            path = folder.parent / "bob.yaml"
    revision = await source.read_again([str(path)])
    assert revision is not None
    assert revision.edit is None
    assert wholes


async def test_where_links_lead_somewhere_names_tell_nothing(source: FolderSource, folder: Path) -> None:
    (folder / "bob.yaml").rename(folder / "bob.spec")
    (folder / "bob.yaml").symlink_to("bob.spec")
    await source.read()
    (folder / "bob.spec").write_text(text_of("bob", "  allowlist: [alice]\n"))
    revision = await source.read_again([str(folder / "bob.spec")])
    assert revision is not None
    assert "alice" in revision.loaded.testers["bob"].desired.allowlist


async def test_a_folder_that_is_swapped_is_watched_on(folder: Path, tmp_path: Path) -> None:
    async with followed(folder) as (_, seen, _stop):
        other = fill(tmp_path / "other")
        put_tester(other, "carol")
        folder.rename(tmp_path / "old")
        other.rename(folder)
        await until(lambda: "carol" in seen[-1].loaded.testers)
        put_tester(folder, "dora")
        await until(lambda: "dora" in seen[-1].loaded.testers)
        assert all(revision.loaded.testers or not revision.loaded.readable for revision in seen)


async def test_a_link_to_the_folder_that_is_turned_is_followed(folder: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "current", fill(tmp_path / "other")
    put_tester(other, "carol")
    link.symlink_to(folder)
    async with followed(link) as (_, seen, _stop):
        (tmp_path / "next").symlink_to(other)
        (tmp_path / "next").replace(link)
        await until(lambda: "carol" in seen[-1].loaded.testers)
        put_tester(other, "dora")
        await until(lambda: "dora" in seen[-1].loaded.testers)


async def test_a_folder_that_comes_later_is_found(tmp_path: Path) -> None:
    async with followed(tmp_path / "fleet") as (_, seen, _stop):
        assert not seen[0].loaded.readable
        fill(tmp_path / "fleet")
        await until(lambda: "alice" in seen[-1].loaded.testers)


async def test_a_rescan_reads_again_though_nothing_has_changed(folder: Path) -> None:
    async with followed(folder) as (source, seen, _stop):
        before = len(seen)
        source.rescan()
        await until(lambda: len(seen) > before)
        assert seen[-1].id == seen[0].id


async def test_a_system_that_refuses_to_watch_leaves_the_rescan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> object:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(source_module, "awatch", refuse)
    async with followed(folder) as (source, seen, _stop):
        put_tester(folder, "carol")
        source.rescan()
        await until(lambda: "carol" in seen[-1].loaded.testers)


async def test_what_known_raises_ends_the_reading_and_not_the_controller(folder: Path) -> None:
    async def broken() -> tuple[frozenset[str], Fleet | None]:
        if asked:
            raise RuntimeError("the store")
        asked.append(True)
        return await known()

    asked: list[bool] = []
    stop = asyncio.Event()
    source = FolderSource(folder, SystemClock(), broken)

    async def follow() -> None:
        async for _ in source.revisions(stop):
            source.rescan()

    with pytest.raises(RuntimeError):
        await follow()
    assert not stop.is_set()
