"""The door: what was seen of it, what should be there, what is proven. Pure. What follows is in `reconcilers.door_rules`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reconcilers.backends.machine import Domain, MachineLook, SettingKey
from reconcilers.backends.probes import Probe, Side
from reconcilers.facts import Facts, GatewayFacts, MachineFacts, SignInAppFacts, SignInGateFacts
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.machine_look import SIDES, is_listening
from reconcilers.proof import NOTHING_ASKED, SideProof, SignIn, Verdict, demands, prove, redirect_uri
from reconcilers.secret import Secret
from specs.desired import DesiredTester

CLIENT_SECRET = "oauth_client_secret"  # noqa: S105 - the short name under which the app's secret is sealed
BACKEND = "http://127.0.0.1:9988"
OAUTH = "oauth"

CLIENT_ID_KEY: SettingKey = ("core", "FORGE_OAUTH_CLIENT_ID")
CLIENT_SECRET_KEY: SettingKey = ("core", "FORGE_OAUTH_CLIENT_SECRET")
ISSUER_KEY: SettingKey = ("core", "FORGE_OAUTH_ISSUER")
REDIRECT_KEY: SettingKey = ("core", "FORGE_OAUTH_REDIRECT_URI")
ALLOWLIST_KEY: SettingKey = ("core", "HERO_PROXY_ALLOWED_USERS")


@dataclass(frozen=True, slots=True)
class SeenDoor:
    """What one pass saw of the door.

    controllable  the machine answers over SSH and hero_proc answers there, so that the listener can be shut
    values        the secrets that the gate keeps, as hero_proc has them
    domains       None: the front door did not answer
    stale         hero_proxy runs on values that were changed since it started
    loopback, inner, outside   what each side proves; outside None: it was not asked this time
    whole         every path was asked from outside
    next_path     which path of the long round comes next
    kept          values and domain are as they should be
    digest        of everything that a proof speaks of
    gateway_there whether the daemon lists the gateway; None: it was not asked
    installing    hero_proxy is being installed or updated just now
    looked_at     when the look at the machine was begun; None: nobody answered
    """

    at: datetime
    controllable: bool
    digest: str
    values: Mapping[SettingKey, Secret] = field(default_factory=dict)
    domains: tuple[Domain, ...] | None = None
    stale: bool = False
    loopback: SideProof = NOTHING_ASKED
    inner: SideProof = NOTHING_ASKED
    outside: SideProof | None = None
    whole: bool = False
    next_path: int = 0
    kept: bool = False
    gateway_there: bool | None = None
    installing: bool = False
    looked_at: datetime | None = None

    @property
    def set_open(self) -> bool:
        return self.values.get(LISTENER_KEY) == LISTENER_ON

    @property
    def listening(self) -> bool:
        """Set to be open, or seen to be. Somebody may have changed the setting without a restart."""
        return self.set_open or self.inner.alive


# ------------------------------------------------------------------ what should be


def wanted_values(desired: DesiredTester, facts: Facts) -> dict[SettingKey, Secret | None]:
    """The five secrets of the sign-in (names A); None: the client secret is not known, as its app is being made or made anew."""
    gateway, app = facts.need(GatewayFacts), facts.need(SignInAppFacts)
    return {
        CLIENT_ID_KEY: Secret(app.client_id),
        CLIENT_SECRET_KEY: facts.sealed(CLIENT_SECRET),
        ISSUER_KEY: Secret(facts.fleet.spec.forge.url),
        REDIRECT_KEY: Secret(redirect_uri(gateway.fqdn)),
        ALLOWLIST_KEY: Secret(",".join(desired.allowlist)),
    }


def wanted_domain(desired: DesiredTester, facts: Facts) -> Domain:
    return Domain(facts.need(GatewayFacts).fqdn, OAUTH, BACKEND, desired.public_paths)


def proof_digest(desired: DesiredTester, facts: Facts) -> str:
    """Everything that a proof speaks of. When any of it changes, the door is proven anew."""
    gateway, app, machine = facts.need(GatewayFacts), facts.need(SignInAppFacts), facts.need(MachineFacts)
    questions = [(each.host, each.path, each.expect.value) for each in demands(gateway.fqdn, desired)]
    people = sorted(name.casefold() for name in desired.allowlist)
    parts = (machine.key, gateway.gateway_id, app.client_id, people, sorted(desired.public_paths), questions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def drifted(wanted: Mapping[SettingKey, Secret | None], there: Mapping[SettingKey, Secret]) -> tuple[SettingKey, ...]:
    """The secrets that differ; the allowlist whatever its order and case. An unknown client secret differs from nothing."""
    return tuple(key for key, value in wanted.items() if value is not None and not _same(key, value, there.get(key)))


def _same(key: SettingKey, wanted: Secret, there: Secret | None) -> bool:
    if there is None:
        return False
    if key == ALLOWLIST_KEY:
        return _people(there) == _people(wanted)
    if key == ISSUER_KEY:
        return there.reveal().rstrip(b"/") == wanted.reveal().rstrip(b"/")
    return there == wanted


def _people(allowlist: Secret) -> frozenset[str]:
    text = allowlist.reveal().decode(errors="replace")
    return frozenset(name.strip().casefold() for name in text.split(",") if name.strip())


def same_domain(one: Domain, other: Domain) -> bool:
    """Public paths in any order."""
    return (one.domain.casefold(), one.auth_mode, one.backend.rstrip("/"), frozenset(one.public_paths)) == (
        other.domain.casefold(),
        other.auth_mode,
        other.backend.rstrip("/"),
        frozenset(other.public_paths),
    )


def is_kept(
    desired: DesiredTester, facts: Facts, values: Mapping[SettingKey, Secret], domains: tuple[Domain, ...] | None
) -> bool:
    """Whether every secret and the one domain are as they should be."""
    wanted = wanted_values(desired, facts)
    if None in wanted.values() or domains is None or len(domains) != 1:
        return False
    return not drifted(wanted, values) and same_domain(domains[0], wanted_domain(desired, facts))


# ------------------------------------------------------------------ what was proven


def side_of(look: MachineLook, side: Side, desired: DesiredTester, facts: Facts, authorize_url: str) -> SideProof:
    """What a look at the machine proves of one side."""
    asked = demands(facts.need(GatewayFacts).fqdn, desired)
    found = {each: Probe(side, each.host, each.path) for each in asked}
    answered = {each: look.probes[probe] for each, probe in found.items() if probe in look.probes}
    return prove(asked, answered, SignIn(authorize_url, facts.need(SignInAppFacts).client_id))


def open_inside(look: MachineLook, at: datetime, desired: DesiredTester, facts: Facts, authorize_url: str) -> str:
    """Where a look lets a stranger in, in words; "" when nowhere, and before there is an address to ask by. There may be none any
    more after a cut: then the listener alone counts."""
    if gate_facts(facts).cut and is_listening(look):
        return "over the inner network, as may be: its gateway had to be cut off, and the listener is still on"
    if facts.get(GatewayFacts) is None or facts.get(SignInAppFacts) is None:
        return ""
    loopback, inner = (side_of(look, side, desired, facts, authorize_url) for side in SIDES)
    door = SeenDoor(at, controllable=True, digest="", values=look.secrets, loopback=loopback, inner=inner)
    return seen_open(door, enforces_inner(facts))


def seen_open(door: SeenDoor, enforce_inner: bool) -> str:
    """Where a stranger was let in, in words; "" when nowhere.

    Loopback counts only while the listener is on: before the sign-in is set up the front door is open there, to nobody.
    """
    sides = [("from outside", door.outside)]
    if enforce_inner:
        sides.append(("over the inner network", door.inner))
    if door.listening:
        sides.append(("on the machine itself", door.loopback))
    return "; ".join(f"{side} {p.example}" for side, p in sides if p is not None and p.verdict is Verdict.OPEN)


def contradicted(door: SeenDoor, enforce_inner: bool) -> bool:
    """Something answered, and not as it must: also a mere "not found" has come through the gate."""
    sides = (door.loopback, door.outside, door.inner if enforce_inner else None)
    return any(side is not None and side.alive and side.verdict is not Verdict.PROTECTED for side in sides)


def inside_proven(door: SeenDoor, enforce_inner: bool) -> bool:
    inner_fine = door.inner.verdict is Verdict.PROTECTED or not enforce_inner
    return door.loopback.verdict is Verdict.PROTECTED and inner_fine


def proven_now(door: SeenDoor, enforce_inner: bool) -> bool:
    """This very look proves the whole door."""
    outside = door.outside is not None and door.whole and door.outside.verdict is Verdict.PROTECTED
    settled = door.controllable and door.set_open and door.kept and not door.stale
    return settled and outside and inside_proven(door, enforce_inner)


def is_proven(door: SeenDoor, facts: Facts) -> bool:
    """This look proves it, or an earlier one did, what it speaks of is unchanged, and the inside still holds."""
    enforce = enforces_inner(facts)
    if proven_now(door, enforce):
        return True
    unchanged = gate_facts(facts).proven == door.digest and door.set_open and door.kept and not door.stale
    return unchanged and not seen_open(door, enforce) and inside_proven(door, enforce)


def enforces_inner(facts: Facts) -> bool:
    return facts.fleet.spec.safety.inner_proof == "enforce"


def gate_facts(facts: Facts) -> SignInGateFacts:
    return facts.get(SignInGateFacts) or SignInGateFacts()
