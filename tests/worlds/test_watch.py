"""The watch: every kind of violation is found when it is made by hand, and lives that are as they should be are clean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.records import JournalEntry, PutCondition, PutJournal, PutObject, PutTester, Status
from examples.simulator.frontdoor import ALLOWED, LISTENER
from examples.simulator.server import COMPUTE_SECRET
from reconcilers.facts import ObjectState, OutsideObject
from specs.names import vm_name
from tests.e2e.rig import FEW
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world
from tests.worlds.watch import RULES, Watch
from tests.worlds.watch_things import TWIN_PASSES
from tests.worlds.wire import RESEND, daemon_host

FLEET: dict[str, Any] = {**FEW, "timing": {"poll": "10s", "releasesEvery": "3h"}}

A_MINUTE, LATER = timedelta(minutes=1), timedelta(minutes=2)


def journal(w: Rig, step: str, verb: str, target: str, tester: str = "alice") -> PutJournal:
    return PutJournal(JournalEntry("0" * 32, tester, step, verb, target, w.clock.now()))


def row_of(watch: Watch, step: str) -> OutsideObject:
    return next(row for key, row in watch.books.rows.items() if key[:2] == ("alice", step))


def another_vm(w: Rig, name: str) -> None:
    """As if it had been made with our credentials."""
    daemon = next(iter(w.world.state.daemons.values()))
    vm = next(iter(daemon.vms.values()))
    daemon.next_vm += 1
    sid = f"{daemon.next_vm:04}"
    daemon.vms[sid] = vm.model_copy(update={"sid": sid, "name": name, "mycelium_ip": "4ff:1"})
    w.world.changed()


def listed(w: Rig, method: str) -> None:
    """As if a daemon had listed what it has."""
    w.world.log.add(w.world.clock.now(), next(iter(w.world.daemons)), "POST", f"/rpc {method}", "client", False, 200)


async def listed_for_long(w: Rig) -> None:
    """Until everything there must have been told."""
    for _ in range(3):
        await w.run_for(timedelta(minutes=6))
        listed(w, "list_vms")


def letter(w: Rig) -> dict[str, Any]:
    """As alice got it."""
    return w.world.mailbox[0].model_dump(include={"sender", "to", "subject", "text"})


def served(w: Rig, method: str, what: str, status: int) -> None:
    """As if we had asked Forge for a write."""
    w.world.log.add(w.world.clock.now(), "forge", method, what, "controller", True, status)


async def doubled(w: Rig, watch: Watch) -> None:
    row = row_of(watch, "machine")
    second = replace(row, attempt=2, name=vm_name("alice", watch.books.testers["alice"].uid, 1, 2), identity={})
    another_vm(w, second.name)
    watch.committed((PutObject(second),))
    watch.committed((PutObject(replace(second, state=ObjectState.GONE)),))


async def unknown(w: Rig, watch: Watch) -> None:
    another_vm(w, vm_name("alice", watch.books.testers["alice"].uid, 7, 1))
    await listed_for_long(w)


async def unproven(w: Rig, watch: Watch) -> None:
    machine = w.world.machine_named(row_of(watch, "machine").name)
    kept, machine.state.domains = machine.state.domains, {}
    await machine.run([b"hero_proc", b"secret", b"set", b"--context", b"core", LISTENER.encode(), b"1"])
    machine.state.domains = kept


async def left_open(w: Rig, watch: Watch) -> None:
    machine = w.world.machine_named(row_of(watch, "machine").name)
    kept, machine.state.domains = machine.state.domains, {}
    w.world.changed()
    await w.run_for(LATER)
    watch._passed("alice", w.clock.now(), 0)
    machine.state.domains = kept
    w.world.changed()


async def mailed_twice(w: Rig, watch: Watch) -> None:
    w.world.post.deliver("resend", {**letter(w), "key": "another"})
    w.world.changed()


async def mailed_too_soon(w: Rig, watch: Watch) -> None:
    told = watch.books.conditions["alice", "Components"]
    watch.committed((PutCondition(replace(told, status=Status.FALSE)),))
    watch.committed((journal(w, "welcome", "send", "welcome letter to alice@example.org"),))


async def adopted(w: Rig, watch: Watch) -> None:
    served(w, "PATCH", "/api/v1/admin/users/bob", 422)


async def removed(w: Rig, watch: Watch) -> None:
    record = watch.books.testers["alice"]
    watch.committed((PutTester(replace(record, removed_at=w.clock.now())),))
    watch.committed((PutTester(record),))


async def shut_out(w: Rig, watch: Watch) -> None:
    machine = w.world.machine_named(row_of(watch, "machine").name)
    await machine.run([b"hero_proc", b"secret", b"set", b"--context", b"core", ALLOWED.encode(), b"alice,bob"])


async def machine_lost(w: Rig, watch: Watch) -> None:
    watch.committed((journal(w, "machine", "delete", f"machine {row_of(watch, 'machine').name}"),))


async def for_nothing(w: Rig, watch: Watch) -> None:
    for _ in range(2):
        watch._passed("alice", w.clock.now(), watch.quiet.begun_of("alice"))
        await w.run_for(timedelta(hours=1))
    watch.committed((journal(w, "settings", "write", "settings"),))


async def at_once(w: Rig, watch: Watch, apart: float = 0.0) -> None:
    """The mail's limit: two under way, two a second."""
    wire = watch.calls.counted(w.options()).transports["mail"]
    async with httpx.AsyncClient(transport=wire) as client:

        async def asked(number: int) -> None:
            await asyncio.sleep(number * apart)
            await client.post(f"http://{RESEND}/emails", json={})

        await asyncio.gather(*map(asked, range(10)))


CRIMES: Mapping[str, Callable[[Rig, Watch], Awaitable[None]]] = {
    "WroteForNothing": for_nothing,
    "MachineLost": machine_lost,
    "AdoptedTouched": adopted,
    "RemovedThoughWanted": removed,
    "MailedTwice": mailed_twice,
    "Doubled": doubled,
    "Unknown": unknown,
    "LeftOpen": left_open,
    "ListenerUnproven": unproven,
    "AdminShutOut": shut_out,
    "MailedTooSoon": mailed_too_soon,
    "TooFast": lambda w, watch: at_once(w, watch, apart=0.4),
    "TooManyAtOnce": at_once,
}


BESIDE: Mapping[str, tuple[str, ...]] = {"MailedTwice": ("MailedTooSoon",)}
"""What the crime is besides."""


@in_virtual_time
async def test_a_violation_of_every_kind_is_found(tmp_path: Path) -> None:
    """In the books and the world of a controller that does nothing any more."""
    assert set(CRIMES) == set(RULES)
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        await w.settled()
        w.kill()
        watch.raise_any()
        for kind, crime in CRIMES.items():
            before = len(watch.violations)
            await crime(w, watch)
            found = {one.kind for one in watch.violations[before:]}
            assert kind in found, f"{kind} was not found: {found}"
            assert found <= {kind, *BESIDE.get(kind, ())}, f"{kind}: {found}"
        with pytest.raises(AssertionError, match="AdminShutOut: mik"):
            watch.raise_any()
        for kind in RULES:
            watch.excuse(kind)
        watch.raise_any()
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_twin_that_nobody_declares_is_found(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        another_vm(w, w.vm("alice"))
        await w.run_for(A_MINUTE)
        listed(w, "list_vms")
        await w.run_for(A_MINUTE)
        for _ in range(TWIN_PASSES):
            watch.raise_any()
            watch._passed("alice", w.clock.now(), 0)
        with pytest.raises(AssertionError, match="Doubled"):
            watch.raise_any()


async def ask_to_delete(w: Rig, watch: Watch) -> None:
    """As the controller would, with its credentials."""
    (daemon,) = w.world.daemons
    (sid,) = w.world.state.daemons[daemon].vms
    params = {"sid": sid, "secret": COMPUTE_SECRET}
    body = {"jsonrpc": "2.0", "id": 1, "method": "ComputeService.delete_vm", "params": params}
    wire = watch.calls.counted(w.options()).transports[f"compute {daemon}"]
    async with httpx.AsyncClient(transport=wire, timeout=None) as client:
        await client.post(f"http://{daemon_host(daemon)}/rpc", json=body)


@in_virtual_time
async def test_a_machine_may_go_if_its_tester_was_out_of_the_folder_when_the_daemon_was_asked(tmp_path: Path) -> None:
    """What is put back while the daemon works is no fault of ours; what is put back before is."""
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        file = w.places.folder / "alice.yaml"
        text = file.read_text()
        file.unlink()
        asked = asyncio.ensure_future(ask_to_delete(w, watch))
        await w.run_for(timedelta(seconds=1))
        file.write_text(text)
        await asked
        assert w.books()["vms"] == 0
        watch.raise_any()


@in_virtual_time
async def test_no_machine_is_asked_away_whose_tester_is_in_the_folder(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        await ask_to_delete(w, watch)
        with pytest.raises(AssertionError, match=r"MachineLost: alice_\w+ of alice is deleted"):
            watch.raise_any()


@in_virtual_time
async def test_lives_as_they_should_be_are_clean(tmp_path: Path) -> None:
    """Cold, killed in the middle, drifted, with a new release, built anew, removed and put back."""
    async with world(tmp_path, ["alice", "carol"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.run_for(timedelta(seconds=100))
        await w.restart()
        await w.ready("alice", "carol")
        await w.settled()
        drift, vm = w.world.drift, w.vm("alice")
        drift.stop_service(vm, "hero_books")
        drift.set_secret(vm, "core", ALLOWED, "bob")
        drift.delete_app(next(app.name for app in w.world.state.forge.apps if "alice" in app.name))
        drift.publish("hero_slides", "v9.9.9")
        await w.run_for(timedelta(minutes=40))
        await w.ready("alice", "carol")
        w.edit("alice", machine={"rebuild": 1})
        w.remove("carol")
        await w.gone("carol")
        w.write("carol")
        await w.ready("alice", "carol")
        await w.settled()
        watch.raise_any()
        assert (w.lives, w.books()["vms"]) == (2, 2)
