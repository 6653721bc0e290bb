"""What other people and bad luck do behind the controller's back; and what an operator of the world may set.

Each method is also an action of the control address: `POST /_sim/do {"action": "stop_service", "vm": …, "service": …}`.
A `vm` is the VM's name or daemon/sid.
"""

from typing import TYPE_CHECKING, Any

from examples.simulator import seeding
from examples.simulator.catalogue import COMPONENTS, OWNER, PROXY, SUPERVISOR, services_of
from examples.simulator.records import Fault, Gateway, Installed, Service, Vm

if TYPE_CHECKING:
    from examples.simulator.world import World

AUTHORISED = ".ssh/authorized_keys"


class Drift:
    """Every method changes the world at once and answers what it did. Raises KeyError for things that do not exist."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def do(self, action: str, **arguments: Any) -> Any:
        """By name. Raises KeyError for an unknown action, TypeError for wrong arguments."""
        method = None if action.startswith("_") or action == "do" else getattr(self, action, None)
        if method is None:
            raise KeyError(f"unknown action {action!r}")
        answer = method(**arguments)
        self._world.changed()
        self._world.flush()
        return answer

    # -- on a machine

    def stop_service(self, vm: str, service: str) -> None:
        row = self._service(vm, service)
        row.state, row.alive, row.pid = "stopped", False, None
        self._world.changed()

    def kill_service(self, vm: str, service: str) -> None:
        """Dead, while the supervisor goes on saying running (lesson 34)."""
        self._service(vm, service).alive = False
        self._world.changed()

    def misreport_service(self, vm: str, service: str, state: str) -> None:
        """The supervisor says something else than what is."""
        self._service(vm, service).state = state
        self._world.changed()

    def stop_supervisor(self, vm: str) -> None:
        self._world.machine_named(vm).state.supervisor = False
        self._world.changed()

    def set_version(self, vm: str, component: str, version: str) -> None:
        self._world.machine_named(vm).state.components[component].version = version
        self._world.changed()

    def install(self, vm: str, component: str, version: str = "v0.3.1") -> None:
        """A tester installs a component from the cockpit; its services run."""
        machine = self._world.machine_named(vm)
        if component not in COMPONENTS:
            raise KeyError(f"no component {component!r}")
        machine.state.components[component] = Installed(version=version, running=version)
        for name in services_of(component):
            row = machine.state.services.setdefault(name, Service(component=component))
            machine.begin(name, row)
        self._world.changed()

    def set_secret(self, vm: str, context: str, key: str, value: str | None) -> None:
        """None removes it. hero_proxy notices at its next start only."""
        held = self._world.machine_named(vm).state.secrets.setdefault(context, {})
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value.encode()
        self._world.changed()

    def secret(self, vm: str, context: str, key: str) -> str | None:
        """Reads a value, for tests only."""
        value = self._world.machine_named(vm).state.secrets.get(context, {}).get(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def restart_proxy(self, vm: str) -> None:
        """hero_proxy starts again and reads what is stored now."""
        machine = self._world.machine_named(vm)
        machine.begin(PROXY, machine.state.services[PROXY])
        self._world.changed()

    def remove_domain(self, vm: str, domain: str) -> None:
        self._world.machine_named(vm).state.domains.pop(domain, None)
        self._world.changed()

    def add_authorized_key(self, vm: str, key: str) -> None:
        files = self._world.machine_named(vm).files
        files.write(AUTHORISED, (files.read(AUTHORISED) or b"") + f"{key}\n".encode())

    def authorized_keys(self, vm: str) -> list[str]:
        held = self._world.machine_named(vm).files.read(AUTHORISED) or b""
        return held.decode("utf-8", "replace").splitlines()

    def cut_connections(self, vm: str) -> None:
        """The overlay hiccups: every SSH connection to the machine breaks; what runs there goes on."""
        machine = self._world.machine_named(vm)
        for cut in self._world.on_cut:
            cut(machine)

    # -- on the grid

    def delete_vm(self, vm: str) -> None:
        for compute in self._world.daemons.values():
            for row in list(compute.state.vms.values()):
                if vm in (row.name, f"{compute.name}/{row.sid}"):
                    compute.remove_vm(row)
        self._world.changed()

    def set_reachable(self, vm: str, reachable: bool) -> None:
        self._vm(vm).reachable_at = self._world.clock.now() if reachable else None

    def delete_gateway(self, name: str) -> None:
        for daemon, row in list(self._world.grid.gateways()):
            if name in (row.name, row.fqdn):
                del daemon.gateways[row.sid]
        self._world.changed()

    def occupy_gateway_name(self, name: str, secret: str = "somebody-else") -> None:
        """Somebody else on the grid holds this name."""
        daemon = next(iter(self._world.state.daemons.values()))
        sid, now = f"x{daemon.next_gateway:04}", self._world.clock.now()
        daemon.next_gateway += 1
        daemon.gateways[sid] = Gateway(
            sid=sid,
            name=name,
            fqdn=f"{name}.elsewhere.test",
            kind="Name",
            node_sid=daemon.nodes[0].grid_node,
            backends=["http://[400::1]:9988"],
            tls_passthrough=False,
            secret=secret,
            created_at=now,
            ready_at=now,
        )

    def set_node_online(self, daemon: str, sid: str, online: bool) -> None:
        next(node for node in self._world.state.daemons[daemon].nodes if node.sid == sid).online = online

    # -- at Forge

    def set_redirect(self, app: str, uri: str) -> None:
        """By the app's name; the way an administrator does it in the pages: the secret changes as well."""
        row = next(row for row in self._world.state.forge.apps if row.name == app)
        self._world.forge.oauth.change(row, row.name, [uri], row.confidential)

    def rotate_secret(self, app: str) -> None:
        row = next(row for row in self._world.state.forge.apps if row.name == app)
        self._world.forge.oauth.change(row, row.name, row.redirect_uris, row.confidential)

    def delete_app(self, app: str) -> None:
        self._world.state.forge.apps[:] = [row for row in self._world.state.forge.apps if row.name != app]

    def disable_account(self, account: str, disabled: bool = True) -> None:
        self._world.forge.need_account(account).prohibit_login = disabled

    def delete_account(self, account: str) -> None:
        self._world.state.forge.accounts.pop(account.lower())

    def rename_account(self, account: str, to: str) -> None:
        self._world.forge.rename_account(account, to)

    def add_account(self, name: str, email: str, must_change: bool = False) -> None:
        self._world.forge.create_account(name, email, f"{name}-password", must_change=must_change)

    def add_account_key(self, account: str, key: str) -> None:
        self._world.forge.add_key(self._world.forge.need_account(account), "from a test", key)

    def add_token(self, account: str, scopes: list[str]) -> str:
        return seeding.add_token(self._world.forge, account, scopes)

    def publish(self, component: str, version: str) -> None:
        """A new version: a release of its own, and the tag `latest` moves."""
        for tag in (version, "latest"):
            self._world.forge.repositories.publish(OWNER, component, tag, version, f"{component} {version}\n")

    def commit(self, owner: str, repository: str) -> str:
        found = self._world.forge.repositories.find(owner, repository)
        return self._world.forge.repositories.commit(found or self._world.forge.repositories.create(owner, repository))

    # -- of the world

    def add_fault(self, **fault: Any) -> None:
        self._world.faults.add(Fault(**fault))

    def clear_faults(self) -> None:
        self._world.faults.clear()

    def _service(self, vm: str, service: str) -> Service:
        if service == SUPERVISOR:
            raise KeyError("use stop_supervisor")
        return self._world.machine_named(vm).state.services[service]

    def _vm(self, vm: str) -> Vm:
        for compute in self._world.daemons.values():
            for row in compute.state.vms.values():
                if vm in (row.name, f"{compute.name}/{row.sid}"):
                    return row
        raise KeyError(f"no VM {vm!r}")
