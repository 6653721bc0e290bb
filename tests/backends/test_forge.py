"""Forge's client where the wire fixtures do not reach: shifting pages, odd answers, rights, what is never sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from reconcilers.backends.forge import Account, ForgeClient, Release
from reconcilers.backends.forge_answers import account_of
from reconcilers.backends.limits import Gate
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Rejected, Throttled, Transient, Unreachable
from reconcilers.secret import Secret


class Forge:
    """Answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.raw_path.decode(), body))
        return self.answers.pop(0)

    @property
    def client(self) -> ForgeClient:
        gate = Gate("Forge", SystemClock(), 8, 1000)
        url = "https://forge.test"
        return ForgeClient(Wire(url, httpx.MockTransport(self), gate, {"Authorization": "token t"}), url)


def user(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "login": f"u{number}", "email": f"u{number}@example.org"} | more


def page(numbers: range, total: int) -> httpx.Response:
    return httpx.Response(200, json=[user(each) for each in numbers], headers={"X-Total-Count": str(total)})


async def test_all_pages_are_read() -> None:
    forge = Forge(page(range(50), 120), page(range(50, 100), 120), page(range(100, 120), 120))
    assert [each.id for each in await forge.client.accounts()] == list(range(120))
    assert [path for _, path, _ in forge.asked] == [f"/api/v1/admin/users?page={n}&limit=50" for n in (1, 2, 3)]


async def test_pages_that_shift_are_read_again() -> None:
    # One of the first page went meanwhile: number 50 moved from the second page to the first and was seen on neither.
    shifted = (page(range(50), 60), page(range(51, 60), 59))
    forge = Forge(*shifted, page(range(1, 51), 59), page(range(51, 60), 59))
    assert {each.id for each in await forge.client.accounts()} == set(range(1, 60))
    # The same with an unchanged total (one went, one came): the count of different accounts gives it away.
    forge = Forge(page(range(50), 60), page(range(49, 59), 60), page(range(0), 60), page(range(2), 2))
    assert len(await forge.client.accounts()) == 2


async def test_pages_that_never_stop_shifting_are_no_answer() -> None:
    forge = Forge(*[page(range(3), 5), page(range(0), 5)] * 3)
    with pytest.raises(Transient) as caught:
        await forge.client.accounts()
    assert caught.value.reason == "ListingShifts"
    assert len(forge.asked) == 6


async def test_a_list_that_is_too_long_is_said_to_be_so_at_once() -> None:
    forge = Forge(page(range(50), 100_001))
    with pytest.raises(Blocked, match="longer than 2,000 pages of 50") as caught:
        await forge.client.accounts()
    assert caught.value.reason == "TooManyAccounts"
    assert len(forge.asked) == 1


@pytest.mark.parametrize("told", [True, False])
async def test_as_many_pages_are_read_as_may_be(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """Whether or not the server tells how many accounts there are."""
    monkeypatch.setattr("reconcilers.backends.forge.PAGES_LIMIT", 3)

    def pages(count: int) -> list[httpx.Response]:
        read = [page(range(first, min(first + 50, count)), count) for first in (0, 50, 100)]
        return read if told else [httpx.Response(200, content=each.content) for each in read]

    at_most = 150 if told else 100  # else the third page must be empty for it to be the last
    assert len(await Forge(*pages(at_most)).client.accounts()) == at_most
    with pytest.raises(Blocked):
        await Forge(*pages(at_most + 1)).client.accounts()


async def test_an_app_is_absent_only_when_forge_says_so() -> None:
    told = {"id": 7, "name": "a", "client_id": "c", "redirect_uris": ["https://a.test/"], "confidential_client": True}
    forge = Forge(httpx.Response(200, json=told), httpx.Response(404, json={"message": "no"}), httpx.Response(500))
    found = await forge.client.oauth_app(7)
    assert found is not None
    assert (found.id, found.client_id, found.confidential) == (7, "c", True)
    assert await forge.client.oauth_app(7) is None
    with pytest.raises(Transient):
        await forge.client.oauth_app(7)
    assert [each[:2] for each in forge.asked] == [("GET", "/api/v1/user/applications/oauth2/7")] * 3


async def test_apps_that_are_not_all_there_are_no_answer() -> None:
    forge = Forge(httpx.Response(200, json=[], headers={"X-Total-Count": "3"}))
    with pytest.raises(Transient):
        await forge.client.oauth_apps()


@pytest.mark.parametrize(
    ("body", "source"),
    [
        (user(1), 0),
        (user(1, login_name=""), 0),
        (user(1, login_name="U1"), 0),
        (user(1, login_name="ldap-name"), -1),
        (user(1, source_id=3), 3),
        (user(1, source_id=0, login_name="other"), 0),
    ],
)
def test_where_an_account_signs_in_is_told_across_versions(body: dict[str, Any], source: int) -> None:
    assert account_of(body).source_id == source


@pytest.mark.parametrize("source", [-1, 3])
async def test_an_account_of_another_source_is_never_edited(source: int) -> None:
    forge = Forge()
    account = Account(1, "x", "x@example.org", source_id=source)
    for edit in (forge.client.set_prohibited(account, True), forge.client.reset_password(account, Secret("p"))):
        with pytest.raises(Blocked) as caught:
            await edit
        assert caught.value.reason == "ForeignSource"
    assert forge.asked == []


async def test_a_used_address_is_told_from_a_taken_name() -> None:
    refused = httpx.Response(422, json={"message": "e-mail already in use [email: a@example.org]"})
    for owner, whose in (("A@Example.org", "belongs to the account u1:"), ("", "belongs to another account:")):
        listed = httpx.Response(200, json=[user(0), user(1, email=owner)], headers={"X-Total-Count": "2"})
        forge = Forge(refused, httpx.Response(404), httpx.Response(404), listed)
        with pytest.raises(Blocked, match=whose) as caught:
            await forge.client.create_account("alice", "a@example.org", Secret("hidden-password"))
        assert caught.value.reason == "EmailTaken"
        assert "hidden-password" not in str(caught.value)


async def test_missing_rights_name_the_scope() -> None:
    message = "token does not have at least one of required scope(s): [write:admin]"
    for ask, right in (("accounts", "write:admin"), ("oauth_apps", "write:user")):
        forge = Forge(httpx.Response(403, json={"message": message}))
        with pytest.raises(Blocked, match=right):
            await getattr(forge.client, ask)()


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(201, json={"id": 1, "name": "a", "client_id": "c", "redirect_uris": [], "client_secret": ""}),
        httpx.Response(201, json={"id": 1}),
        httpx.Response(201, json=[]),
        httpx.Response(201, text='{"id":'),
        httpx.Response(200, html="<html>"),
        httpx.Response(302, headers={"Location": "/user/login"}),
        httpx.Response(500, json={"message": "x"}),
    ],
)
async def test_a_made_app_without_its_secret_is_an_unknown_outcome(answer: httpx.Response) -> None:
    with pytest.raises(OutcomeUnknown):
        await Forge(answer).client.create_oauth_app("a", "https://a.test/oauth/callback")


async def test_a_rotation_always_says_confidential_and_of_a_missing_app_says_so() -> None:
    forge = Forge(httpx.Response(404, json={"message": "not found"}))
    with pytest.raises(Transient) as caught:
        await forge.client.rotate_oauth_app(7, "a", "https://a.test/oauth/callback")
    assert caught.value.reason == "AppGone"
    body = {"name": "a", "redirect_uris": ["https://a.test/oauth/callback"], "confidential_client": True}
    assert forge.asked == [("PATCH", "/api/v1/user/applications/oauth2/7", body)]


async def test_names_cannot_climb_out_of_their_place() -> None:
    forge = Forge(*[httpx.Response(404)] * 3)
    await forge.client.account("../admin")
    await forge.client.account("..")
    await forge.client.account("a?b#c d")
    assert [path for _, path, _ in forge.asked] == [
        "/api/v1/users/..%2Fadmin",
        "/api/v1/users/%2E%2E",
        "/api/v1/users/a%3Fb%23c%20d",
    ]


async def test_a_renamed_user_is_looked_up_on_the_same_server_only() -> None:
    away = {"Location": "https://evil.test/api/v1/users/robert?x=1"}
    forge = Forge(httpx.Response(307, headers=away), httpx.Response(200, json=user(4, login="robert")))
    found = await forge.client.account("bob")
    assert found is not None
    assert found.login == "robert"
    assert forge.asked[1][1] == "/api/v1/users/robert"
    with pytest.raises(Transient):
        await Forge(httpx.Response(307, headers={"Location": "https://evil.test/x"})).client.account("bob")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Rejected), (401, Blocked), (403, Blocked), (405, Rejected), (418, Rejected), (301, Transient)],
)
async def test_any_other_status_has_a_meaning(status: int, kind: type[OutsideError]) -> None:
    with pytest.raises(kind):
        await Forge(httpx.Response(status)).client.keys("bob")


async def test_taken_for_anonymous_is_a_refused_token() -> None:
    for answer in (httpx.Response(401), httpx.Response(200, json={}), httpx.Response(200, json={"id": 0, "login": ""})):
        with pytest.raises(Blocked) as caught:
            await Forge(answer).client.whoami()
        assert caught.value.reason == "TokenRefused"


def test_the_sign_in_page_is_where_people_are_sent() -> None:
    assert Forge().client.authorize_url() == "https://forge.test/login/oauth/authorize"


class Releases:
    """Answers for each component, and what it was asked for with which conditions."""

    def __init__(self, **answers: httpx.Response | Exception) -> None:
        self.answers = answers
        self.conditions: dict[str, tuple[str, str]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.split("/")[5]
        wanted = request.headers.get("If-None-Match", ""), request.headers.get("If-Modified-Since", "")
        self.conditions[name] = wanted
        answer = self.answers.get(name, httpx.Response(404))
        if isinstance(answer, Exception):
            raise answer
        tag, day = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        same = answer.status_code == 200 and (wanted[0] == tag if wanted[0] else bool(wanted[1]) and wanted[1] == day)
        return httpx.Response(304) if same else answer

    @property
    def client(self) -> ForgeClient:
        gate = Gate("Forge", SystemClock(), 8, 1000)
        return ForgeClient(Wire("https://forge.test", httpx.MockTransport(self), gate), "https://forge.test")

    async def newest(self, *names: str, known: dict[str, Release] | None = None) -> dict[str, Release]:
        return dict(await self.client.newest("lhumina_code", names, known))


def published(name: str, etag: str = "", modified: str = "") -> httpx.Response:
    headers = {key: value for key, value in (("ETag", etag), ("Last-Modified", modified)) if value}
    return httpx.Response(200, json={"tag_name": "latest", "name": name}, headers=headers)


async def test_only_news_is_asked_for() -> None:
    forge = Releases(
        a=published("v1", '"one"'), b=published("v1", modified="Mon, 01 Jan 2026 00:00:00 GMT"), c=published("v1")
    )
    first = await forge.newest("a", "b", "c", "none")
    assert {name: each.name for name, each in first.items()} == {"a": "v1", "b": "v1", "c": "v1"}
    assert set(forge.conditions.values()) == {("", "")}
    forge.answers["a"] = published("v2", '"two"')
    second = await forge.newest("a", "b", "c", "none", known=first)
    assert forge.conditions["a"] == ('"one"', "")
    assert forge.conditions["b"] == ("", "Mon, 01 Jan 2026 00:00:00 GMT")
    assert forge.conditions["none"] == ("", "")
    assert {name: each.name for name, each in second.items()} == {"a": "v2", "b": "v1", "c": "v1"}
    assert second["b"] is first["b"], "nothing was sent again"
    third = await forge.newest("a", known=second)
    assert third["a"] is second["a"]


async def test_a_release_that_is_taken_back_is_none() -> None:
    forge = Releases(a=published("v1", '"one"'))
    known = await forge.newest("a")
    forge.answers["a"] = httpx.Response(404)
    assert await forge.newest("a", known=known) == {}


async def test_one_component_without_an_answer_stays_as_it_is_known() -> None:
    forge = Releases(a=published("v1"), b=published("v1"))
    known = await forge.newest("a", "b")
    forge.answers |= {"a": httpx.Response(500), "b": published("v2")}
    assert (await forge.newest("a", "b", known=known))["a"] is known["a"]
    with pytest.raises(Transient):  # what is not known is not "none published"
        await forge.newest("a", "b", known={"b": known["b"]})
    forge.answers["b"] = httpx.Response(200, text="half an ans")
    with pytest.raises(Transient):  # nothing at all was answered: what is known must not look fresh
        await forge.newest("a", "b", known=known)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401), Blocked),
        (httpx.Response(403), Blocked),
        (httpx.Response(429), Throttled),
        (httpx.ConnectError("no"), Unreachable),
        (httpx.Response(304), Transient),
    ],
)
async def test_what_is_wrong_with_every_call_is_said(
    answer: httpx.Response | Exception, kind: type[OutsideError]
) -> None:
    forge = Releases(a=answer, b=published("v1"))
    known = {"a": Release("latest", "v1", "", "")} if kind is not Transient else {}
    with pytest.raises(kind):
        await forge.newest("a", "b", known=known)


async def test_releases_are_asked_for_side_by_side_within_the_limit() -> None:
    under_way: list[int] = []
    now = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal now
        now += 1
        under_way.append(now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        return published("v1")

    wire = Wire("https://forge.test", httpx.MockTransport(answer), Gate("Forge", SystemClock(), 3, 1000))
    found = await ForgeClient(wire, "https://forge.test").newest("lhumina_code", [f"c{n}" for n in range(12)])
    assert (len(found), max(under_way)) == (12, 3)


async def test_who_may_read() -> None:
    forge = Forge(httpx.Response(204), httpx.Response(404), httpx.Response(404))
    assert await forge.client.may_read("geomind", "feedback", "bob")
    assert not await forge.client.may_read("geomind", "feedback", "bob")
    assert await forge.client.may_read("Geomind", "feedback", "geomind"), "its owner"
    assert forge.asked[0][:2] == ("GET", "/api/v1/repos/geomind/feedback/collaborators/bob")


@pytest.mark.parametrize("status", [404, 422])
async def test_a_reader_that_cannot_be_added_says_what_is_missing(status: int) -> None:
    refused = httpx.Response(status, json={"message": "no"})
    forge = Forge(refused, httpx.Response(404))
    with pytest.raises(Blocked, match="feedbackRepository") as blocked:
        await forge.client.add_reader("geomind", "feedback", "bob")
    assert blocked.value.reason == "RepositoryMissing"
    forge = Forge(refused, httpx.Response(200, json={}), httpx.Response(404))
    with pytest.raises(Transient) as gone:
        await forge.client.add_reader("geomind", "feedback", "bob")
    assert gone.value.reason == "AccountGone"
    forge = Forge(refused, httpx.Response(200, json={}), httpx.Response(200, json=user(4)))
    with pytest.raises(Rejected) as rejected:
        await forge.client.add_reader("geomind", "feedback", "bob")
    assert rejected.value.reason == "ReaderRefused"


async def test_nobody_may_read_a_repository_that_is_not_there() -> None:
    forge = Forge(httpx.Response(404), httpx.Response(404))
    assert await forge.client.collaborators("geomind", "gone") == ()
    assert [path for _, path, _ in forge.asked][1] == "/api/v1/repos/geomind/gone"
    with pytest.raises(Rejected):
        await Forge(httpx.Response(404), httpx.Response(200, json={})).client.collaborators("geomind", "feedback")
    with pytest.raises(Blocked, match="read:repository"):
        await Forge(httpx.Response(403)).client.collaborators("geomind", "feedback")
    many = Forge(page(range(50), 60), page(range(50, 60), 60))
    assert len(await many.client.collaborators("geomind", "feedback")) == 60


async def test_a_reader_that_is_no_more_needs_not_be_removed() -> None:
    for answers in ([httpx.Response(404)], [httpx.Response(422), httpx.Response(404)]):
        await Forge(*answers).client.remove_reader("geomind", "feedback", "bob")
    with pytest.raises(Rejected):
        await Forge(httpx.Response(422), httpx.Response(200, json=user(4))).client.remove_reader("geomind", "f", "bob")
    with pytest.raises(Blocked, match="write:repository"):
        await Forge(httpx.Response(403)).client.remove_reader("geomind", "feedback", "bob")
    with pytest.raises(OutcomeUnknown):
        await Forge(httpx.Response(500)).client.remove_reader("geomind", "feedback", "bob")


async def test_a_reader_needs_other_rights_than_reading() -> None:
    with pytest.raises(Blocked, match="write:repository"):
        await Forge(httpx.Response(403)).client.add_reader("geomind", "feedback", "bob")
    with pytest.raises(Blocked, match="read:repository"):
        await Forge(httpx.Response(403)).client.may_read("geomind", "feedback", "bob")
    for answer in (httpx.Response(500), httpx.Response(302)):
        with pytest.raises(OutcomeUnknown):
            await Forge(answer).client.add_reader("geomind", "feedback", "bob")


async def test_pages_are_read_a_few_at_a_time_beside_other_calls() -> None:
    under_way, most = 0, 0

    async def answered(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        number = int(request.url.params["page"]) - 1
        return page(range(number * 50, min(number * 50 + 50, 620)), 620)

    gate = Gate("Forge", SystemClock(), 8, 1000)
    client = ForgeClient(Wire("https://forge.test", httpx.MockTransport(answered), gate), "https://forge.test")
    assert [each.id for each in await client.accounts()] == list(range(620))
    assert most == 4


async def test_a_page_that_nobody_changed_is_not_read_again() -> None:
    logins = {number: f"user{number}" for number in range(120)}

    def answered(request: httpx.Request) -> httpx.Response:
        first = (int(request.url.params["page"]) - 1) * 50
        rows = [{"id": number, "login": logins[number]} for number in range(first, min(first + 50, 120))]
        return httpx.Response(200, json=rows, headers={"X-Total-Count": "120"})

    gate = Gate("Forge", SystemClock(), 8, 1000)
    client = ForgeClient(Wire("https://forge.test", httpx.MockTransport(answered), gate), "https://forge.test")
    before = await client.accounts()
    logins[60] = "renamed"
    after = await client.accounts()
    assert after[60].login == "renamed"
    same = [one is other for one, other in zip(before, after, strict=True)]
    assert same == [number // 50 != 1 for number in range(120)], "all but the page that says something else"
