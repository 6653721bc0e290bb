"""A bare mirror of one branch of a git repository, by the `git` program: fetched with a time-out, read without a work tree.

The mirror can be thrown away at any time: whatever is wrong with it is mended by making it anew. Nothing of the machine's own
git settings is used, no question is ever asked on a terminal, and no credential stands in an address, an argument or an error.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from controller.records import Commit
from controller.sources import program
from controller.sources.fetched import note_fetched
from reconcilers.secret import HIDDEN, Secret

FETCH_LIMIT: Final = timedelta(seconds=60)
READ_LIMIT: Final = timedelta(seconds=30)
MOST_PACKS: Final = 100
"""Each fetch of something new leaves a file. A hundred cost nothing that can be seen, a thousand as much as the fetch."""
LONGEST_ERROR: Final = 300
_SCHEMES: Final = ("https", "http", "ssh", "file")
_SSH_SHORT: Final = re.compile(r"([\w.-]+@)?\w[\w.-]*:[^:\s-]\S*")
_OF_SSH: Final = ("Host key verification failed", "Permission denied", "Could not resolve hostname")
"""What ssh says before git says only that it could not read."""
_ASKS_WHO: Final = ("askpass", "could not read Username", "Authentication failed")
"""What git says when the server wants to know who we are, or does not believe it."""
_NO_BRANCH: Final = (*" :~^?*[\\", "..", "@{")
_ABOUT: Final = "--format=%an%x00%s%x00%ct"
_GIT: Final = shutil.which("git") or "git"


class GitError(Exception):
    """Why a repository could not be fetched or read, as one readable sentence without credentials."""


class TooLarge(GitError):
    """More than may be fetched."""


class SaidNo(GitError):
    """Git itself ran to its end, and says so."""


@dataclass(frozen=True)
class Repository:
    """Where the specs are. `url`: https, ssh (also `user@host:path`), or file; without credentials.

    `token` is sent as the password of `user` over http(s); `key` is the path of a private key for ssh, whose host must be
    in `known_hosts` (the user's own when empty).
    """

    url: str
    branch: str = "main"
    folder: str = ""
    user: str = "token"
    token: Secret | None = None
    key: Path | None = None
    known_hosts: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, saying how to mend it, for an address or a branch that git must never see."""
        parts = urlsplit(self.url) if "://" in self.url else None
        if parts is None and _SSH_SHORT.fullmatch(self.url) is None:
            raise ValueError(f"{self.url!r} is no git address: use https://…, ssh://… or user@host:path")
        if parts is not None and parts.scheme not in _SCHEMES:
            raise ValueError(f"git over {parts.scheme!r} is not supported: use https or ssh")
        if parts is not None and parts.password is not None:
            raise ValueError("the address holds a password: say with --git-token where it is kept, like env:GIT_TOKEN")
        if (
            not self.branch
            or self.branch.startswith(("-", "+", "/"))
            or any(sign in self.branch for sign in _NO_BRANCH)
        ):
            raise ValueError(f"{self.branch!r} is no name of a branch")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit. `mode` as git writes it: 100644 and 100755 are ordinary files."""

    path: str
    mode: str
    sha: str
    size: int


@dataclass(frozen=True, slots=True)
class Differing:
    """A file that differs between two commits. `modes`: before and after; 000000 where there is none. `sha`: of what it holds
    after."""

    path: str
    modes: tuple[str, ...]
    sha: str


class Mirror:
    """One branch of one repository in `path`. Used by one task at a time."""

    def __init__(self, repository: Repository, path: Path) -> None:
        self.repository = repository
        self.path = path
        self._ref = f"refs/heads/{repository.branch}"
        self._packs_left = 0  # by a repack that failed

    async def fetch(self) -> str:
        """Bring the branch up to date, rewritten or not. Returns the commit that it is at.

        Raises GitError when the repository cannot be reached in time, refuses, or has no such branch.
        """
        await self._made()
        # "+": a branch that was force-pushed is taken as it is now.
        refspec = f"+{self._ref}:{self._ref}"
        what = ("fetch", "--quiet", "--no-tags", "--prune", "--", self.repository.url, refspec)
        try:
            await self._git(*what, limit=FETCH_LIMIT)
        except GitError:
            await self._doubted()
            raise
        return (self.path / "FETCH_HEAD").read_text().split()[0]

    def fetched(self, at: datetime) -> None:
        """Write down when the branch was fetched and read without an error, for whoever asks (`fetched_at`)."""
        note_fetched(self.path, at)

    async def fetch_commit(self, ref: str, sha: str, most: int) -> None:
        """Bring one more ref (`refs/pull/7/head`) without touching the branch.

        Raises TooLarge when what is new of it takes more than so many bytes, GitError for all else, also when it is not `sha`.
        """
        await self._made()
        kept = f"refs/heads-of-others/{ref.removeprefix('refs/')}"
        what = ("fetch", "--quiet", "--no-tags", "--", self.repository.url, f"+{ref}:{kept}")
        try:
            await self._git(*what, limit=FETCH_LIMIT, largest_file=most)
        except GitError:
            left = (file.stat().st_size for file in self.path.glob("objects/pack/tmp_*"))
            if max(left, default=0) >= most // program.BLOCK * program.BLOCK:
                raise TooLarge(f"it brings more than {most // 1024**2} MiB that are new") from None
            raise
        finally:
            self._sweep()
        found = (await self._git("rev-parse", "--verify", f"{kept}^{{commit}}")).decode().strip()
        if found != sha:
            raise GitError(f"{ref} is at {found[:12]} by now, not at {sha[:12]}")

    async def commit(self, sha: str) -> Commit:
        """Who made it, and what for. Raises GitError."""
        told = await self._git("log", "--max-count=1", "--no-patch", "--no-show-signature", _ABOUT, sha)
        return _commit(sha, *told.split(b"\x00"))

    async def follows(self, sha: str, earlier: str) -> bool:
        """Whether a commit has another one among its ancestors: no, when history was rewritten, or that one is not known here.
        Raises GitError."""
        return await self.fork_point(sha, earlier) == earlier

    async def fork_point(self, sha: str, other: str) -> str:
        """The newest commit that both come from; "" when there is none, or one of them is not known here. Raises GitError."""
        base = await self._git("merge-base", other, sha, fine=(0, 1, 128))
        return base.decode().strip()

    async def entries(self, sha: str, folder: str) -> list[Entry]:
        """Every file of a commit below a folder ("" for all), with its path relative to that. Raises GitError."""
        tree = f"{sha}:{folder.strip('/')}" if folder.strip("/") else f"{sha}^{{tree}}"
        told = await self._git("ls-tree", "-r", "-z", "--long", "--full-tree", tree)
        found = []
        for line in told.split(b"\x00"):
            if line:
                about, _, path = line.partition(b"\t")
                mode, _, blob, size = about.decode().split()
                name = path.decode("utf-8", "surrogateescape")
                found.append(Entry(name, mode, blob, int(size) if size.isdigit() else 0))
        return found

    async def change(self, sha: str, before: str, folder: str) -> tuple[Commit, list[Differing]]:
        """Who made a commit, and every file below a folder ("" for all) in which it differs from another one, with its path
        relative to that. Raises GitError."""
        where = [f"--relative={folder.strip('/')}/"] if folder.strip("/") else []
        how = ("diff-tree", "--stdin", "--always", _ABOUT, "-r", "-z", "--raw", "--no-renames", *where)
        author, subject, at, *fields = (await self._git(*how, stdin=f"{sha} {before}\n".encode())).split(b"\x00")
        found = []
        for about, path in zip(fields[::2], fields[1::2], strict=False):
            modes_and_blobs = about.decode().strip("\n:").split()
            name = path.decode("utf-8", "surrogateescape")
            found.append(Differing(name, tuple(modes_and_blobs[:2]), modes_and_blobs[3]))
        return _commit(sha, author, subject, at), found

    async def contents(self, blobs: Sequence[str]) -> list[bytes]:
        """What these objects hold, in their order. Raises GitError."""
        if not blobs:
            return []
        told = await self._git("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
        found, at = [], 0
        for blob in blobs:
            end = told.index(b"\n", at)
            name, kind, size = (*told[at:end].decode().split(), "", "")[:3]
            if name != blob or kind != "blob":
                self.discard()
                raise GitError(f"the mirror {self.path} lacks an object: it is made anew at the next fetch")
            found.append(told[end + 1 : end + 1 + int(size)])
            at = end + 1 + int(size) + 1
        return found

    def size(self) -> int:
        """Bytes of what was fetched."""
        return sum(file.stat().st_size for file in self.path.glob("objects/pack/*.pack"))

    async def tidied(self) -> None:
        """What many fetches have left is made one file, without what a rewritten history left behind. Raises GitError; it is
        tried again when as many more have come."""
        packs = sum(1 for _ in self.path.glob("objects/pack/*.pack"))
        if packs - self._packs_left > MOST_PACKS:
            self._packs_left = packs
            await self._git("repack", "-a", "-d", "--quiet", limit=FETCH_LIMIT)
            self._packs_left = 0

    def discard(self) -> None:
        """Throw the mirror away: the next fetch makes it anew."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._packs_left = 0

    async def _made(self) -> None:
        self._sweep()
        if not (self.path / "HEAD").is_file():
            self.discard()
            self.path.mkdir(parents=True, mode=0o700)
            await self._git("init", "--quiet", "--bare", "--initial-branch", "unused", ".")

    async def _doubted(self) -> None:
        """A mirror that does not know its own branch any more (the power went, a disk was full) would never be fetched again."""
        try:
            await self._git("rev-parse", "--quiet", "--verify", f"{self._ref}^{{commit}}")
        except SaidNo:
            self.discard()
        except GitError:
            pass  # git could not be asked: nothing is known against the mirror

    def _sweep(self) -> None:
        """What a git that was ended in the middle left behind: its locks would keep every later one out."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/pack/.tmp-*"):
            for left in self.path.glob(pattern):
                left.unlink(missing_ok=True)

    async def _git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        limit: timedelta = READ_LIMIT,
        fine: tuple[int, ...] = (0,),
        largest_file: int = 0,
    ) -> bytes:
        """What git prints. Raises SaidNo for any exit code that is not fine, and GitError when it takes longer than `limit`,
        prints too much, or does not run to its end. It cannot write a larger file than `largest_file` (in bytes; 0: no limit)."""
        try:
            ended = await program.run(
                (*program.writing_at_most(largest_file), _GIT, *arguments),
                self.path,
                {**self._environment(), **self._credentials()},
                stdin,
                limit,
            )
        except TimeoutError:
            raise GitError(f"git {arguments[0]} took longer than {limit.total_seconds():.0f} s") from None
        except program.Endless:
            raise GitError(f"git {arguments[0]} prints more than {program.LARGEST_ANSWER // 1024**2} MiB") from None
        except OSError as error:
            if not self.path.is_dir():
                raise GitError(f"the mirror {self.path} is gone: it is made anew at the next fetch") from error
            raise GitError(f"the program git cannot be started: {error.strerror or error}; install git") from error
        if ended.code not in fine:
            was_killed = ended.code is None or ended.code < 0  # for want of memory, say
            raise (GitError if was_killed else SaidNo)(self._in_words(arguments[0], ended.err))
        return ended.out

    def _environment(self) -> dict[str, str]:
        """Nothing of the user's own settings: what this controller does must not hang on who started it."""
        kept = {
            name: os.environ[name] for name in ("PATH", "HOME", "SSL_CERT_FILE", "GIT_SSL_CAINFO") if name in os.environ
        }
        return {
            **kept,
            "LC_ALL": "C",
            "GIT_DIR": ".",  # never another repository that this one lies in
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES),
            "GIT_SSH_COMMAND": self._ssh(),
            **_as_settings(
                {
                    "gc.auto": "0",
                    "maintenance.auto": "false",
                    "fetch.fsckObjects": "true",
                    "fetch.unpackLimit": "1",  # all that is new in one file, so that its size can be limited
                    "http.followRedirects": "initial",
                    "http.lowSpeedLimit": "1",
                    "http.lowSpeedTime": "30",
                    **self._header(),
                }
            ),
        }

    def _header(self) -> Mapping[str, str]:
        """The credential as a setting for this very address: in the environment only its own user can read it, in an
        argument everybody could."""
        if self.repository.token is None or not self.repository.url.startswith(("http://", "https://")):
            return {}
        both = f"{self.repository.user}:{self.repository.token.text()}"
        return {
            f"http.{self.repository.url}.extraHeader": f"Authorization: Basic {base64.b64encode(both.encode()).decode()}"
        }

    def _credentials(self) -> dict[str, str]:
        return {"GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false"}

    def _ssh(self) -> str:
        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
        if self.repository.key is not None:
            options += ["-i", str(self.repository.key), "-o", "IdentitiesOnly=yes"]
        if self.repository.known_hosts is not None:
            options += ["-o", f"UserKnownHostsFile={self.repository.known_hosts}"]
        return shlex.join(["ssh", *options])

    def _in_words(self, verb: str, err: bytes) -> str:
        text = err.decode("utf-8", "replace")
        if self.repository.token is not None:
            text = text.replace(self.repository.token.text(), HIDDEN)
        if any(words in text for words in _ASKS_WHO):
            has = self.repository.token is not None
            said = (
                "it does not take the token of --git-token"
                if has
                else "it asks for a token: --git-token says where one is"
            )
            return f"git {verb} of {self.repository.url} failed: {said}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        telling = [line for line in lines if any(words in line for words in _OF_SSH)] or [
            line for line in lines if line.startswith(("fatal:", "error:"))
        ]
        said = next(iter([*telling, *lines[-1:]]), "no word")
        said = "".join(sign if sign.isprintable() else " " for sign in said)[:LONGEST_ERROR]
        return f"git {verb} of {self.repository.url} failed: {said}"


def _commit(sha: str, author: bytes, subject: bytes, at: bytes) -> Commit:
    who, what = (each.decode("utf-8", "replace") for each in (author, subject))
    return Commit(sha, who, what, datetime.fromtimestamp(int(at), UTC))


def _as_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as git takes them from the environment."""
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return found
