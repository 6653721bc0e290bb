"""What other people and bad luck do behind the controller's back; and what an operator of the world may set.

Each method is also an action of the control address: `POST /_sim/do {"action": "stop_service", "vm": …, "service": …}`.
A `vm` is the VM's name or daemon/sid.
"""

import json
from typing import TYPE_CHECKING, Any

from examples.simulator import seeding
from examples.simulator.catalogue import COMPONENTS, OWNER, PROXY, SUPERVISOR, services_of
from examples.simulator.compute import used
from examples.simulator.engines import REGISTRY, token_digest
from examples.simulator.keys import new_host_key
from examples.simulator.records import Fault, Installed, Node, Pull, Service, Vm
from examples.simulator.standin import STAND_IN

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
        machine.files.write(f"hero/bin/{component}", STAND_IN.encode(), 0o755)
        for name in services_of(component):
            row = machine.state.services.setdefault(name, Service(component=component))
            machine.begin(name, row)
        self._world.changed()

    def set_secret(self, vm: str, context: str, key: str, value: str | None) -> None:
        """None removes it. hero_proxy notices at its next start only."""
        self._world.machine_named(vm).set_secret(context, key, None if value is None else value.encode())
        self._world.changed()

    def secret(self, vm: str, context: str, key: str) -> str | None:
        """Reads a value, for tests only."""
        value = self._world.machine_named(vm).state.secrets.get(context, {}).get(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def unread_settings(self, vm: str, service: str) -> list[str]:
        """`context/KEY` of every secret that changed since the service started: it knows nothing of them (lesson 27)."""
        machine = self._world.machine_named(vm)
        knows = self._service(vm, service).knows
        return sorted(name for name, number in machine.state.changed.items() if number > knows)

    def break_service(self, vm: str, service: str, works: bool = False) -> None:
        """It answers its health check and nothing else: only a functional check notices."""
        self._service(vm, service).works = works
        self._world.changed()

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
        self._world.cut(self._world.machine_named(vm))

    def change_host_key(self, vm: str, key: str | None = None) -> str:
        """Its SSH server shows another host key from now on, a new one or this private key. Answers the one before."""
        machine = self._world.machine_named(vm)
        before = machine.state.host_key
        machine.state.host_key = key or new_host_key(self._world.realm, "again", machine.state.key, machine.name)
        for tell in self._world.on_rekeyed:
            tell(machine)
        self._world.changed()
        return before

    # -- on the grid

    def delete_vm(self, vm: str) -> None:
        for compute in self._world.daemons.values():
            for row in list(compute.state.vms.values()):
                if vm in (row.name, f"{compute.name}/{row.sid}"):
                    compute.remove_vm(row)
        self._world.changed()

    def fail_vm(self, vm: str) -> None:
        """It crash-loops until the grid gives it up: listed as failed, gone from the network."""
        self._vm(vm).failed = True

    def crash_loop(self, vm: str, crashes: bool = True) -> None:
        """It comes up for half a minute and crashes, again and again."""
        self._vm(vm).crashes_from = self._world.clock.now() if crashes else None

    def set_echoes(self, on: bool) -> None:
        """Whoever fails repeats what it was told: keys, bodies, arguments, the environment."""
        self._world.faults.echoes = int(on)

    def set_reachable(self, vm: str, reachable: bool) -> None:
        """A VM, or the machine `admin` with its engines."""
        if vm == self._world.admin.name:
            self._world.state.admin_reachable = reachable
            return
        self._vm(vm).reachable_at = self._world.clock.now() if reachable else None

    def delete_gateway(self, name: str) -> None:
        for daemon, row in list(self._world.grid.gateways()):
            if name in (row.name, row.fqdn):
                del daemon.gateways[row.sid]
        self._world.changed()

    def break_gateway(self, name: str, *, listed: bool = True) -> None:
        """It leads nowhere from now on, for good. `listed`: the listing calls it failed; else it goes on saying running."""
        for _, row in self._world.grid.gateways():
            if name in (row.name, row.fqdn):
                row.routes, row.failed = False, listed
        self._world.changed()

    def occupy_gateway_name(self, name: str, secret: str = "somebody-else") -> None:
        """Somebody else on the grid holds this name."""
        next(iter(self._world.daemons.values())).occupy(name, secret)

    def restart_daemon(self, daemon: str, seconds: float = 10.0) -> None:
        """It is away for so long, what it was asked is never answered, and it forgets that its connection was dead."""
        row = self._world.state.daemons[daemon]
        row.starts, row.down_until = row.starts + 1, self._world.clock.now() + seconds
        faults = self._world.faults.rows
        faults[:] = [fault for fault in faults if (fault.kind, fault.target) != ("restart_required", daemon)]

    def set_node_online(self, daemon: str, sid: str, online: bool) -> None:
        """False: everybody sees that it is off, and its VMs are gone from the network."""
        self._node(daemon, sid).online = online

    def kill_node(self, daemon: str, sid: str, dead: bool = True) -> None:
        """Dead, though it goes on looking up for 80 minutes: a deployment there runs into the daemon's limit."""
        self._node(daemon, sid).dead_since = self._world.clock.now() if dead else None

    def use_capacity(self, daemon: str, sid: str, memory_mb: int = 0, disk_gb: dict[str, int] | None = None) -> None:
        """Others take memory, and disk by pool; what they held before is given up."""
        node = self._node(daemon, sid)
        node.memory_mb_foreign = memory_mb
        for pool in node.pools:
            pool.gb_foreign = (disk_gb or {}).get(pool.name, 0)

    def fragment_pools(self, daemon: str, sid: str, free_gb: int) -> None:
        """Every pool has just so much left: together it may be plenty, but no disk spans two of them (lesson 41)."""
        node = self._node(daemon, sid)
        held = used(node, self._world.state.daemons[daemon].vms.values())
        for pool in node.pools:
            pool.gb_foreign += max(0, pool.gb_total - held.pools[pool.name] - free_gb)

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

    def duplicate_app(self, app: str) -> None:
        """Somebody makes another one of the same name and addresses, by the same account."""
        row = next(row for row in self._world.state.forge.apps if row.name == app)
        owner = self._world.forge.need_account(row.owner)
        self._world.forge.oauth.create(owner, row.name, list(row.redirect_uris), row.confidential)

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

    def own_repository(self, account: str, name: str) -> None:
        """The account has a repository of its own: Forge then refuses to delete it without `purge`."""
        self._world.forge.repositories.create(self._world.forge.need_account(account).name, name)

    def own_package(self, account: str, name: str) -> None:
        self._world.forge.need_account(account).packages.append(name)

    def set_admin(self, account: str, admin: bool) -> None:
        """A site admin's rights come or go (lesson 3)."""
        self._world.forge.need_account(account).admin = admin

    def drop_tokens(self, account: str) -> None:
        """Somebody revoked them."""
        held = self._world.state.forge.tokens
        for value in [value for value, token in held.items() if token.account == account]:
            del held[value]

    def add_token(self, account: str, scopes: list[str]) -> str:
        return seeding.add_token(self._world.forge, account, scopes)

    def publish(self, component: str, version: str) -> None:
        """A new version: a release of its own, and the tag `latest` moves."""
        for tag in (version, "latest"):
            self._world.forge.repositories.publish(OWNER, component, tag, version, f"{component} {version}\n")

    def publish_broken(self, component: str, version: str, how: str = "start") -> None:
        """A version that lab cannot install (`install`) or whose services die when they start (`start`): lesson 33."""
        if how not in ("install", "start"):
            raise KeyError(f"broken at {how!r}? install or start")
        self.publish(component, version)
        repository = self._world.forge.repositories.find(OWNER, component)
        for release in repository.releases if repository else ():
            release.broken = how if release.name == version else release.broken

    def commit(self, owner: str, repository: str, sha: str = "") -> str:
        """Somebody pushes; `sha` as it is in a repository that is kept elsewhere."""
        found = self._world.forge.repositories.find(owner, repository)
        made = found or self._world.forge.repositories.create(owner, repository)
        return self._world.forge.repositories.commit(made, sha)

    def put_pull(self, owner: str, repository: str, number: int, sha: str, title: str = "a change") -> None:
        """Somebody opens a pull request into `main`, or pushes to its branch."""
        repositories = self._world.forge.repositories
        found = repositories.find(owner, repository) or repositories.create(owner, repository)
        repositories.commit(found, sha)
        known = repositories.pull(found, number)
        if known is not None:
            known.sha = sha
            return
        made = Pull(number=number, title=title, author="bob", branch=f"change-{number}", base="main", sha=sha)
        found.pulls.append(made)

    def close_pull(self, owner: str, repository: str, number: int) -> None:
        found = self._world.forge.repositories.find(owner, repository)
        pull = self._world.forge.repositories.pull(found, number) if found else None
        if pull is None:
            raise KeyError(f"no pull request {number}")
        pull.open = False

    # -- at the shared engines

    def add_tenant(self, engine: str, tenant: str, token: str) -> None:
        """Somebody else registers a tenant, who must stay registered, and restarts the engine."""
        row = self._world.engines.named(engine)
        held = self._world.engines.registered(row) or {}
        row.foreign[tenant] = token_digest(token)
        self._write_registry(engine, {**held, tenant: row.foreign[tenant]})
        self.restart_engine(engine)

    def remove_tenant(self, engine: str, tenant: str) -> None:
        """Somebody throws a tenant out of the registry; the engine does not notice before its next start."""
        row = self._world.engines.named(engine)
        row.foreign.pop(tenant, None)
        held = self._world.engines.registered(row) or {}
        self._write_registry(engine, {name: token for name, token in held.items() if name != tenant})

    def _write_registry(self, engine: str, tenants: dict[str, str]) -> None:
        context = self._world.engines.named(engine).context
        self._world.admin.set_secret(context, REGISTRY, json.dumps(tenants).encode())

    def restart_engine(self, engine: str) -> None:
        service = self._world.engines.named(engine).service
        self._world.admin.begin(service, self._world.admin.state.services[service])
        self._world.changed()

    # -- in the mailbox

    def mail(self, which: str | int = -1) -> dict[str, Any]:
        """One mail whole: by id, by place (-1: the newest), or the newest to an address."""
        return self._world.post.mail(which).model_dump()

    # -- of the world

    def add_fault(self, **fault: Any) -> None:
        self._world.faults.add(Fault(**fault))

    def clear_faults(self) -> None:
        self._world.faults.clear()

    def _service(self, vm: str, service: str) -> Service:
        if service == SUPERVISOR:
            raise KeyError("use stop_supervisor")
        return self._world.machine_named(vm).state.services[service]

    def _node(self, daemon: str, sid: str) -> Node:
        for node in self._world.state.daemons[daemon].nodes:
            if node.sid == sid:
                return node
        raise KeyError(f"no node {sid!r} at {daemon}")

    def _vm(self, vm: str) -> Vm:
        for compute in self._world.daemons.values():
            for row in compute.state.vms.values():
                if vm in (row.name, f"{compute.name}/{row.sid}"):
                    return row
        raise KeyError(f"no VM {vm!r}")
