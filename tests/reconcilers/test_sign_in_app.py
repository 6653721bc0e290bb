"""The OAuth app: when its secret is made anew, and above all when it is not (lesson 19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconcilers.actions import Disruption, Effect
from reconcilers.backends import Backends
from reconcilers.backends.forge import NewOAuthApp, OAuthApp
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import Facts, GatewayFacts, ObjectState, SignInAppFacts
from reconcilers.looks import TesterLooks
from reconcilers.quarantine import PLACED
from reconcilers.secret import HIDDEN, Secret
from reconcilers.sign_in_app import SeenApps, SignInAppReconciler
from specs.fleet import Timing
from tests.reconcilers.data import CLIENT_ID, FQDN, SECRETS, a_row, a_tester, actions, brief, some_facts

NAME = "Hero OS alice x7k2p9-1-1"
BEGAN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GRACE = Timing().listing_grace
REDIRECT = f"https://{FQDN}/oauth/callback"
ROTATE = [f"rotate OAuth app {NAME}"]
KEPT = some_facts().steps["sign_in_app"]


def app(
    number: int = 5,
    client_id: str = CLIENT_ID,
    *redirects: str,
    confidential: bool = True,
    made: timedelta | None = timedelta(0),
) -> OAuthApp:
    """`made`: since our create began; None: it is not told."""
    return OAuthApp(
        number, NAME, client_id, redirects or (REDIRECT,), confidential, None if made is None else BEGAN + made
    )


def there(*apps: OAuthApp, fresh: bool = False, at: datetime = BEGAN) -> SeenApps:
    return SeenApps(apps or (app(),), "controller", fresh, None if fresh else at)


def facts(**fields: Any) -> Facts:
    row = a_row("sign_in_app", name=NAME)
    return some_facts(**{"object": replace(row, identity={**row.identity, PLACED: BEGAN.isoformat()}), **fields})


def told(*doubles: OAuthApp, **fields: Any) -> Facts:
    """When they have been seen beside the one in use once, in the very moment at which our create began."""
    known = step().learn(there(app(), *doubles), facts())
    assert known is not None
    return facts(steps={**facts().steps, "sign_in_app": known}, **fields)


class FakeForge:
    def __init__(self, *apps: OAuthApp, owner: str = "controller") -> None:
        self.apps, self.owner = apps, owner
        self.hidden: tuple[OAuthApp, ...] = ()  # which no listing shows
        self.calls: list[tuple[Any, ...]] = []

    async def forge_owner(self) -> str:
        return self.owner

    async def oauth_apps(self) -> tuple[OAuthApp, ...]:
        return (OAuthApp(99, "another app", "x", (), True), *self.apps)

    async def oauth_app(self, app_id: int) -> OAuthApp | None:
        self.calls.append(("ask", app_id))
        return next((each for each in (*self.apps, *self.hidden) if each.id == app_id), None)

    def unshared(self) -> None: ...

    async def create_oauth_app(self, name: str, redirect_uri: str) -> NewOAuthApp:
        self.calls.append(("create", name, redirect_uri))
        return NewOAuthApp(app(6, "client-6"), Secret("fresh"))

    async def rotate_oauth_app(self, app_id: int, name: str, redirect_uri: str) -> NewOAuthApp:
        self.calls.append(("rotate", app_id, name, redirect_uri))
        return NewOAuthApp(app(app_id), Secret("rotated"))

    async def delete_oauth_app(self, app_id: int) -> None:
        self.calls.append(("delete", app_id))

    async def place(self, identity: dict[str, str]) -> None:
        assert identity == {}

    def now(self) -> datetime:
        return BEGAN

    async def seal(self, name: str, value: Secret) -> None:
        self.calls.append(("seal", name, value))


def step(forge: FakeForge | None = None) -> SignInAppReconciler:
    return SignInAppReconciler(Backends(forge, {}, None, None))  # type: ignore[arg-type]


async def seen(forge: FakeForge, given: Facts) -> SeenApps | None:
    looks: TesterLooks = forge  # type: ignore[assignment]
    return await step(forge).observe(TesterView(a_tester(), given), looks)


LATER = BEGAN + GRACE
TWIN = app(4, "client-4", made=timedelta(seconds=2))
OLDER, UNTOLD = app(4, "client-4", made=timedelta(minutes=-1)), app(4, "client-4", made=None)
AWAY = [f"delete_double OAuth app {NAME} (client-4)"]

PLANS: dict[str, tuple[SeenApps | None, Facts | Callable[[], Facts], list[str]]] = {
    "absent": (None, facts(), [f"create OAuth app {NAME}"]),
    "in order": (there(), facts(), []),
    "redirect changed": (there(app(5, CLIENT_ID, "https://evil.example.org/")), facts(), ROTATE),
    "one redirect too many": (there(app(5, CLIENT_ID, REDIRECT, "https://evil.example.org/")), facts(), ROTATE),
    "a new address": (
        there(),
        facts(
            steps={
                **facts().steps,
                "gateway": GatewayFacts(daemon="g", gateway_id="8", gateway_name="n", fqdn="n.example.org"),
            }
        ),
        ROTATE,
    ),
    "not confidential": (there(app(confidential=False)), facts(), ROTATE),
    "the secret is void": (there(), facts(secrets={}), ROTATE),
    "the secret is another app's": (there(app(8, "client-8")), facts(), ROTATE),
    "found after a lost create": (there(), facts(without=("sign_in_app",), secrets={}), ROTATE),
    "found, and an old secret lies about": (there(), facts(without=("sign_in_app",)), ROTATE),
    "twice, and not told yet": (there(app(), TWIN), facts(), []),
    "twice, within the grace": (there(app(), TWIN, at=BEGAN + GRACE / 2), lambda: told(TWIN), []),
    "twice": (there(app(), TWIN, at=LATER), lambda: told(TWIN), AWAY),
    "twice, and the redirect changed": (
        there(app(5, CLIENT_ID, "https://evil.example.org/"), TWIN, at=LATER),
        lambda: told(TWIN),
        [*AWAY, *ROTATE],
    ),
    "a stranger's look-alike from before our create": (there(app(), OLDER, at=LATER), lambda: told(OLDER), []),
    "a look-alike of an unknown age": (there(app(), UNTOLD, at=LATER), lambda: told(UNTOLD), []),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_is_done_about_an_app(name: str) -> None:
    observed, given, expected = PLANS[name]
    assert brief(step().plan(a_tester(), observed, given() if callable(given) else given)) == expected


def test_a_rotation_tells_its_consequences_and_waits_for_the_machine() -> None:
    (rotation,) = actions(step().plan(a_tester(), there(app(5, CLIENT_ID, "https://evil.example.org/")), facts()))
    assert rotation.voids == ("oauth_client_secret",)
    assert rotation.only_while == ("machine_access",)
    assert rotation.disruption is Disruption.RESTART
    assert [(each.path, each.before, each.after) for each in rotation.changes] == [
        ("redirectUri", "https://evil.example.org/", REDIRECT),
        ("clientSecret", HIDDEN, HIDDEN),
    ]
    assert any("new client secret" in each for each in rotation.consequences)
    assert any("hero_proxy restarts" in each for each in rotation.consequences)


def test_a_create_voids_what_was_sealed_for_an_earlier_app() -> None:
    (create,) = actions(step().plan(a_tester(), None, facts()))
    assert (create.effect, create.voids) == (Effect.CREATE, ("oauth_client_secret",))


def test_removal_takes_every_app_of_the_name_that_is_ours() -> None:
    leaving = facts(leaving=True)
    double, last = actions(step().plan(None, there(app(), TWIN), leaving))
    assert (double.effect, double.args) == (Effect.CHANGE, ("4",))
    assert (last.effect, last.args) == (Effect.DELETE, ("5",))
    for strange in (OLDER, UNTOLD):
        assert [each.args for each in actions(step().plan(None, there(app(), strange), leaving))] == [("5",)]
    assert step().plan(None, None, facts()) == ()


def test_a_double_is_proven_by_forges_own_clock_when_ours_was_ahead() -> None:
    """An hour ahead, so that the one in use seems to be older than its own create."""
    row = facts().object
    assert row is not None
    ahead = replace(row, identity={**row.identity, PLACED: (BEGAN + timedelta(hours=1)).isoformat()})
    learnt = step().learn(there(app(), TWIN, OLDER), facts(object=ahead))
    assert learnt is not None
    assert [each.ours for each in learnt.doubles] == [True, False]
    due = actions(step().plan(None, there(app(), TWIN), facts(object=ahead, leaving=True)))
    assert [each.args for each in due] == [("4",), ("5",)]
    adopted = facts(object=ahead, without=("sign_in_app",), leaving=True)
    assert [each.args for each in actions(step().plan(None, there(app(), TWIN), adopted))] == [("5",)]


async def test_only_what_is_proven_ours_takes_the_place_of_one_that_is_gone() -> None:
    identified = facts(without=("sign_in_app",))
    assert identified.object is not None
    row = replace(identified.object, identity={**identified.object.identity, "client_id": CLIENT_ID})
    gone = facts(object=row)
    assert await seen(FakeForge(OLDER), gone) is None
    found = await seen(FakeForge(OLDER, TWIN), gone)
    assert found is not None
    assert found.kept == TWIN


def test_doubles_keep_their_age_and_are_told() -> None:
    known = told(OLDER)
    (finding,) = step().findings(a_tester(), there(app(), OLDER, at=LATER), known)
    assert (finding.type, finding.status) == ("OneSignInApp", False)
    assert "client-4" not in finding.message
    assert f"(Forge/4) beside it since {BEGAN:%Y-%m-%d %H:%M} UTC" in finding.message
    assert "somebody else's" in finding.message
    again = step().learn(there(app(), OLDER, at=LATER), known)
    assert again == known.get(SignInAppFacts)
    assert step().findings(a_tester(), there(), facts()) == ()


async def test_the_known_app_is_kept_else_the_newest() -> None:
    known = await seen(FakeForge(app(9, "client-9"), app(), app(7, "client-7")), facts())
    assert known is not None
    assert [each.id for each in known.apps] == [5, 9, 7]
    unknown = await seen(FakeForge(app(9, "client-9"), app()), facts(without=("sign_in_app",)))
    assert unknown is not None
    assert unknown.kept.id == 9
    assert await seen(FakeForge(), facts()) is None


def identified(state: ObjectState = ObjectState.EXISTING) -> Facts:
    return facts(object=a_row("sign_in_app", state, name=NAME, identity={"app_id": "5", "client_id": CLIENT_ID}))


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("listed", [(), (TWIN,)])
async def test_a_listing_that_omits_an_app_does_not_make_it_absent(leaving: bool, listed: tuple[OAuthApp, ...]) -> None:
    """Forge itself is asked, also where it lists another one of the name."""
    forge = FakeForge(*listed)
    forge.hidden = (app(),)
    found = await seen(forge, replace(identified(), leaving=leaving))
    assert found is not None
    assert [each.id for each in found.apps] == [5, *(each.id for each in listed)]
    assert forge.calls == [("ask", 5)]


async def test_only_forges_own_word_makes_an_app_absent() -> None:
    assert await seen(FakeForge(), identified()) is None
    for forge, given in (
        (FakeForge(app()), identified()),
        (FakeForge(replace(app(), name="called otherwise")), identified()),
        (FakeForge(), identified(ObjectState.GONE)),
        (FakeForge(), facts()),
    ):
        found = await seen(forge, given)
        assert (found is not None) is bool(forge.apps)
        assert forge.calls == [], "its listing tells"


@pytest.mark.parametrize("leaving", [False, True])
async def test_with_another_account_s_token_nothing_is_concluded(leaving: bool) -> None:
    with pytest.raises(Blocked) as caught:
        await seen(FakeForge(owner="somebody"), facts(leaving=leaving))
    assert caught.value.reason == "ForgeIdentityChanged"
    assert "controller" in caught.value.message


@pytest.mark.parametrize(("kind", "secret"), [("create", "fresh"), ("rotate", "rotated")])
async def test_a_given_secret_is_sealed_before_anything_else(kind: str, secret: str) -> None:
    forge = FakeForge()
    observed = None if kind == "create" else there(app(5, CLIENT_ID, "https://evil.example.org/"))
    (action,) = actions(step().plan(a_tester(), observed, facts()))
    given = await step(forge).apply(action, TesterView(a_tester(), facts()), forge)  # type: ignore[arg-type]
    assert [each[0] for each in forge.calls] == [kind, "seal"]
    assert forge.calls[-1][1:] == ("oauth_client_secret", Secret(secret))
    assert given is not None
    assert given.fresh


def test_another_app_is_not_learnt_before_its_secret_is_ours() -> None:
    other = app(8, "client-8")
    assert step().learn(there(other), facts()) is None
    learnt = step().learn(there(other, fresh=True), facts())
    assert learnt == SignInAppFacts(app_id=8, client_id="client-8", redirect_uri=REDIRECT, owner="controller")
    assert step().learn(there(), facts()) == KEPT
    first = step().learn(there(other), facts(without=("sign_in_app",)))
    assert first is not None
    assert first.client_id == "client-8"


def test_a_row_that_was_never_begun_is_planned_by_its_name() -> None:
    given = facts(object=a_row("sign_in_app", ObjectState.GONE, name="another"), secrets=SECRETS)
    (create,) = actions(step().plan(a_tester(), None, given))
    assert create.args == ("another", REDIRECT)
