"""Pull requests at Forge: which are open, and one comment of ours on each, which is edited in place (P).

A comment is known again by a mark in its text and by its author: what somebody else wrote is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn

import httpx

from reconcilers.backends.forge import PAGE, ForgeClient
from reconcilers.backends.forge_calls import asked, part
from reconcilers.backends.forge_telling import CommitStatus
from reconcilers.backends.transport import said
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Rejected, Transient

MOST_PULLS: Final = 200
"""So many open ones are looked at, the newest first."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open one. `sha`: its head, a full sha; `ref`: where git finds it."""

    number: int
    sha: str

    @property
    def ref(self) -> str:
        return f"refs/pull/{self.number}/head"


async def open_pulls(forge: ForgeClient, owner: str, repo: str, base: str) -> tuple[PullRequest, ...]:
    """The open ones that ask to be merged into a branch, newest first. Raises what a reading call to Forge may."""
    found: list[PullRequest] = []
    for page in range(1, MOST_PULLS // PAGE + 1):
        path = f"/api/v1/repos/{part(owner)}/{part(repo)}/pulls?state=open&page={page}&limit={PAGE}"
        rows = await _call(forge, "GET", path)
        try:
            found += [_pull(row) for row in rows if row["base"]["ref"] == base]
        except (KeyError, TypeError, ValueError) as error:
            forge.wire.unclear(False, f"the answer is not what Forge answers ({type(error).__name__})")
        if len(rows) < PAGE:
            break
    return tuple(found)


async def newest_status(forge: ForgeClient, owner: str, repo: str, sha: str, context: str) -> CommitStatus | None:
    """The latest status of a context on a commit: the one that counts (V). Raises what a reading call to Forge may."""
    path = f"/api/v1/repos/{part(owner)}/{part(repo)}/statuses/{part(sha)}?limit={PAGE}"
    rows = await _call(forge, "GET", path)
    try:
        ours = [row for row in rows if row["context"] == context]
        newest = max(ours, key=lambda row: int(row["id"]), default=None)
        if newest is None:
            return None
        return CommitStatus(
            str(newest["status"]), str(newest["description"]), context, str(newest.get("target_url") or "")
        )
    except (KeyError, TypeError, ValueError):
        return None  # whatever it is, it is not what we would say


async def put_comment(
    forge: ForgeClient, owner: str, repo: str, number: int, mark: str, text: str, *, new: bool
) -> None:
    """Have the one comment of ours that holds `mark` say this, or make it if it may be `new`.

    Raises what a writing call to Forge may; OutcomeUnknown does no harm, since the next one looks first.
    """
    base = f"/api/v1/repos/{part(owner)}/{part(repo)}/issues"
    me = (await forge.whoami()).login
    rows = await _call(forge, "GET", f"{base}/{number}/comments")
    try:
        ours = [row for row in rows if mark in row["body"] and row["user"]["login"].casefold() == me.casefold()]
        known = next(((int(row["id"]), row["body"]) for row in ours), None)
    except (KeyError, TypeError, ValueError) as error:
        forge.wire.unclear(False, f"the answer is not what Forge answers ({type(error).__name__})")
    if known is None and new:
        await _call(forge, "POST", f"{base}/{number}/comments", {"body": text})
    elif known is not None and known[1] != text:
        await _call(forge, "PATCH", f"{base}/comments/{known[0]}", {"body": text})


def _pull(row: Any) -> PullRequest:
    sha = row["head"]["sha"]
    if not isinstance(sha, str) or len(sha) not in (40, 64) or set(sha) - set("0123456789abcdef"):
        raise ValueError("no sha")
    return PullRequest(int(row["number"]), sha)


async def _call(forge: ForgeClient, method: str, path: str, body: dict[str, str] | None = None) -> Any:
    writing = method != "GET"
    answer = await forge.wire.send(method, path, writing=writing, body=body)
    if answer.status_code not in (200, 201):
        _refused(forge, answer, writing=writing)
    found = forge.wire.json(answer, writing=writing)
    if not writing and not isinstance(found, list):
        forge.wire.unclear(False, f"{asked(answer)} answered no list")
    return found


def _refused(forge: ForgeClient, answer: httpx.Response, *, writing: bool) -> NoReturn:
    system = forge.wire.system
    if answer.status_code in (401, 403):
        scope = "write:issue" if "/issues/" in answer.request.url.path else "read:repository"
        raise Blocked(
            f"{asked(answer)} is forbidden{said(answer)}: give the controller's token the scope {scope}, and its owner "
            "the right to it in the repository of the specs",
            system=system,
            reason="MissingRights",
        )
    if 400 <= answer.status_code < 500:
        raise Rejected(f"{asked(answer)} answered {answer.status_code}{said(answer)}", system=system, reason="Rejected")
    kind: type[OutsideError] = OutcomeUnknown if writing else Transient
    raise kind(f"{asked(answer)} answered {answer.status_code}", system=system)
