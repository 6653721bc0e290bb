"""The tester's own OAuth app at Forge, with exactly one redirect address (lesson 18).

Any PATCH makes a new secret and kills the old one (V, S; lesson 19): it is done only when the redirect address is wrong or the
secret is not known, and only while the machine can be reached, so that the new secret gets there in the same motion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from reconcilers.actions import Action, Disruption, Effect, FieldChange, Finding, Step, secret_change
from reconcilers.backends import Backends
from reconcilers.backends.forge import NewOAuthApp, OAuthApp
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import Double, Facts, GatewayFacts, ObjectState, SignInAppFacts
from reconcilers.forge_owner import OWNER, check_owner, claimed_owner
from reconcilers.listed import under
from reconcilers.looks import TesterLooks
from reconcilers.proof import redirect_uri
from reconcilers.quarantine import Found, begun_at, doubles_of, finding, is_due, is_older, is_proven
from specs.desired import DesiredTester
from specs.names import oauth_app_name

CLIENT_SECRET = "oauth_client_secret"  # noqa: S105 - the short name under which it is sealed


@dataclass(frozen=True, slots=True)
class SeenApps:
    """All apps of our name (names are not unique at Forge, V), the one that we keep first, and whose they are.

    fresh  this very call of ours made it or its secret, so that the sealed secret belongs to it
    at     when they were looked at; None for the one of an answer
    """

    apps: tuple[OAuthApp, ...]
    owner: str
    fresh: bool = False
    at: datetime | None = field(default=None, compare=False)

    @property
    def kept(self) -> OAuthApp:
        return self.apps[0]


class SignInAppReconciler(Base):
    """Keeps one app, of the account that the token belongs to."""

    name = "sign_in_app"
    needs: tuple[str, ...] = ("gateway",)
    makes = True
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenApps | None:
        """By name, and the one that we know by its id. Raises Blocked ForgeIdentityChanged: another owner's list says nothing
        about our apps."""
        owner = await check_owner(tester, looks)
        row = tester.facts.object
        name = row.name if row else oauth_app_name(tester.facts.tester, tester.facts.uid)
        listed = await looks.oauth_apps()
        named = under(listed, "name", name)
        known = row.identity.get("app_id") if row is not None and row.state is not ObjectState.GONE else None
        if known is not None and all(str(app.id) != known for app in named):
            named = (*named, *(under(listed, "id", known) or await self._unlisted(known, looks)))
        apps = _kept_first(list(named), tester.facts)
        return SeenApps(apps, owner, at=looks.now()) if apps and _may_be_kept(apps[0], tester.facts) else None

    async def _unlisted(self, app_id: str, looks: TesterLooks) -> tuple[OAuthApp, ...]:
        """A listing may omit what is there: of an app that we have seen only Forge's own "not found" counts as absence."""
        looks.unshared()
        found = await self.backends.forge.oauth_app(int(app_id))
        return (found,) if found is not None else ()

    def plan(self, desired: DesiredTester | None, observed: SeenApps | None, facts: Facts) -> tuple[Step, ...]:
        """Create, take away what stood in quarantine, or rotate."""
        if desired is None:
            return () if observed is None else (*_doubles_away(observed, facts), _delete(observed.kept))
        address = redirect_uri(facts.need(GatewayFacts).fqdn)
        if observed is None:
            return (_create(_name(facts), address),)
        return (*_doubles_away(observed, facts), *_rotate(observed.kept, address, facts))

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenApps | None:
        """A secret that Forge gives is sealed before anything else happens (law 3)."""
        forge = self.backends.forge
        owner = await claimed_owner(forge, tester, ports)
        if action.verb in ("delete", "delete_double"):
            await forge.delete_oauth_app(int(action.args[0]))
            return None
        if action.verb == "create":
            name, address = action.args
            await ports.place({})
            return await _sealed(await forge.create_oauth_app(name, address), owner, ports)
        app_id, name, address = action.args
        return await _sealed(await forge.rotate_oauth_app(int(app_id), name, address), owner, ports)

    def learn(self, observed: SeenApps, facts: Facts) -> SignInAppFacts | None:
        """Another app than the one that we know is not learnt before its secret was made by us: the sealed one is not its own."""
        app, known = observed.kept, facts.get(SignInAppFacts)
        if known is not None and known.client_id != app.client_id and not observed.fresh:
            return None
        return SignInAppFacts(
            app_id=app.id,
            client_id=app.client_id,
            redirect_uri=", ".join(app.redirect_uris),
            owner=observed.owner,
            doubles=_told_of(observed, facts),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """OneSignInApp: not so while something stands beside it."""
        known = facts.get(SignInAppFacts)
        return finding("OneSignInApp", known.doubles if known is not None else (), facts)

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return oauth_app_name(facts.tester, facts.uid, incarnation, attempt)

    def identity(self, observed: SeenApps) -> dict[str, str]:
        return {"app_id": str(observed.kept.id), "client_id": observed.kept.client_id, OWNER: observed.owner}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        return frozenset(app.name for app in await looks.oauth_apps())


def _kept_first(apps: list[OAuthApp], facts: Facts) -> tuple[OAuthApp, ...]:
    """Those that we know by their client id, else the newest; then the others, newest first. One that was there before our
    create began comes last: somebody else made it."""
    known, row = _known_ids(facts), facts.object

    def merit(app: OAuthApp) -> tuple[int, bool, int]:
        place = known.index(app.client_id) if app.client_id in known else len(known)
        return -place, not is_older(app.created_at, row), app.id

    return tuple(sorted(apps, key=merit, reverse=True))


def _may_be_kept(app: OAuthApp, facts: Facts) -> bool:
    """Of an app that was there and is gone no other one takes the place, unless it is proven ours as well. The name of one
    whose answer was lost was given to that one call."""
    row = facts.object
    if app.client_id in _known_ids(facts) or row is None or "client_id" not in row.identity or begun_at(row) is None:
        return True
    return app.created_at is None or is_proven(app.created_at, row)


def _known_ids(facts: Facts) -> tuple[str, ...]:
    """Client ids: of the app in use first, then of the one that the row is about."""
    known, row = facts.get(SignInAppFacts), facts.object
    ids = (known.client_id if known else "", row.identity.get("client_id", "") if row else "")
    return tuple(dict.fromkeys(each for each in ids if each))


async def _sealed(made: NewOAuthApp, owner: str, ports: Ports) -> SeenApps:
    await ports.seal(CLIENT_SECRET, made.client_secret)
    return SeenApps((made.app,), owner, fresh=True)


def _name(facts: Facts) -> str:
    return facts.object.name if facts.object else oauth_app_name(facts.tester, facts.uid)


def _create(name: str, address: str) -> Action:
    return Action(
        "create",
        f"OAuth app {name}",
        Effect.CREATE,
        changes=(
            FieldChange("name", None, name),
            FieldChange("redirectUri", None, address),
            secret_change("clientSecret", known=False),
        ),
        args=(name, address),
        reason="SignInAppCreated",
        voids=(CLIENT_SECRET,),
    )


def _rotate(app: OAuthApp, address: str, facts: Facts) -> tuple[Action, ...]:
    """One PATCH that puts the redirect address right, or makes a secret that we know, or both."""
    known = facts.get(SignInAppFacts)
    secret_known = facts.sealed(CLIENT_SECRET) is not None and known is not None and known.client_id == app.client_id
    drift = []
    if app.redirect_uris != (address,):
        drift.append(FieldChange("redirectUri", ", ".join(app.redirect_uris) or None, address))
    if not app.confidential:
        drift.append(FieldChange("confidentialClient", "false", "true"))
    if secret_known and not drift:
        return ()
    return (
        Action(
            "rotate",
            f"OAuth app {app.name}",
            changes=(*drift, secret_change("clientSecret", known=True)),
            disruption=Disruption.RESTART,
            consequences=(
                "Forge makes a new client secret; the old one stops working at once",
                "hero_proxy restarts with the new one",
            ),
            args=(str(app.id), app.name, address),
            reason="SignInAppRotated",
            voids=(CLIENT_SECRET,),
            only_while=("machine_access",),
        ),
    )


def _told_of(observed: SeenApps, facts: Facts) -> tuple[Double, ...]:
    known = facts.get(SignInAppFacts)
    before = known.doubles if known is not None else ()
    if observed.at is None:  # an answer tells of one only
        return before
    found = (Found(str(app.id), "Forge", app.name, app.created_at) for app in observed.apps[1:])
    return doubles_of(found, before, observed.at, facts, _in_use(observed, facts))


def _in_use(observed: SeenApps, facts: Facts) -> datetime | None:
    """When Forge made the one in use, if it is known to be ours."""
    return observed.kept.created_at if observed.kept.client_id in _known_ids(facts) else None


def _doubles_away(observed: SeenApps, facts: Facts) -> tuple[Action, ...]:
    """Those that are proven ours: after the grace while their tester stays, at once when it leaves."""
    if observed.at is None:
        return ()
    if facts.leaving:
        in_use = _in_use(observed, facts)
        due = {str(app.id) for app in observed.apps[1:] if is_proven(app.created_at, facts.object, in_use)}
    else:
        known, grace = facts.get(SignInAppFacts), facts.fleet.spec.timing.listing_grace
        due = {each.id for each in (known.doubles if known else ()) if is_due(each, observed.at, grace)}
    return tuple(
        Action(
            "delete_double",
            f"OAuth app {app.name} ({app.client_id})",
            changes=(FieldChange("clientId", app.client_id, None),),
            consequences=("another app of the same name is in use, and stays",),
            args=(str(app.id),),
            reason="DoubleDeleted",
        )
        for app in observed.apps[1:]
        if str(app.id) in due
    )


def _delete(app: OAuthApp) -> Action:
    return Action(
        "delete",
        f"OAuth app {app.name}",
        Effect.DELETE,
        disruption=Disruption.REMOVE,
        consequences=("nobody can sign in to this machine any more",),
        args=(str(app.id),),
        reason="SignInAppDeleted",
    )
