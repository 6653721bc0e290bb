"""The public name → our VM's port 9988.

Names are unique on the whole grid, a taken one is refused even to its owner (P): it leads to the next attempt's (lesson 14).
A gateway is for one machine: the next one has another name, also if the grid gives it the same address (P).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from reconcilers.actions import Action, Disruption, Effect, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway, GatewayOrder, backend_url
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import NameTaken
from reconcilers.facts import (
    Facts,
    FrontDoorFacts,
    GatewayFacts,
    MachineFacts,
    ObjectState,
    SignInAppFacts,
    SignInGateFacts,
    is_since_cut,
)
from reconcilers.gateway_routing import UNROUTED, Dead, dead_since, findings, in_words, is_braked, limit_of
from reconcilers.listed import under
from reconcilers.looks import TesterLooks
from reconcilers.placement import check_daemon_named, grid_node_of
from reconcilers.proof import HEALTH_PATH, SignIn, answers_outside, asks_for_sign_in, gated_outside
from reconcilers.quarantine import finding
from specs.desired import DesiredTester
from specs.names import gateway_name

_MADE_FOR = "machine"  # in a row's identity


@dataclass(frozen=True, slots=True)
class SeenGateway:
    """A gateway, the daemon that has it, and its address: told, or computed from the daemon's domain (lesson 13).

    machine  daemon/id of the machine that it was made for; "" while that is not known
    dead     that it leads nowhere; None while it leads to the machine, or while that is not known
    unlisted its daemon's listing omits it, and its public name leads to the tester's machine
    """

    daemon: str
    gateway: Gateway
    fqdn: str
    computed: bool = False
    machine: str = ""
    dead: Dead | None = None
    unlisted: bool = False


class GatewayReconciler(Base):
    """Keeps one gateway. One that the grid calls failed and that is listed all the same counts: the proof decides (lesson 12)."""

    name = "gateway"
    needs: tuple[str, ...] = ("machine",)
    makes = True
    leaves = "standing"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenGateway | None:
        """By id where it is known, else by name, at the daemon that was asked for it. One that was begun at a daemon which
        the row does not tell is looked for at all of them; before anything was begun, where the machine is.

        Raises Blocked DaemonInUse when the fleet has lost the daemon that has it, and what a daemon that cannot be read raises.
        """
        row = tester.facts.object
        wanted_id = row.identity.get("gateway_id") if row else None
        name = row.name if row else self.name_for(tester.desired, tester.facts, 1, 1)
        what = f"gateway {name}" if row and row.identity.get("daemon") else "the machine"
        for daemon in _daemons(tester.facts):
            check_daemon_named(tester.facts.fleet.spec.compute, daemon, f"{what} of {tester.name}")
            listed = await looks.gateways(daemon)
            found = under(listed, "gateway_id", wanted_id) if wanted_id else under(listed, "name", name)
            for gateway in found[:1]:
                return await self._whether_dead(_seen(gateway, daemon, tester.facts), tester.facts, looks)
        return await self._unlisted(tester, looks)

    async def _unlisted(self, tester: TesterView, looks: TesterLooks) -> SeenGateway | None:
        """A listing may omit what is there, and a daemon cannot be asked for one gateway: as long as its public name sends
        strangers to sign in for this very tester, it stands."""
        known, app = tester.facts.get(GatewayFacts), tester.facts.get(SignInAppFacts)
        asked = gated_outside(known.fqdn, tester.desired) if known is not None else None
        if known is None or app is None or asked is None or not _is_in_use(known, tester.facts):
            return None
        looks.unshared()
        answer = (await looks.outside(asked.host, (asked.path,)))[asked.path]
        if not asks_for_sign_in(answer, SignIn(self.backends.forge.authorize_url(), app.client_id)):
            return None
        return replace(_seen(_remembered(known), known.daemon, tester.facts), unlisted=True)

    async def _whether_dead(self, seen: SeenGateway, facts: Facts, looks: TesterLooks) -> SeenGateway:
        """Before it is made anew it is asked once more: what the gate remembers may be some time ago."""
        since = dead_since(seen.gateway, facts)
        if since is None:
            return seen
        found = Dead(since, looks.now() - since, limit_of(seen.gateway, facts))
        if not found.is_due:
            return replace(seen, dead=found)
        looks.unshared()
        answer = (await looks.outside(seen.fqdn, (HEALTH_PATH,)))[HEALTH_PATH]
        if answers_outside(answer):
            return seen
        return replace(seen, dead=replace(found, fleet=await looks.unrouted()))

    def plan(self, desired: DesiredTester | None, observed: SeenGateway | None, facts: Facts) -> tuple[Step, ...]:
        """Create, or replace one that leads elsewhere, or nowhere for too long. While the door is cut none is made."""
        if desired is None:
            return (_delete(observed, facts, Disruption.REMOVE, "the public address is given up"),) if observed else ()
        machine = facts.need(MachineFacts)
        if observed is None:
            return (_door_is_cut(facts) if _cut(facts) else self._create(desired, machine, facts),)
        leads_to, marks = _what_is_wrong(observed, machine, facts)
        if not leads_to:
            return ()
        address = "the public address changes" if desired.address == "auto" else "the address is away for a while"
        consequences = ("a new one is made for this machine", address)
        delete = _delete(observed, facts, Disruption.REBUILD, *consequences)
        return (replace(delete, why=leads_to, marks=marks),)

    def _create(self, desired: DesiredTester, machine: MachineFacts, facts: Facts) -> Action:
        name = facts.object.name if facts.object else self.name_for(desired, facts, 1, 1)
        return Action(
            "create",
            f"gateway {name}",
            Effect.CREATE,
            changes=(FieldChange("name", None, name), FieldChange("backend", None, backend_url(machine.address))),
            args=(name,),
            reason="GatewayCreated",
            limit=facts.fleet.spec.timing.gateway_limit,
        )

    def delete_unseen(self, facts: Facts) -> Action | None:
        """By the id that its row tells."""
        row = facts.object
        daemon, gateway_id = (row.identity.get(each) for each in ("daemon", "gateway_id")) if row else (None, None)
        if row is None or daemon is None or gateway_id is None:
            return None
        delete = _delete(SeenGateway(daemon, Gateway(gateway_id, row.name), ""), facts, Disruption.REMOVE)
        return replace(delete, why="no listing shows it, which may be wrong")

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenGateway | None:
        if action.verb == "delete":
            daemon, gateway_id = action.args
            await self.backends.daemon(daemon).delete_gateway(gateway_id)
            return None
        machine = tester.facts.need(MachineFacts)
        grid_node = grid_node_of(tester.facts.fleet.spec.compute, machine.daemon, machine.node_sid)
        order = GatewayOrder(name=action.args[0], grid_node=grid_node, backend_address=machine.address)
        # Whatever becomes of the call and of the machine: from now on it is known where to look for it.
        await ports.place({"daemon": machine.daemon, _MADE_FOR: machine.key})
        try:
            made = await self.backends.daemon(machine.daemon).deploy_gateway(order)
        except NameTaken as error:
            if tester.desired.address == "auto":
                raise  # the next attempt has another name
            cure = "it is not ours: choose another one in spec.address, or auto"
            raise NameTaken(f"{error.message}; {cure}", system=error.system) from error
        return replace(_seen(made, machine.daemon, tester.facts), machine=machine.key)

    def learn(self, observed: SeenGateway, facts: Facts) -> GatewayFacts | None:
        """The address: told now, else told before by the same gateway, else computed."""
        gateway, known = observed.gateway, facts.get(GatewayFacts)
        told_before = known is not None and known.gateway_id == gateway.gateway_id and not known.computed
        if known is not None and observed.computed and told_before:
            fqdn, computed = known.fqdn, False
        else:
            fqdn, computed = observed.fqdn, observed.computed
        return GatewayFacts(
            daemon=observed.daemon,
            gateway_id=gateway.gateway_id,
            gateway_name=gateway.name,
            fqdn=fqdn,
            computed=computed,
            backend=", ".join(gateway.backends),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """AddressConfirmed: unknown while the address is only computed. GatewayAnswers, GatewayListed: while it does not, or
        is not."""
        told = (*self._address(facts), *finding("OneGateway", (), facts))
        if isinstance(observed, SeenGateway) and observed.unlisted:
            return (*told, _listing_incomplete(observed))
        if isinstance(observed, SeenGateway) and observed.dead is not None:
            return (*told, *findings(observed.dead, observed.gateway, facts))
        return told

    def _address(self, facts: Facts) -> tuple[Finding, ...]:
        known = facts.get(GatewayFacts)
        if known is None:
            return ()
        if known.computed:
            message = f"the daemon told no address: {known.fqdn} is computed from the name and the gateway domain"
            return (Finding("AddressConfirmed", None, "AddressComputed", message),)
        return (Finding("AddressConfirmed", True, "AddressTold", f"the daemon told {known.fqdn}"),)

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        """The address that the spec asks for, whatever the incarnation; else a new name each time."""
        if desired.address != "auto":
            return desired.address
        return gateway_name(facts.tester, facts.uid, incarnation, attempt)

    def identity(self, observed: SeenGateway) -> dict[str, str]:
        known = {"daemon": observed.daemon, "gateway_id": observed.gateway.gateway_id}
        return {**known, _MADE_FOR: observed.machine} if observed.machine else known

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """At the daemons where it may be. Raises what one that cannot be read raises."""
        daemons = _daemons(tester.facts)
        return frozenset([gateway.name for daemon in daemons for gateway in await looks.gateways(daemon)])


def _daemons(facts: Facts) -> tuple[str, ...]:
    """Where a gateway is, or may be. Nowhere before there is a machine and anything was begun."""
    row, machine = facts.object, facts.get(MachineFacts)
    if row is not None and row.identity.get("daemon"):
        return (row.identity["daemon"],)
    if row is not None and row.state is not ObjectState.GONE:
        return tuple(daemon.name for daemon in facts.fleet.spec.compute)
    return (machine.daemon,) if machine is not None else ()


def _is_in_use(known: GatewayFacts, facts: Facts) -> bool:
    """Whether the row's is the one that the tester has, and nobody has told it to go: a grid that tears down takes its time."""
    row, gate = facts.object, facts.get(SignInGateFacts)
    if facts.leaving or row is None or row.state is not ObjectState.EXISTING or (gate is not None and gate.cut):
        return False
    return (row.identity.get("daemon"), row.identity.get("gateway_id")) == (known.daemon, known.gateway_id)


def _remembered(known: GatewayFacts) -> Gateway:
    """As it was listed last."""
    fqdn, backends = "" if known.computed else known.fqdn, known.backend.split(", ") if known.backend else ()
    return Gateway(known.gateway_id, known.gateway_name, fqdn, tuple(backends))


def _listing_incomplete(observed: SeenGateway) -> Finding:
    text = (
        f"compute {observed.daemon} does not list {observed.gateway.name}, and {observed.fqdn} leads to the machine all the "
        "same: its listing is incomplete, and no other gateway is made"
    )
    return Finding("GatewayListed", False, "ListingIncomplete", text)


def _seen(gateway: Gateway, daemon: str, facts: Facts) -> SeenGateway:
    made_for = _made_for(gateway, facts)
    if gateway.fqdn:
        return SeenGateway(daemon, gateway, gateway.fqdn, machine=made_for)
    domain = next((each.gateway_domain for each in facts.fleet.spec.compute if each.name == daemon), "")
    return SeenGateway(daemon, gateway, f"{gateway.name}.{domain}", computed=True, machine=made_for)


def _made_for(gateway: Gateway, facts: Facts) -> str:
    """As the row says; a row that does not speaks of the present machine if the gateway leads there."""
    row, machine = facts.object, facts.get(MachineFacts)
    kept = row.identity.get(_MADE_FOR, "") if row else ""
    return kept or (machine.key if machine is not None and _leads_to(gateway, machine.address) else "")


def _what_is_wrong(
    observed: SeenGateway, machine: MachineFacts, facts: Facts
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """In words, and what its row remembers of that; "" when it is as it should be, or is left as it is."""
    if not _leads_to(observed.gateway, machine.address):
        return f"it leads to {', '.join(observed.gateway.backends) or 'nothing'}", ()
    if observed.machine not in ("", machine.key):
        return f"it was made for machine {observed.machine}", ()
    one = observed.dead
    if one is None or not one.is_due or is_braked(one, facts):
        return "", ()
    return in_words(one, observed.gateway), ((UNROUTED, machine.key),)


def _leads_to(gateway: Gateway, address: str) -> bool:
    """Exactly one backend, ours; addresses compared as addresses, in whatever spelling."""
    return [_endpoint(each) for each in gateway.backends] == [_endpoint(backend_url(address))]


def _endpoint(backend: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(backend)
        host = parts.hostname or ""
        return parts.scheme, ip_address(host).compressed, parts.port
    except ValueError:
        return "", backend, None


def _cut(facts: Facts) -> bool:
    """Whether the door was cut off and has not been seen shut since: the front door's step sees to that, as the gate itself
    cannot be looked at while there is no address to prove."""
    gate, door = facts.get(SignInGateFacts), facts.get(FrontDoorFacts)
    return gate is not None and gate.cut and not (door is not None and is_since_cut(door.seen_shut_at, gate))


def _door_is_cut(facts: Facts) -> Wait:
    return Wait(
        "DoorCut",
        "the gateway was taken away because the door stood open and the machine could not be reached; "
        "a new one is made when the machine is reached and its door is shut",
        facts.fleet.spec.timing.reachable_limit,
        blames="the grid's network",
    )


def _delete(observed: SeenGateway, facts: Facts, disruption: Disruption, *consequences: str) -> Action:
    return Action(
        "delete",
        f"gateway {observed.gateway.name}",
        Effect.DELETE,
        disruption=disruption,
        consequences=consequences,
        args=(observed.daemon, observed.gateway.gateway_id),
        reason="GatewayDeleted",
        limit=facts.fleet.spec.timing.gateway_limit,
    )
