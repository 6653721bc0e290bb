"""Pull requests at Forge: pages, odd answers, rights, and a comment that is ours alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reconcilers.backends.forge_pulls import PullRequest, newest_status, open_pulls, put_comment
from reconcilers.backends.forge_telling import CommitStatus
from reconcilers.errors import Blocked, OutcomeUnknown, Rejected, Transient
from tests.backends.test_forge import Forge, user

SHA, MARK = "a" * 40, "<!-- ours -->"
ME = httpx.Response(200, json=user(1))


def pull(number: int, base: str = "main", sha: Any = SHA) -> dict[str, Any]:
    return {"number": number, "head": {"sha": sha}, "base": {"ref": base}}


def comment(number: int, body: str, by: str = "u1") -> dict[str, Any]:
    return {"id": number, "body": body, "user": {"login": by}}


def answered(rows: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=rows)


async def put(forge: Forge, *, new: bool = True) -> list[tuple[str, str, Any]]:
    await put_comment(forge.client, "team", "fleet", 7, MARK, f"{MARK} new", new=new)
    return [asked for asked in forge.asked if asked[0] != "GET"]


async def test_all_pages_of_those_into_our_branch() -> None:
    rows = [pull(number, "main" if number % 2 else "other") for number in range(60)]
    forge = Forge(answered(rows[:50]), answered(rows[50:]))
    found = await open_pulls(forge.client, "team", "a/b", "main")
    assert [each.number for each in found] == list(range(1, 60, 2))
    assert found[0] == PullRequest(1, SHA)
    assert found[0].ref == "refs/pull/1/head"
    assert forge.asked[1][1] == "/api/v1/repos/team/a%2Fb/pulls?state=open&page=2&limit=50"


@pytest.mark.parametrize("row", [pull(1, sha="--upload-pack=x"), pull(1, sha=None), {"number": 1}, "text", None])
async def test_an_odd_row_is_no_answer(row: Any) -> None:
    with pytest.raises(Transient):
        await open_pulls(Forge(answered([row])).client, "team", "fleet", "main")


async def test_the_newest_status_of_our_context_counts() -> None:
    def status(number: int, state: str, context: str = "testers/plan") -> dict[str, Any]:
        return {"id": number, "status": state, "description": "d", "context": context, "target_url": None}

    rows = [status(3, "failure"), status(9, "success", "ci"), status(5, "success"), status(4, "pending")]
    found = await newest_status(Forge(answered(rows)).client, "team", "fleet", SHA, "testers/plan")
    assert found == CommitStatus("success", "d", "testers/plan")
    assert await newest_status(Forge(answered([])).client, "team", "fleet", SHA, "testers/plan") is None
    odd = Forge(answered([status(1, "whatever")]))
    assert await newest_status(odd.client, "team", "fleet", SHA, "testers/plan") is None


async def test_our_comment_is_edited_in_place() -> None:
    forge = Forge(ME, answered([comment(1, "hello"), comment(2, f"{MARK} old")]), answered({}))
    assert await put(forge) == [("PATCH", "/api/v1/repos/team/fleet/issues/comments/2", {"body": f"{MARK} new"})]


async def test_what_says_the_same_is_left_alone() -> None:
    assert await put(Forge(ME, answered([comment(2, f"{MARK} new")]))) == []


async def test_somebody_elses_comment_with_our_mark_is_never_touched() -> None:
    forge = Forge(ME, answered([comment(2, f"{MARK} old", by="mallory")]), answered({}, 201))
    assert [asked[:2] for asked in await put(forge)] == [("POST", "/api/v1/repos/team/fleet/issues/7/comments")]


async def test_none_is_made_where_none_is_wanted() -> None:
    assert await put(Forge(ME, answered([])), new=False) == []
    forge = Forge(ME, answered([comment(2, f"{MARK} old")]), answered({}))
    assert len(await put(forge, new=False)) == 1


async def test_refusals_say_which_right_is_missing() -> None:
    with pytest.raises(Blocked, match="read:repository"):
        await open_pulls(Forge(httpx.Response(403)).client, "team", "fleet", "main")
    with pytest.raises(Blocked, match="write:issue"):
        await put(Forge(ME, httpx.Response(403)))
    with pytest.raises(Rejected):
        await put(Forge(ME, answered([]), httpx.Response(423)))
    with pytest.raises(OutcomeUnknown):
        await put(Forge(ME, answered([]), httpx.Response(502)))
