"""The world's books in one JSON-able summary, for people and for tests. Secret values are not in it."""

from typing import TYPE_CHECKING, Any

from examples.simulator.compute import used
from examples.simulator.compute_rpc import gateway_shape, node_shape, vm_shape
from examples.simulator.records import Engine
from examples.simulator.seeding import ADMINS, CONTROLLER, PEOPLE

if TYPE_CHECKING:
    from examples.simulator.machine import Machine
    from examples.simulator.world import World


def books(world: "World") -> dict[str, Any]:
    """`accounts` are all, `made_accounts` those that the world did not begin with."""
    forge = world.state.forge
    accounts = [account.name for account in forge.accounts.values()]
    return {
        "time": world.clock.now(),
        "accounts": accounts,
        "made_accounts": [name for name in accounts if name not in (CONTROLLER, *ADMINS, *PEOPLE)],
        "disabled_accounts": [account.name for account in forge.accounts.values() if account.prohibit_login],
        "apps": [
            {
                "id": app.id,
                "name": app.name,
                "owner": app.owner,
                "client_id": app.client_id,
                "redirect_uris": app.redirect_uris,
            }
            for app in forge.apps
        ],
        "daemons": {name: _daemon(world, name) for name in world.daemons},
        "vms": sum(len(daemon.vms) for daemon in world.state.daemons.values()),
        "gateways": sum(len(daemon.gateways) for daemon in world.state.daemons.values()),
        "machines": {key: _machine(machine) for key, machine in world.machines.items()},
        "admin_machine": _machine(world.admin),
        "engines": {engine.name: _engine(world, engine) for engine in world.state.engines},
        "mailbox": [
            {"id": mail.id, "to": mail.to, "subject": mail.subject, "key": mail.key, "at": mail.at, "how": mail.how}
            for mail in world.mailbox
        ],
        "collaborators": {key: row.collaborators for key, row in forge.repositories.items() if row.collaborators},
        "statuses": {
            key: [status.model_dump() for status in row.statuses]
            for key, row in forge.repositories.items()
            if row.statuses
        },
        "violations": [violation.model_dump() for violation in world.state.violations],
        "log_length": len(world.log),
    }


def _daemon(world: "World", name: str) -> dict[str, Any]:
    compute = world.daemons[name]
    return {
        "vms": [{**vm_shape(compute, vm), "reachable": compute.reachable(vm)} for vm in compute.state.vms.values()],
        "gateways": [gateway_shape(compute, gateway) for gateway in compute.state.gateways.values()],
        "nodes": [node_shape(compute, node, used(node, compute.state.vms.values())) for node in compute.state.nodes],
    }


def _engine(world: "World", engine: Engine) -> dict[str, Any]:
    """`registered`: tenants in its registry; `accepted`: those that it read when it started last."""
    return {
        "alive": world.engines.listens(engine),
        "registered": sorted(world.engines.registered(engine) or ()),
        "accepted": sorted(engine.accepted),
    }


def _machine(machine: "Machine") -> dict[str, Any]:
    state = machine.state
    return {
        "name": state.name,
        "supervisor": state.supervisor,
        "packages": sorted(state.packages),
        "components": {name: row.version for name, row in state.components.items()},
        "running_versions": {name: row.running for name, row in state.components.items()},
        "services": {name: {"state": row.state, "alive": row.alive} for name, row in state.services.items()},
        "secrets": {context: sorted(held) for context, held in state.secrets.items() if held},
        "domains": [domain.model_dump() for domain in state.domains.values()],
        "listener": machine.door.listens("outside"),
        "allowed": state.door.allowed,
    }
