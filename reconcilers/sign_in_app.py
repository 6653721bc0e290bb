"""The tester's own OAuth app at Forge, with exactly one redirect address (lesson 18).

Any PATCH makes a new secret and kills the old one (V, S; lesson 19): it is done only when the redirect address is wrong or the
secret is not known, and only while the machine can be reached, so that the new secret gets there in the same motion.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers.actions import Action, Disruption, Effect, FieldChange, Step, secret_change
from reconcilers.backends import Backends
from reconcilers.backends.forge import NewOAuthApp, OAuthApp
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import Facts, GatewayFacts, SignInAppFacts
from reconcilers.forge_owner import OWNER, check_owner, claimed_owner
from reconcilers.looks import TesterLooks
from reconcilers.proof import redirect_uri
from specs.desired import DesiredTester
from specs.names import oauth_app_name

CLIENT_SECRET = "oauth_client_secret"  # noqa: S105 - the short name under which it is sealed


@dataclass(frozen=True, slots=True)
class SeenApps:
    """All apps of our name (names are not unique at Forge, V), the one that we keep first, and whose they are.

    fresh  this very call of ours made it or its secret, so that the sealed secret belongs to it
    """

    apps: tuple[OAuthApp, ...]
    owner: str
    fresh: bool = False

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
        """By name. Raises Blocked ForgeIdentityChanged: another owner's list says nothing about our apps."""
        owner = await check_owner(tester, looks)
        row = tester.facts.object
        name = row.name if row else oauth_app_name(tester.facts.tester, tester.facts.uid)
        apps = [app for app in await looks.oauth_apps() if app.name == name]
        return SeenApps(_kept_first(apps, tester.facts), owner) if apps else None

    def plan(self, desired: DesiredTester | None, observed: SeenApps | None, facts: Facts) -> tuple[Step, ...]:
        """Create, drop duplicates, or rotate."""
        if desired is None:
            return () if observed is None else (*_drop_duplicates(observed), _delete(observed.kept))
        address = redirect_uri(facts.need(GatewayFacts).fqdn)
        if observed is None:
            return (_create(_name(facts), address),)
        return (*_drop_duplicates(observed), *_rotate(observed.kept, address, facts))

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenApps | None:
        """A secret that Forge gives is sealed before anything else happens (law 3)."""
        forge = self.backends.forge
        owner = await claimed_owner(forge, tester, ports)
        if action.verb in ("delete", "delete_duplicate"):
            await forge.delete_oauth_app(int(action.args[0]))
            return None
        if action.verb == "create":
            name, address = action.args
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
        )

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return oauth_app_name(facts.tester, facts.uid, incarnation, attempt)

    def identity(self, observed: SeenApps) -> dict[str, str]:
        return {"app_id": str(observed.kept.id), "client_id": observed.kept.client_id, OWNER: observed.owner}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        return frozenset(app.name for app in await looks.oauth_apps())


def _kept_first(apps: list[OAuthApp], facts: Facts) -> tuple[OAuthApp, ...]:
    """The one that we know by its client id, else the newest; then the others, newest first."""
    known = facts.get(SignInAppFacts)
    client_id = known.client_id if known else ""
    return tuple(sorted(apps, key=lambda app: (app.client_id == client_id, app.id), reverse=True))


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


def _drop_duplicates(observed: SeenApps) -> tuple[Action, ...]:
    return tuple(
        Action(
            "delete_duplicate",
            f"OAuth app {app.name} ({app.client_id})",
            changes=(FieldChange("clientId", app.client_id, None),),
            consequences=("another app of the same name is kept",),
            args=(str(app.id),),
            reason="DuplicateDeleted",
        )
        for app in observed.apps[1:]
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
