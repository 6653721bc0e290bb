"""What a scenario has come to: the world's books and ours, without what may differ between two lives that did the same.

Names carry a number of the attempt, secrets are drawn, ids are counted: each is replaced by what it is (`<vm>`, `<fqdn>`,
`<secret of the app>`, …), so that a value that is not the one that it should be is seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from controller.records import Outcome
from examples.simulator.catalogue import PROXY
from examples.simulator.engines import token_digest
from examples.simulator.forge import digest
from examples.simulator.invariants import doubles, stale_tenants
from examples.simulator.records import Engine, MachineState, Vm
from examples.simulator.seeding import ADMINS, CONTROLLER, PEOPLE
from reconcilers.facts import ObjectState
from reconcilers.wanted_settings import parse_place
from specs.catalogue import catalogue
from specs.ownership import readers_of
from tests.worlds.rig import Rig

State = dict[str, Any]

CLOSED = frozenset({ObjectState.GONE, ObjectState.LOST})
SIGNED_IN = ("alice", "mik", "bob")


async def state_of(w: Rig) -> State:
    """Of the one tester `alice`, present or gone."""
    names = _names(w)
    told = {"world": await _world(w), "books": await _books(w), "sign-in": await _signed_in(w)}
    text = json.dumps(told, sort_keys=True)
    for name, what in sorted(names, key=lambda each: -len(each[0])):
        text = text.replace(json.dumps(name)[1:-1], what)
    found: State = json.loads(text)
    return found


def differences(wanted: State, found: State) -> list[str]:
    """`path: wanted … found …` of every part that is another one."""
    return _differences("", wanted, found)


def _differences(path: str, wanted: Any, found: Any) -> list[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted({*wanted, *found})
        return [
            text for key in keys for text in _differences(f"{path}/{key}", wanted.get(key, "–"), found.get(key, "–"))
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            text
            for number, (one, other) in enumerate(zip(wanted, found, strict=True))
            for text in _differences(f"{path}/{number}", one, other)
        ]
    return [] if wanted == found else [f"{path}: {_shown(wanted)} became {_shown(found)}"]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------ the world


async def _world(w: Rig) -> State:
    state, books = w.world.state, w.books()
    vms = [vm for daemon in state.daemons.values() for vm in daemon.vms.values()]
    homes = {vm.node_sid for vm in vms}  # which of them has room is a matter of when it is asked
    nodes = {node.grid_node for daemon in state.daemons.values() for node in daemon.nodes if node.sid in homes}
    return {
        "accounts": {
            account.name: {
                "email": account.email,
                "disabled": account.prohibit_login,
                "must change": account.must_change,
                "admin": account.admin,
                "password was told": _was_told(w, account.password),
            }
            for account in state.forge.accounts.values()
            if account.name not in (CONTROLLER, *ADMINS, *PEOPLE)
        },
        "apps": sorted([app.owner, app.name, app.redirect_uris, app.confidential] for app in state.forge.apps),
        "vms": [_vm(w, vm) for vm in vms],
        "gateways": [
            [row.name, row.fqdn, row.kind, row.backends, row.failed, f"on the VM's node: {row.node_sid in nodes}"]
            for _, row in w.world.grid.gateways()
        ],
        "machines": [_machine(w, machine.state) for machine in w.world.machines.values()],
        "engines": {
            engine.name: {
                "registered": _tenants(engine, w.world.engines.registered(engine) or ()),
                "accepted": _tenants(engine, engine.accepted),
                "alive": w.world.engines.listens(engine),
            }
            for engine in state.engines
        },
        "mails": sorted([mail.to, mail.subject, mail.text] for mail in w.world.mailbox),
        "collaborators": books["collaborators"],
        "made": _made(w),
        "doubles": doubles(w.world),
        "stale tenants": stale_tenants(w.world),
        "violations": [f"{one.kind}: {one.what}" for one in w.world.violations],
    }


def _made(w: Rig) -> State:
    """How often each kind of thing was made since the beginning of the world."""
    daemons = w.world.state.daemons.values()
    forge = Counter(
        entry.what for entry in w.writes() if entry.system == "forge" and entry.method == "POST" and entry.status < 300
    )
    return {
        "vms": sum(daemon.next_vm - 1 for daemon in daemons),
        "gateways": sum(daemon.next_gateway - 1 for daemon in daemons),
        "at forge": dict(forge),
        "mails": len(w.world.mailbox),
    }


def _vm(w: Rig, vm: Vm) -> list[Any]:
    size = [vm.cpu, vm.memory_mb, vm.disk_gb, vm.rootfs_gb]
    return [vm.name, vm.image, size, vm.failed, sorted(w.world.drift.authorized_keys(vm.name))]


def _tenants(engine: Engine, names: Iterable[str]) -> list[str]:
    return sorted(name if name in engine.foreign else "<tenant>" for name in names)


def _machine(w: Rig, machine: MachineState) -> State:
    accepted = {
        token: f"<token of {engine.name}>" for engine in w.world.state.engines for token in engine.accepted.values()
    }

    def shown(value: bytes) -> str:
        text = value.decode("utf-8", "replace")
        return accepted.get(token_digest(text), text)

    door = machine.door
    return {
        "supervisor": machine.supervisor,
        "packages": sorted(machine.packages),
        "components": {name: [row.version, row.running] for name, row in machine.components.items()},
        "services": {name: [row.state, row.alive, row.works] for name, row in machine.services.items()},
        "unread": {name: _unread(w, machine.name, name) for name in machine.services},
        "secrets": {
            context: {key: shown(value) for key, value in held.items()}
            for context, held in machine.secrets.items()
            if held
        },
        "domains": {name: domain.model_dump() for name, domain in machine.domains.items()},
        "door": [
            door.client_id,
            door.client_secret,
            door.issuer,
            door.redirect_uri,
            door.allowed,
            door.listener,
            door.ungated,
        ],
    }


def _unread(w: Rig, vm: str, service: str) -> list[str]:
    """What a service reads at its start, and has not read since it changed (lesson 27)."""
    changed = [parse_place(name) for name in w.world.drift.unread_settings(vm, service)]
    door = [context for context, _ in changed if service == PROXY and context == "core"]
    return door + [key for context, key in changed if service in readers_of(context, key, catalogue())]


def _was_told(w: Rig, password: str) -> bool:
    """Whether the last mail tells the one-time password that the account has (its digest)."""
    mails = w.world.mailbox
    return bool(mails) and any(digest(word) == password for word in mails[-1].text.split())


# ------------------------------------------------------------------ our books


async def _books(w: Rig) -> State:
    store = w.store
    rows = [row for row in await store.objects() if row.state not in CLOSED]
    return {
        "testers": [
            [each.name, each.phase, each.generation, each.observed_generation] for each in await store.testers()
        ],
        "conditions": {each.type: [each.status, each.reason] for each in await store.conditions("alice")},
        "rows": sorted([row.step, row.name, row.state, row.missing_since is None] for row in rows),
        "sealed": sorted(await store.sealed_names()),
        "unfinished": [f"{entry.step} {entry.verb} {entry.target}" for entry in await store.unfinished()],
        "open journal": sum(entry.outcome is Outcome.BEGUN for entry in await store.journal(limit=100_000)),
        "forge owner": await store.forge_owner(),
    }


async def _signed_in(w: Rig) -> list[list[Any]]:
    """Last: at the first sign-in people choose a password of their own."""
    if w.books()["gateways"] != 1:
        return []
    return [[user, (await w.sign_in("alice", user))[0]] for user in SIGNED_IN]


# ------------------------------------------------------------------ names


def _names(w: Rig) -> list[tuple[str, str]]:
    """Everything that was drawn or counted, and what it is."""
    state = w.world.state
    names: list[tuple[str, str]] = []
    for daemon in state.daemons.values():
        names += [(vm.name, "<vm>") for vm in daemon.vms.values()]
        names += [(vm.mycelium_ip, "<address>") for vm in daemon.vms.values()]
        names += [(gateway.fqdn, "<fqdn>") for gateway in daemon.gateways.values()]
        names += [(gateway.name, "<gateway>") for gateway in daemon.gateways.values()]
    for app in state.forge.apps:
        names += [(app.client_secret, "<secret of the app>"), (app.client_id, "<client of the app>")]
        names += [(app.name, "<app>")]
    passwords = {account.password for account in state.forge.accounts.values()}
    words = (word for mail in w.world.mailbox for word in mail.text.split())
    return names + [(word, "<password>") for word in words if digest(word) in passwords]
