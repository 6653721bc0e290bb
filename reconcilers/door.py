"""The door: what was seen of it, and what follows. Pure; the decision table of the sign-in gate (DESIGN, "The door").

The listener is the port that the web gateway reaches. It is opened only after the machine's loopback has been seen to ask
for sign-in on every path; then it must be proven from outside and over the inner network within a short limit, or it is
shut again. Whatever is seen open is shut at once, before anything is repaired. A machine that cannot be told to shut its
door loses its gateway instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconcilers.actions import Action, Disruption, FieldChange, Step, Wait, secret_change
from reconcilers.backends.machine import Domain, SettingKey
from reconcilers.facts import Facts, GatewayFacts, MachineFacts, SignInAppFacts, SignInGateFacts
from reconcilers.proof import NOTHING_ASKED, SideProof, Verdict, demands, redirect_uri
from reconcilers.secret import Secret
from specs.desired import DesiredTester

PROXY = "hero_proxy"
CLIENT_SECRET = "oauth_client_secret"  # noqa: S105 - the short name under which the app's secret is sealed
BACKEND = "http://127.0.0.1:9988"
OAUTH = "oauth"
ON, OFF = Secret("1"), Secret("0")

CLIENT_ID_KEY: SettingKey = ("core", "FORGE_OAUTH_CLIENT_ID")
CLIENT_SECRET_KEY: SettingKey = ("core", "FORGE_OAUTH_CLIENT_SECRET")
ISSUER_KEY: SettingKey = ("core", "FORGE_OAUTH_ISSUER")
REDIRECT_KEY: SettingKey = ("core", "FORGE_OAUTH_REDIRECT_URI")
ALLOWLIST_KEY: SettingKey = ("core", "HERO_PROXY_ALLOWED_USERS")
LISTENER_KEY: SettingKey = ("core", "HERO_PROXY_SEED_GATEWAY_LISTENER")


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

    @property
    def set_open(self) -> bool:
        return self.values.get(LISTENER_KEY) == ON

    @property
    def listening(self) -> bool:
        """Set to be open, or seen to be. Somebody may have changed the setting without a restart."""
        return self.set_open or self.inner.alive


# ------------------------------------------------------------------ what should be


def wanted_values(desired: DesiredTester, facts: Facts) -> dict[SettingKey, Secret | None]:
    """The five secrets of the sign-in; None: the client secret is not known (its app is being made, or made anew)."""
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


def seen_open(door: SeenDoor, enforce_inner: bool) -> str:
    """Where a stranger was let in, in words; "" when nowhere. Loopback counts only while the listener is on."""
    sides = [("from outside", door.outside)]
    if enforce_inner:
        sides.append(("over the inner network", door.inner))
    if door.listening or not door.controllable:
        sides.append(("on the machine itself", door.loopback))
    return "; ".join(f"{side} {p.example}" for side, p in sides if p is not None and p.verdict is Verdict.OPEN)


def inside_proven(door: SeenDoor, enforce_inner: bool) -> bool:
    inner_fine = door.inner.verdict is Verdict.PROTECTED or not enforce_inner
    return door.loopback.verdict is Verdict.PROTECTED and inner_fine


def proven_now(door: SeenDoor, enforce_inner: bool) -> bool:
    """This very look proves the whole door."""
    outside = door.outside is not None and door.whole and door.outside.verdict is Verdict.PROTECTED
    settled = door.controllable and door.set_open and door.kept and not door.stale
    return settled and outside and inside_proven(door, enforce_inner)


def enforces_inner(facts: Facts) -> bool:
    return facts.fleet.spec.safety.inner_proof == "enforce"


def gate_facts(facts: Facts) -> SignInGateFacts:
    return facts.get(SignInGateFacts) or SignInGateFacts()


# ------------------------------------------------------------------ the decision table


def plan_door(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """The first rule that has something to say decides."""
    for rule in (_out_of_reach, _shut_what_is_open, _keep_values, _keep_domain, _restart_if_stale, _open, _prove):
        steps = rule(desired, door, facts)
        if steps:
            return steps
    return ()


def plan_first(desired: DesiredTester, facts: Facts) -> tuple[Step, ...]:
    """For previews: everything that a new machine's door needs."""
    keys = tuple(wanted_values(desired, facts))
    return (
        _write(keys, desired, facts, {}),
        _register(wanted_domain(desired, facts), None),
        _restart(),
        _open_listener(),
    )


def plan_leaving(door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """Close the listener, then forget the domain; a machine that cannot be told loses its gateway."""
    if not door.controllable:
        return (
            () if door.gateway_there is False else (_cut(facts, "the tester leaves and the machine cannot be reached"),)
        )
    if door.listening or door.stale:
        return _shut(door, "the tester leaves")
    return tuple(_unregister(each) for each in door.domains or () if each.domain == facts.need(GatewayFacts).fqdn)


def _out_of_reach(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    if door.controllable:
        return ()
    where = seen_open(door, enforces_inner(facts))
    if where:
        return (_cut(facts, f"seen open {where}, and the machine cannot be told to shut it"),)
    return (
        Wait(
            "MachineOutOfReach",
            "the door cannot be looked at from inside until the machine and its supervisor answer",
            facts.fleet.spec.timing.reachable_limit,
            blames=f"machine of {facts.tester}",
        ),
    )


def _shut_what_is_open(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    if not door.listening:
        return ()
    where = seen_open(door, enforces_inner(facts))
    if where:
        return _shut(door, f"seen open {where}")
    if gate_facts(facts).cut:
        return _shut(door, "its gateway was taken away; it is opened again when it is proven")
    if not door.set_open and not door.stale:
        return _shut(door, "it listens though it is set not to")
    return ()


def _keep_values(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    wanted = wanted_values(desired, facts)
    keys = drifted(wanted, door.values)
    if wanted[CLIENT_SECRET_KEY] is None:
        return (
            Wait(
                "WaitingForSignInApp",
                "the client secret of the OAuth app is not known; it is being made anew",
                facts.fleet.spec.timing.proof_limit,
                blames="Forge",
            ),
        )
    return (_write(keys, desired, facts, door.values),) if keys else ()


def _keep_domain(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """Exactly one registration, ours: any other would answer under its own rules."""
    if door.domains is None:
        return (
            Wait(
                "WaitingForFrontDoor",
                "hero_proxy does not answer on its socket",
                facts.fleet.spec.timing.proof_limit,
                blames=f"machine of {facts.tester}",
            ),
        )
    wanted = wanted_domain(desired, facts)
    there = next((each for each in door.domains if each.domain.casefold() == wanted.domain.casefold()), None)
    strangers = tuple(_unregister(each) for each in door.domains if each is not there)
    if there is None or not same_domain(there, wanted):
        return (_register(wanted, there), *strangers)
    return strangers


def _restart_if_stale(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    return (_restart(),) if door.stale else ()


def _open(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """Only what was seen to ask for sign-in on loopback, and only after the pause that follows a shut door."""
    if door.set_open:
        return ()
    blames = f"hero_proxy on the machine of {facts.tester}"
    limit = facts.fleet.spec.timing.proof_limit
    if door.loopback.verdict is not Verdict.PROTECTED:
        message = f"the front door does not ask for sign-in yet: {door.loopback.example}"
        return (Wait("DoorNotAsking", message, limit, blames),)
    left = pause_left(door.at, facts)
    if left > timedelta(0):
        message = f"the door was shut and is opened again in {left.total_seconds():.0f} s"
        return (Wait("DoorShut", message, left + limit, blames, poll=left),)
    return (_open_listener(),)


def pause_left(at: datetime, facts: Facts) -> timedelta:
    """How long a shut door stays shut: longer each time, until it has been proven once."""
    gate, timing = gate_facts(facts), facts.fleet.spec.timing
    if gate.shut_at is None or gate.shuts == 0:
        return timedelta(0)
    pause = min(timing.backoff_ceiling, timing.backoff_base * 2 ** min(gate.shuts - 1, 20))
    return gate.shut_at + pause - at


def _prove(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    gate, enforce = gate_facts(facts), enforces_inner(facts)
    if proven_now(door, enforce) or (gate.proven == door.digest and inside_proven(door, enforce)):
        return ()
    limit = facts.fleet.spec.timing.proof_limit
    unproven = _unproven(door, enforce)
    if gate.opened_at is not None and door.at - gate.opened_at >= limit:
        return _shut(door, f"not proven within {limit.total_seconds():.0f} s: {unproven}")
    return (Wait("ProvingDoor", f"not proven yet: {unproven}", limit, blames=_to_blame(door, facts)),)


def _unproven(door: SeenDoor, enforce_inner: bool) -> str:
    sides = [("on the machine itself", door.loopback), ("from outside", door.outside)]
    if enforce_inner:
        sides.insert(1, ("over the inner network", door.inner))
    words = [f"{side} {p.example}" for side, p in sides if p is not None and p.verdict is not Verdict.PROTECTED]
    return "; ".join(words) or "it was not asked from outside yet"


def _to_blame(door: SeenDoor, facts: Facts) -> str:
    inside_fine = door.loopback.verdict is Verdict.PROTECTED and door.inner.alive
    return "the grid's routing to the gateway" if inside_fine else f"hero_proxy on the machine of {facts.tester}"


# ------------------------------------------------------------------ the actions


def _shut(door: SeenDoor, why: str) -> tuple[Action, ...]:
    """Listener off, and hero_proxy restarted so that it takes effect; before anything else."""
    off = Action(
        "shut",
        "listener of the front door",
        changes=(FieldChange("listener", "open", "shut"),),
        disruption=Disruption.REMOVE,
        consequences=(why, "nobody reaches the machine through the gateway"),
        reason="DoorShut",
        urgent=True,
    )
    restart = Action(
        "restart",
        f"service {PROXY}",
        disruption=Disruption.RESTART,
        consequences=("the listener goes away",),
        args=(PROXY,),
        reason="ServiceRestarted",
        urgent=True,
    )
    return (off, restart) if door.set_open else (restart,)


def _cut(facts: Facts, why: str) -> Action:
    gateway = facts.need(GatewayFacts)
    return Action(
        "cut_gateway",
        f"gateway {gateway.gateway_name}",
        disruption=Disruption.REMOVE,
        consequences=(why, "the public address is taken away; a new one is made when the machine answers again"),
        args=(gateway.daemon, gateway.gateway_id),
        reason="DoorCut",
        urgent=True,
    )


def _write(
    keys: tuple[SettingKey, ...], desired: DesiredTester, facts: Facts, there: Mapping[SettingKey, Secret]
) -> Action:
    wanted = wanted_values(desired, facts)
    return Action(
        "write_sign_in",
        "sign-in settings of hero_proxy",
        changes=tuple(_change(key, wanted[key], there.get(key)) for key in keys),
        disruption=Disruption.RESTART,
        consequences=("hero_proxy restarts",),
        args=tuple("/".join(key) for key in keys),
        reason="SignInWritten",
    )


def _change(key: SettingKey, wanted: Secret | None, there: Secret | None) -> FieldChange:
    path = "/".join(key)
    if key == CLIENT_SECRET_KEY or wanted is None:
        return secret_change(path, known=there is not None)
    before = there.reveal().decode(errors="replace")[:300] if there is not None else None
    return FieldChange(path, before, wanted.text())


def _register(wanted: Domain, there: Domain | None) -> Action:
    return Action(
        "set_domain",
        f"domain {wanted.domain}",
        changes=(FieldChange("domain", _domain_words(there) if there else None, _domain_words(wanted)),),
        reason="DomainRegistered",
    )


def _domain_words(domain: Domain) -> str:
    public = f", public {' '.join(domain.public_paths)}" if domain.public_paths else ""
    return f"{domain.domain} ({domain.auth_mode}) → {domain.backend}{public}"


def _unregister(domain: Domain) -> Action:
    return Action(
        "remove_domain",
        f"domain {domain.domain}",
        changes=(FieldChange("domain", _domain_words(domain), None),),
        args=(domain.domain,),
        reason="DomainRemoved",
    )


def _restart() -> Action:
    return Action(
        "restart",
        f"service {PROXY}",
        disruption=Disruption.RESTART,
        consequences=("hero_proxy reads its changed settings; open pages reconnect",),
        args=(PROXY,),
        reason="ServiceRestarted",
    )


def _open_listener() -> Action:
    return Action(
        "open",
        "listener of the front door",
        changes=(FieldChange("listener", "shut", "open"),),
        disruption=Disruption.RESTART,
        consequences=("the gateway reaches the front door, which asks for sign-in; hero_proxy restarts",),
        reason="DoorOpened",
    )
