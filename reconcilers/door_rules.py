"""The decision table of the sign-in gate (DESIGN, "The door"). Pure.

The listener is the port that the web gateway reaches. It is opened only after the machine's loopback has been seen to ask
for sign-in on every path; then it must be proven from outside and over the inner network within a short limit, or it is
shut again. Whatever is seen open is shut at once, before anything is repaired. A machine that cannot be told to shut its
door, or has been told in vain for too long, loses its gateway instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from reconcilers.actions import INSTALLING, Action, Disruption, FieldChange, Step, Wait, secret_change
from reconcilers.backends.machine import Domain, SettingKey
from reconcilers.door import (
    CLIENT_SECRET_KEY,
    SeenDoor,
    drifted,
    enforces_inner,
    gate_facts,
    is_proven,
    same_domain,
    seen_open,
    wanted_domain,
    wanted_values,
)
from reconcilers.facts import Facts, GatewayFacts
from reconcilers.listener import PROXY, shut_actions
from reconcilers.proof import Verdict
from reconcilers.secret import Secret
from specs.desired import DesiredTester


def plan_door(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """The first rule that has something to say decides."""
    for rule in _RULES:
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
        # A listing may omit what is there: a door that is seen open has its gateway cut once, listed or not.
        if door.gateway_there is False and (gate_facts(facts).cut or not seen_open(door, enforces_inner(facts))):
            return ()
        return (_cut(door, facts, "the tester leaves and the machine cannot be reached"),)
    if (where := seen_open(door, enforces_inner(facts))) and _shut_in_vain(door, facts):
        return (_cut(door, facts, f"seen open {where}, and it cannot be shut"),)
    if door.listening or (door.stale and door.loopback.alive):
        return _shut(door, "the tester leaves")
    return tuple(_unregister(each) for each in door.domains or () if each.domain == facts.need(GatewayFacts).fqdn)


def _out_of_reach(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    if door.controllable:
        return ()
    where = seen_open(door, enforces_inner(facts))
    if where:
        return (_cut(door, facts, f"seen open {where}, and the machine cannot be told to shut it"),)
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
    if where and _shut_in_vain(door, facts):
        return (_cut(door, facts, f"seen open {where}, and it cannot be shut"),)
    if where:
        return _shut(door, f"seen open {where}")
    if gate_facts(facts).cut:
        return _shut(door, "its gateway was taken away; it is opened again when it is proven")
    if not door.set_open and not door.stale:
        return _shut(door, "it listens though it is set not to")
    return ()


def _shut_in_vain(door: SeenDoor, facts: Facts) -> bool:
    """Open for as long as a gateway may take to go, and for as long after the last cut, which may have failed: the machine is
    told to shut it again and again meanwhile."""
    gate, limit = gate_facts(facts), facts.fleet.spec.timing.gateway_limit
    since = max((each for each in (gate.opened_at, gate.cut_at) if each is not None), default=None)
    return gate.opened_at is not None and _is_over(limit, since, door)


def _is_over(limit: timedelta, since: datetime | None, door: SeenDoor) -> bool:
    """In the future: the clock was set back since. How long ago it was is not known then, so the limit counts as over."""
    return since is not None and not timedelta(0) <= door.at - since < limit


def _shut_what_is_unproven(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """After the limit, whatever stands in the way of the proof."""
    limit = facts.fleet.spec.timing.proof_limit
    if not door.set_open or is_proven(door, facts) or not _is_over(limit, gate_facts(facts).opened_at, door):
        return ()
    return _shut(door, f"not proven within {limit.total_seconds():.0f} s: {_unproven(door, facts)}")


def _shut_what_a_restart_would_open(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """Set open, and hero_proxy has to be restarted to read what changed, but nobody has seen it ask for sign-in: the
    process may have ended between the setting and the restart, and what hero_proxy does may have changed since."""
    due = door.stale or bool(drifted(wanted_values(desired, facts), door.values))
    if not door.set_open or not due or door.inner.alive or door.loopback.verdict is Verdict.PROTECTED:
        return ()
    return _shut(door, f"a restart would open it, and it does not ask for sign-in: {_unproven(door, facts)}")


def _keep(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """What hero_proxy reads and the domain in one go, and then the restart with which it reads them: writing reads back by
    itself, so a look in between would only take time."""
    values = _keep_values(desired, door, facts)
    if any(isinstance(step, Wait) for step in values):
        return values
    domain = _keep_domain(desired, door, facts)
    if not values:
        return domain
    restart = () if door.installing else (_restart(),)
    return (*values, *(step for step in domain if isinstance(step, Action)), *restart)


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


def _not_during_an_install(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    """A door is shut at any time, but neither restarted nor opened while hero_proxy is being replaced."""
    if not door.installing or (door.set_open and not door.stale):
        return ()
    return (
        Wait(
            INSTALLING,
            "hero_proxy is being installed; the door is seen to when that has ended",
            facts.fleet.spec.timing.install_limit,
            blames=f"machine of {facts.tester}",
        ),
    )


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
    return (_open_listener(), _restart())


def pause_left(at: datetime, facts: Facts) -> timedelta:
    """How long a shut door stays shut: longer each time, until it has been proven once."""
    gate, timing = gate_facts(facts), facts.fleet.spec.timing
    if gate.shut_at is None or gate.shuts == 0 or gate.shut_at > at:  # after `at`: before the clock was set back
        return timedelta(0)
    growth: int = 2 ** min(gate.shuts - 1, 20)
    pause = min(timing.backoff_ceiling, timing.backoff_base * growth)
    return gate.shut_at + pause - at


def _prove(desired: DesiredTester, door: SeenDoor, facts: Facts) -> tuple[Step, ...]:
    if is_proven(door, facts):
        return ()
    limit = facts.fleet.spec.timing.proof_limit
    return (Wait("ProvingDoor", f"not proven yet: {_unproven(door, facts)}", limit, blames=_to_blame(door, facts)),)


def _unproven(door: SeenDoor, facts: Facts) -> str:
    sides = [("on the machine itself", door.loopback), ("from outside", door.outside)]
    if enforces_inner(facts):
        sides.insert(1, ("over the inner network", door.inner))
    words = [f"{side} {p.example}" for side, p in sides if p is not None and p.verdict is not Verdict.PROTECTED]
    return "; ".join(words) or "it was not asked from outside yet"


def _to_blame(door: SeenDoor, facts: Facts) -> str:
    inside_fine = door.loopback.verdict is Verdict.PROTECTED and door.inner.alive
    return "the grid's routing to the gateway" if inside_fine else f"hero_proxy on the machine of {facts.tester}"


_RULES = (
    _out_of_reach,
    _shut_what_is_open,
    _shut_what_is_unproven,
    _shut_what_a_restart_would_open,
    _keep,
    _not_during_an_install,
    _restart_if_stale,
    _open,
    _prove,
)


# ------------------------------------------------------------------ the actions


def _shut(door: SeenDoor, why: str) -> tuple[Action, ...]:
    return shut_actions(set_open=door.set_open, why=why)


def _cut(door: SeenDoor, facts: Facts, why: str) -> Action:
    gateway = facts.need(GatewayFacts)
    return Action(
        "cut_gateway",
        f"gateway {gateway.gateway_name}",
        disruption=Disruption.REMOVE,
        consequences=(
            "the public address is taken away; a new one is made when the machine answers and the door is shut",
        ),
        why=why,
        args=(gateway.daemon, gateway.gateway_id),
        reason="DoorCut",
        limit=facts.fleet.spec.timing.gateway_limit,
        # Until the machine answers again nobody must make a new gateway to an open door.
        records=gate_facts(facts).model_copy(update={"cut": True, "cut_at": door.at, "proven": ""}),
        urgent=True,
    )


def _write(
    keys: tuple[SettingKey, ...], desired: DesiredTester, facts: Facts, there: Mapping[SettingKey, Secret]
) -> Action:
    wanted = wanted_values(desired, facts)
    return Action(
        "write_sign_in",
        "settings of hero_proxy",
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
        wanted.domain,
        changes=(FieldChange("domain", _domain_words(there) if there else None, _domain_words(wanted)),),
        reason="DomainRegistered",
    )


def _domain_words(domain: Domain) -> str:
    public = f", public {' '.join(domain.public_paths)}" if domain.public_paths else ""
    return f"{domain.domain} ({domain.auth_mode}) → {domain.backend}{public}"


def _unregister(domain: Domain) -> Action:
    return Action(
        "remove_domain",
        domain.domain,
        changes=(FieldChange("domain", _domain_words(domain), None),),
        args=(domain.domain,),
        reason="DomainRemoved",
    )


def _restart() -> Action:
    return Action(
        "restart_proxy",
        f"service {PROXY}",
        disruption=Disruption.RESTART,
        consequences=("hero_proxy reads its changed settings; open pages reconnect",),
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
