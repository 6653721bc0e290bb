"""The git source against real repositories: what is fetched is one commit, whole or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.intake import Edit
from controller.sources import judging, program
from controller.sources import mirror as mirror_module
from controller.sources.git import GitSource
from controller.sources.mirror import Entry, GitError, Mirror, Repository, TooLarge
from reconcilers.secret import Secret
from tests.controller.sources.upstream import Upstream, tester


async def test_a_commit_is_a_revision_with_the_one_who_made_it(
    upstream: Upstream, source_of: Callable[..., GitSource]
) -> None:
    source = source_of(upstream.path.as_uri())
    revision = await source.read()
    assert revision.id == upstream.git("rev-parse", "HEAD")
    assert set(revision.loaded.testers) == {"alice"}
    assert revision.loaded.whole
    assert sorted(revision.loaded.files) == ["alice.yaml", "fleet.yaml"]
    assert revision.commit is not None
    assert (revision.commit.author, revision.commit.subject) == ("Mik", "alice comes")
    assert abs(datetime.now(UTC) - revision.commit.at).total_seconds() < 3600
    assert source.good_at is not None


async def test_what_is_only_in_a_work_tree_or_on_another_branch_is_not_there(
    upstream: Upstream, source_of: Callable[..., GitSource]
) -> None:
    source = source_of(upstream.path.as_uri())
    first = await source.read()
    upstream.save("fleet/bob.yaml", tester("bob"))
    upstream.git("checkout", "--quiet", "-b", "other")
    upstream.commit()
    assert (await source.read()).id == first.id
    upstream.git("checkout", "--quiet", "main")
    upstream.git("merge", "--quiet", "--ff-only", "other")
    assert set((await source.read()).loaded.testers) == {"alice", "bob"}


async def test_of_a_commit_that_edits_a_few_files_only_these_are_read(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.save("fleet/bob.yaml", tester("bob"))
    upstream.save("fleet2/alice.yaml", "elsewhere")
    upstream.commit()
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    wholes: list[str] = []
    entries = Mirror.entries

    async def counted(self: Mirror, sha: str, folder: str) -> list[Entry]:
        wholes.append(sha)
        return await entries(self, sha, folder)

    monkeypatch.setattr(Mirror, "entries", counted)
    upstream.save("fleet/bob.yaml", tester("bob") + "  allowlist: [alice]\n")
    upstream.save("fleet2/alice.yaml", "elsewhere, edited")
    upstream.save("README.md", "no spec either")
    upstream.commit("bob lets alice in")
    edited = await source.read()
    assert edited.edit == Edit(before[0], frozenset({"bob"}))
    assert "alice" in edited.loaded.testers["bob"].desired.allowlist
    assert edited.commit is not None
    assert edited.commit.subject == "bob lets alice in"
    before[0] = edited.id
    monkeypatch.setattr(judging, "load_folder_content", None)
    assert await source.read() == replace(edited, edit=None)  # nor at the next rescan
    assert not wholes
    monkeypatch.undo()
    again = await source_of(upstream.path.as_uri()).read()
    assert (again.id, again.loaded) == (edited.id, edited.loaded)  # as a reading of the whole has it


async def test_what_is_more_than_an_edit_is_read_as_a_whole(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str]
) -> None:
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    upstream.save("fleet/bob.yaml", tester("bob"))  # comes
    upstream.commit()
    assert (await source.read()).edit is None  # nor when what was read before is not in force
    upstream.save("fleet/bob.yaml", tester("bob") + "  allowlist: [alice]\n")
    upstream.commit()
    assert (await source.read()).edit is None
    before[0] = upstream.git("rev-parse", "HEAD")
    (upstream.path / "fleet/bob.yaml").unlink()
    upstream.commit()
    gone = await source.read()
    assert (gone.edit, set(gone.loaded.testers), gone.loaded.whole) == (None, {"alice"}, True)
    before[0] = gone.id
    (upstream.path / "fleet/alice.yaml").unlink()
    (upstream.path / "fleet/alice.yaml").symlink_to("bob.yaml")
    upstream.commit()
    odd = await source.read()
    assert odd.edit is None
    assert not odd.loaded.whole
    before[0] = odd.id
    upstream.git("reset", "--quiet", "--hard", "HEAD~2")
    upstream.save("fleet/bob.yaml", tester("bob") + "# anew\n")
    upstream.commit()
    revision = await source.read()
    assert (revision.edit, revision.rewrites) == (None, odd.id)


async def test_an_edit_of_what_is_not_in_force_or_of_another_history_is_read_as_a_whole(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str]
) -> None:
    upstream.save("fleet/bob.yaml", tester("bob"))
    upstream.commit()
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    upstream.save("fleet/alice.yaml", tester("alice") + "  allowlist: [bob]\n")
    upstream.commit()
    assert (await source.read()).edit is not None
    upstream.save("fleet/bob.yaml", tester("bob") + "  allowlist: [alice]\n")
    upstream.commit()
    assert (await source.read()).edit is None  # what was read last was not taken in: alice would be forgotten
    before[0] = (await source.read()).id
    upstream.save("fleet/bob.yaml", tester("bob") + "  allowlist: [carol]\n")
    upstream.git("commit", "--quiet", "--all", "--amend", "-m", "once more")
    revision = await source.read()
    assert (revision.edit, revision.rewrites) == (None, before[0])


async def test_a_repository_that_cannot_be_fetched_tells_nothing_but_why(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str], tmp_path: Path
) -> None:
    source = source_of(upstream.path.as_uri())
    before[0] = (await source.read()).id
    seen = source.good_at
    upstream.path.rename(tmp_path / "away")
    gone = await source.read()
    assert gone.id == before[0]
    assert not gone.loaded.readable
    assert "stays in force" in str(gone.loaded.errors[0])
    assert source.good_at == seen
    (tmp_path / "away").rename(upstream.path)
    assert (await source.read()).loaded.whole


async def test_the_log_tells_when_it_cannot_be_read_and_when_that_is_over(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "controller")
    source = source_of(upstream.path.as_uri())
    await source.read()
    upstream.path.rename(tmp_path / "away")
    for _ in range(3):
        await source.read()
    (tmp_path / "away").rename(upstream.path)
    for _ in range(3):
        await source.read()
    told = [record.message.removeprefix(source.name)[:22] for record in caplog.records]
    assert told == [" cannot be read: git f", " can be read again"]


async def test_a_branch_that_is_not_there_is_said(upstream: Upstream, source_of: Callable[..., GitSource]) -> None:
    revision = await source_of(upstream.path.as_uri(), branch="prod").read()
    assert not revision.loaded.readable
    assert "prod" in str(revision.loaded.errors[0])


@pytest.mark.parametrize("folder", ["nowhere", "README.md"])
async def test_a_folder_that_is_not_there_removes_nobody(
    upstream: Upstream, source_of: Callable[..., GitSource], folder: str
) -> None:
    assert not (await source_of(upstream.path.as_uri(), folder=folder).read()).loaded.readable


async def test_rewritten_history_is_taken_and_said(
    upstream: Upstream, source_of: Callable[..., GitSource], before: list[str]
) -> None:
    source = source_of(upstream.path.as_uri())
    base = upstream.git("rev-parse", "HEAD")
    upstream.save("fleet/bob.yaml", tester("bob"))
    upstream.commit("bob comes")
    before[0] = (await source.read()).id
    assert (await source.read()).rewrites == ""
    upstream.git("reset", "--quiet", "--hard", base)
    upstream.save("fleet/carol.yaml", tester("carol"))
    upstream.commit("carol instead")
    revision = await source.read()
    assert revision.rewrites == before[0]
    assert set(revision.loaded.testers) == {"alice", "carol"}


async def test_odd_things_in_a_tree_are_refused_and_the_others_stay(
    upstream: Upstream, source_of: Callable[..., GitSource]
) -> None:
    (upstream.path / "fleet/link.yaml").symlink_to("/etc/passwd")
    upstream.save("fleet/huge.yaml", b"#" * (1024 * 1024 + 1))
    upstream.save("fleet/.hidden/eve.yaml", tester("eve"))
    upstream.save("fleet/deep/er/dave.yaml", tester("dave"))
    upstream.save("fleet/a\nb.yaml", tester("mallory"))
    upstream.commit()
    loaded = (await source_of(upstream.path.as_uri()).read()).loaded
    assert set(loaded.testers) == {"alice", "dave"}
    assert sorted(error.file for error in loaded.errors) == ["a\\nb.yaml", "huge.yaml", "link.yaml"]
    assert not loaded.whole


async def test_when_it_was_fetched_last_outlives_the_process(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path
) -> None:
    first = source_of(upstream.path.as_uri())
    await first.read()
    upstream.path.rename(tmp_path / "away")
    second = source_of(upstream.path.as_uri())
    assert second.good_at == first.good_at is not None
    assert f"{first.good_at:%Y-%m-%d %H:%M} UTC" in str((await second.read()).loaded.errors[0])


async def test_nothing_of_the_users_own_settings_is_used(
    upstream: Upstream, source_of: Callable[..., GitSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text('[url "file:///elsewhere/"]\n\tinsteadOf = "file:///"\n')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert (await source_of(upstream.path.as_uri()).read()).loaded.whole


async def test_an_error_never_tells_the_token(tmp_path: Path) -> None:
    token = Secret("s3cret-token-of-the-fleet")
    mirror = Mirror(Repository("http://127.0.0.1:1/fleet.git", token=token), tmp_path / "mirror")
    with pytest.raises(GitError) as caught:
        await mirror.fetch()
    assert "127.0.0.1" in str(caught.value)
    assert token.text() not in str(caught.value)
    assert not [path for path in (tmp_path / "mirror").rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


async def test_a_server_that_never_answers_is_given_up_and_its_helper_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, let_go = asyncio.Event(), asyncio.Event()

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()  # until the other side ends
        let_go.set()
        writer.close()

    server = await asyncio.start_server(heard, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for limit in (0.5, 4, 16):  # seconds: a busy machine may need some to ask
            monkeypatch.setattr(mirror_module, "FETCH_LIMIT", timedelta(seconds=limit))
            with pytest.raises(GitError, match="git fetch took longer than"):
                await Mirror(Repository(f"http://127.0.0.1:{port}/fleet.git"), tmp_path / "mirror").fetch()
            if came.is_set():
                break
        async with asyncio.timeout(20):
            await let_go.wait()


async def test_what_others_bring_is_fetched_only_up_to_a_size(upstream: Upstream, tmp_path: Path) -> None:
    mirror = Mirror(Repository(upstream.path.as_uri()), tmp_path / "mirror")
    base = await mirror.fetch()
    before = mirror.size()
    upstream.git("checkout", "--quiet", "-b", "theirs")
    upstream.save("film.bin", random.Random(1).randbytes(2 * 1024**2))
    sha = upstream.commit()
    with pytest.raises(TooLarge, match="more than 1 MiB"):
        await mirror.fetch_commit("refs/heads/theirs", sha, 1024**2)
    assert not list((tmp_path / "mirror" / "objects" / "pack").glob("tmp_*"))
    assert mirror.size() == before
    assert await mirror.fetch() == base  # it goes on
    await mirror.fetch_commit("refs/heads/theirs", sha, 3 * 1024**2)
    assert mirror.size() > before + 2 * 1024**2


async def test_a_few_objects_that_name_endless_files_end_it_and_not_us(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "LARGEST_ANSWER", 1024**2)
    blob = upstream.git("hash-object", "-w", "README.md")
    tree, kind = blob, "100644 blob"
    for _ in range(7):  # 10 million files
        lines = "".join(f"{kind} {tree}\tentry-{number}.yaml\n" for number in range(10))
        tree, kind = upstream.git("mktree", feed=lines), "040000 tree"
    upstream.git("update-ref", "refs/heads/main", upstream.git("commit-tree", "-m", "boom", tree))
    mirror = Mirror(Repository(upstream.path.as_uri()), tmp_path / "mirror")
    with pytest.raises(GitError, match="git ls-tree prints more than 1 MiB"):
        await mirror.entries(await mirror.fetch(), "")


@pytest.mark.parametrize(
    ("url", "branch"),
    [
        ("--upload-pack=touch /tmp/x", "main"),
        ("ext::sh -c touch% /tmp/x", "main"),
        ("ftp://example.test/x", "main"),
        ("https://mik:password@example.test/x", "main"),
        ("relative/path", "main"),
        ("https://example.test/x", "--force"),
        ("https://example.test/x", "a..b"),
        ("https://example.test/x", ""),
    ],
)
def test_addresses_that_git_must_never_see_are_refused(url: str, branch: str) -> None:
    with pytest.raises(ValueError, match=r"git|password|branch"):
        Repository(url, branch)


@pytest.mark.parametrize(
    ("token", "words"),
    [(None, "it asks for a token: --git-token says"), (Secret("hunter2"), "it does not take the token of --git-token")],
)
async def test_a_server_that_wants_another_token_is_told_in_words(
    tmp_path: Path, token: Secret | None, words: str
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/team/fleet"
        with pytest.raises(GitError, match=words):
            await Mirror(Repository(url, token=token), tmp_path / "mirror").fetch()
