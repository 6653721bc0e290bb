"""What must hold in the world at every instant, seen from its own books: nothing twice, no open door."""

from collections import Counter
from typing import TYPE_CHECKING

from examples.simulator.frontdoor import Side
from examples.simulator.http import Request
from examples.simulator.records import Violation

if TYPE_CHECKING:
    from examples.simulator.machine import Machine
    from examples.simulator.world import World

PROBED = ("/", "/status", "/hero_cockpit/web/", "/hero_books/", "/hero_proc/health", "/login")
"""Paths that must ask for sign-in on every machine; a path that a domain declares public is left out."""


def counts(world: "World", prefixes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """For each tester's prefix: how many accounts, VMs, gateways and OAuth apps have a name that starts with it,
    ignoring case.
    """
    kinds = {
        "accounts": [account.name for account in world.state.forge.accounts.values()],
        "vms": [vm.name for daemon in world.state.daemons.values() for vm in daemon.vms.values()],
        "gateways": [gateway.name for _, gateway in world.grid.gateways()],
        "apps": [app.name for app in world.state.forge.apps],
    }
    return {
        prefix: {kind: sum(name.lower().startswith(prefix.lower()) for name in names) for kind, names in kinds.items()}
        for prefix in prefixes
    }


def doubles(world: "World") -> list[str]:
    """VM and OAuth app names that exist more than once: neither system refuses that, and each is a leak."""
    vms = Counter(vm.name for daemon in world.state.daemons.values() for vm in daemon.vms.values())
    apps = Counter((app.owner, app.name) for app in world.state.forge.apps)
    found = [f"vm {name} exists {many} times" for name, many in vms.items() if many > 1]
    return found + [
        f"OAuth app {name} of {owner} exists {many} times" for (owner, name), many in apps.items() if many > 1
    ]


def open_doors(world: "World") -> list[str]:
    """Every path that somebody without a session gets to see through a public name."""
    return [
        f"{gateway.fqdn}{path} is open"
        for _, gateway in world.grid.gateways()
        if (machine := world.behind(gateway)) is not None and machine.door.listens("outside")
        for path in PROBED
        if lets_in(machine, gateway.fqdn, path, "outside")
    ]


def lets_in(machine: "Machine", fqdn: str, path: str, side: Side) -> bool:
    """Whether a path shows itself to a stranger who comes in by this name, unless it is declared public."""
    door, domain = machine.door, machine.state.domains.get(fqdn)
    request = Request("GET", path, headers={"host": fqdn})
    if not door.listens(side) or not door.stands_open(request, side, domain):
        return False
    answer = door.answer(request, side)
    public = tuple(domain.public_paths) if domain else ()
    return answer is not None and answer.status == 200 and not path.startswith(public or ("\0",))


def lost_tenants(world: "World") -> list[str]:
    """Tenants of others that somebody threw out of an engine's registry."""
    found = []
    for engine in world.state.engines:
        held = world.engines.registered(engine) or {}
        lost = [tenant for tenant, token in engine.foreign.items() if held.get(tenant) != token]
        found += [f"{engine.name} has lost its tenant {tenant}" for tenant in lost]
    return found


def stale_tenants(world: "World") -> list[str]:
    """Tokens that an engine accepts although its registry has them no longer (lesson 38). Normal for the moment between
    a change of the registry and the restart; wrong once things have settled.
    """
    return [
        f"{engine.name} still accepts the token of {tenant}"
        for engine in world.state.engines
        for tenant, token in engine.accepted.items()
        if (world.engines.registered(engine) or {}).get(tenant) != token
    ]


def accepting(world: "World", prefix: str) -> list[str]:
    """Engines that accept a token of any tenant whose name starts so, ignoring case: none may, once a tester is removed."""
    return [
        engine.name
        for engine in world.state.engines
        if any(tenant.lower().startswith(prefix.lower()) for tenant in engine.accepted)
    ]


def watch(world: "World") -> None:
    """Writes down what is wrong now and was not a moment ago. A second mail is written down where it is delivered."""
    seen = {("OpenDoor", what) for what in open_doors(world)} | {("TenantLost", what) for what in lost_tenants(world)}
    for kind, what in sorted(seen - world.wrong_now):
        world.state.violations.append(Violation(time=world.clock.now(), kind=kind, what=what))
    world.wrong_now = seen
