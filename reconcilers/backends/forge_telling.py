"""What is told at Forge about a commit: its status, where everybody looks first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.forge_calls import asked, part
from reconcilers.backends.transport import said
from reconcilers.errors import Blocked, OutcomeUnknown, Rejected

STATES: Final = frozenset({"pending", "success", "error", "failure", "warning"})
"""The server takes anything (V), so it is checked here."""

LONGEST: Final = 140
"""Characters of a description: what lists of commits show whole."""


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """One verdict on a commit. The latest of a `context` counts (V). `target_url`: "" for none.

    Raises ValueError for a state that nobody knows.
    """

    state: str
    description: str
    context: str
    target_url: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"{self.state!r} is no state of a commit: one of {', '.join(sorted(STATES))}")


def repository_of(forge_url: str, git_url: str) -> tuple[str, str] | None:
    """Owner and name of the repository that a git address means at this Forge; None when it is somewhere else.

    `https://forge/o/r.git`, `ssh://git@forge/o/r`, `git@forge:o/r.git`; the port of ssh is another one than Forge's.
    """
    host = urlsplit(forge_url).hostname
    if "://" in git_url:
        parts = urlsplit(git_url)
        there, path = parts.hostname, parts.path
    else:
        user_and_host, _, path = git_url.partition(":")
        there = user_and_host.rpartition("@")[2]
    owner, _, name = path.strip("/").removesuffix(".git").partition("/")
    return (owner, name) if there == host and owner and name and "/" not in name else None


async def set_status(forge: ForgeClient, owner: str, repo: str, sha: str, status: CommitStatus) -> None:
    """Add a commit status. Raises what every call to Forge may, and Rejected CommitUnknown: for a repository or a full sha
    that it does not know the answer is 404 or 500, by version (V)."""
    body = {
        "state": status.state,
        "description": status.description[:LONGEST],
        "target_url": status.target_url,
        "context": status.context,
    }
    path = f"/api/v1/repos/{part(owner)}/{part(repo)}/statuses/{part(sha)}"
    answer = await forge.wire.send("POST", path, writing=True, body=body)
    if answer.status_code == 201:
        return
    if answer.status_code in (401, 403):
        raise Blocked(
            f"{asked(answer)} is forbidden{said(answer)}: give the controller's token the scope write:repository, and its "
            "owner the right to write to the repository of the specs",
            system=forge.wire.system,
            reason="MissingRights",
        )
    if answer.status_code == 404:
        what = f"the commit {sha[:12]} of {owner}/{repo} is not known{said(answer)}"
        raise Rejected(what, system=forge.wire.system, reason="CommitUnknown")
    raise OutcomeUnknown(f"{asked(answer)} answered {answer.status_code}", system=forge.wire.system)
