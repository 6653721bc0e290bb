"""A mirror is only a copy: whatever happens to it, the source mends it by making it anew, and touches nothing else."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from controller.intake import Revision
from controller.sources import mirror as mirror_module
from controller.sources import program
from controller.sources.git import GitSource
from tests.controller.sources.upstream import Upstream, tester


async def test_a_broken_mirror_is_made_anew(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path
) -> None:
    source = source_of(upstream.path.as_uri())
    await source.read()
    for path in (tmp_path / "mirror" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    await source.read()
    assert (await source.read()).loaded.whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda mirror: (mirror / "refs/heads/main").write_text(""),  # as the power leaves it
        lambda mirror: (mirror / "refs/heads/main").write_text("1" * 40),
        lambda mirror: (mirror / "config").write_text("[["),
        lambda mirror: shutil.rmtree(mirror / "refs"),
        lambda mirror: shutil.rmtree(mirror),
    ],
)
async def test_a_mirror_that_cannot_be_fetched_any_more_is_made_anew(
    upstream: Upstream,
    source_of: Callable[..., GitSource],
    before: list[str],
    tmp_path: Path,
    damage: Callable[[Path], object],
) -> None:
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    damage(tmp_path / "mirror")
    upstream.save("fleet/alice.yaml", tester("alice") + "# anew\n")
    sha = upstream.commit()
    first, second = await source.read(), await source.read()
    assert first.id in {before[0], sha}  # what is not read changes nothing
    assert second.id == sha
    assert second.loaded.whole


async def test_a_mirror_made_anew_of_a_history_that_was_rewritten_meanwhile(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str], tmp_path: Path
) -> None:
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    shutil.rmtree(tmp_path / "mirror" / "objects" / "pack")
    upstream.git("commit", "--quiet", "--amend", "-m", "once more")
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "--quiet", "--prune=now")
    await source.read()
    revision = await source.read()  # the one in force is nowhere any more
    assert (revision.rewrites, revision.edit, revision.loaded.whole) == (before[0], None, True)


async def test_a_repository_that_a_broken_mirror_lies_in_is_left_alone(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path
) -> None:
    source = source_of(upstream.path.as_uri())
    await source.read()
    around = Upstream(tmp_path)
    around.commit("somebody else's")
    around.git("checkout", "--quiet", "-b", "work")
    theirs = around.git("rev-parse", "main")
    (tmp_path / "mirror" / "HEAD").write_text("")
    assert [(await source.read()).loaded.readable for _ in range(2)] == [False, True]
    assert around.git("rev-parse", "main") == theirs


async def test_what_many_fetches_leave_is_made_one(
    upstream: Upstream,
    source_of: Callable[..., GitSource],
    before: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror_module, "MOST_PACKS", 2)
    source, stop, packs = source_of(upstream.path.as_uri()), asyncio.Event(), tmp_path / "mirror" / "objects" / "pack"
    found = [revision async for revision in _several(source, stop, upstream, before)]
    assert [each.edit is not None for each in found] == [False, *[True] * 5]
    assert len(list(packs.glob("*.pack"))) <= 3
    for pack in packs.glob("*.idx"):
        pack.chmod(0o600)
        pack.write_bytes(b"")
    monkeypatch.setattr(mirror_module, "MOST_PACKS", 0)
    await source._tidied()  # it cannot
    await source.read()
    assert (await source.read()).loaded.whole


RUN = program.run


class Troubled:
    """The machine that git is run on has troubles of its own. `verb`: for which of its commands; "" for all."""

    def __init__(self, verb: str, ends: program.Ended | Exception) -> None:
        self.verb, self.ends, self.times = verb, ends, 0

    async def run(self, command: Sequence[str], *more: Any) -> program.Ended:
        if self.verb not in command and self.verb:
            return await RUN(command, *more)
        self.times += 1
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


TROUBLES = pytest.mark.parametrize(
    "ends",
    [TimeoutError(), OSError(errno.EMFILE, "Too many open files"), program.Ended(-9, b"", b"")],
    ids=["no time", "no handles", "no memory"],
)


@TROUBLES
async def test_a_sound_mirror_is_kept_through_troubles_of_our_own(
    upstream: Upstream,
    source_of: Callable[..., GitSource],
    monkeypatch: pytest.MonkeyPatch,
    ends: program.Ended | Exception,
) -> None:
    source = source_of(upstream.path.as_uri())
    sha = (await source.read()).id
    with monkeypatch.context() as patched:
        patched.setattr(mirror_module.program, "run", Troubled("", ends).run)
        assert not (await source.read()).loaded.readable
    assert (await source.mirror.commit(sha)).sha == sha


async def test_a_folder_that_cannot_be_listed_for_want_of_handles_says_nothing_about_the_mirror(
    upstream: Upstream, source_of: Callable[..., GitSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(upstream.path.as_uri())
    sha = (await source.read()).id

    def none_left() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(source.mirror, "_sweep", none_left)
        (error,) = (await source.read()).loaded.errors
    assert "Too many open files" in error.problem
    assert (await source.mirror.commit(sha)).sha == sha


@TROUBLES
async def test_a_mirror_that_cannot_be_made_smaller_stays_as_it_is(
    upstream: Upstream,
    source_of: Callable[..., GitSource],
    monkeypatch: pytest.MonkeyPatch,
    ends: program.Ended | Exception,
) -> None:
    source, troubled = source_of(upstream.path.as_uri()), Troubled("repack", ends)
    sha = (await source.read()).id
    monkeypatch.setattr(mirror_module, "MOST_PACKS", 0)
    with monkeypatch.context() as patched:
        patched.setattr(mirror_module.program, "run", troubled.run)
        for _ in range(3):
            await source._tidied()
    assert (await source.mirror.commit(sha)).sha == sha
    assert troubled.times == 1, "not again and again"


async def _several(
    source: GitSource, stop: asyncio.Event, upstream: Upstream, before: list[str]
) -> AsyncIterator[Revision]:
    number = 0
    async with aclosing(source.revisions(stop)) as revisions:
        async for revision in revisions:
            yield revision
            before[0], number = revision.id, number + 1
            if number == 6:
                return
            upstream.save("fleet/alice.yaml", tester("alice") + f"# {number}\n")
            upstream.commit()
            source.rescan()


async def test_what_a_git_that_was_killed_left_behind_does_not_matter(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path
) -> None:
    source = source_of(upstream.path.as_uri())
    await source.read()
    for left in ("config.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x", "objects/pack/.tmp-1-pack-x"):
        (tmp_path / "mirror" / left).touch()
    upstream.save("fleet/bob.yaml", tester("bob"))
    upstream.commit()
    assert set((await source.read()).loaded.testers) == {"alice", "bob"}
    assert not list((tmp_path / "mirror" / "objects" / "pack").glob("*tmp*"))
