"""What excuses nothing: the watch is not put off by a lie elsewhere or long ago, by other words, or by a mere try."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from controller.orphans import Orphans
from controller.records import PutCondition, Status
from examples.simulator.engines import REGISTRY
from examples.simulator.frontdoor import LISTENER
from specs.names import vm_name
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import world
from tests.worlds.test_watch import (
    A_MINUTE,
    FLEET,
    another_vm,
    journal,
    letter,
    listed,
    listed_for_long,
    row_of,
    served,
)
from tests.worlds.watch import Watch
from tests.worlds.watch_calls import Meter, MeteredTransport
from tests.worlds.watch_doors import PROTECTED, SHUT_WITHIN


def meter_of(wire: httpx.AsyncBaseTransport) -> Meter:
    assert isinstance(wire, MeteredTransport)
    return wire._meter


@in_virtual_time
async def test_a_lie_excuses_nothing_elsewhere_and_nothing_for_good(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        w.world.drift.add_fault(system="compute", method="list_vms", kind="listing_omits", times=None)
        w.world.drift.add_fault(system="mail", method="*", kind="down", times=None)
        another_vm(w, vm_name("alice", watch.books.testers["alice"].uid, 7, 1))
        for _ in range(4):
            await w.run_for(timedelta(minutes=6))
            assert not w.world.faults.listed("compute", "list_vms", "any", 0.0), "the daemon lies"
            listed(w, "list_vms")
            w.world.faults.is_down("mail")
        watch.raise_any()
        w.world.drift.clear_faults()
        await listed_for_long(w)
        with pytest.raises(AssertionError, match=r"Unknown: machine alice_\w+_7_1"):
            watch.raise_any()


@in_virtual_time
async def test_a_token_that_nobody_knows_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tester who is gone, registered once more, by a controller that tells nobody of orphans."""

    async def never(self: Orphans, world: object) -> None: ...

    monkeypatch.setattr(Orphans, "look", never)
    async with world(tmp_path, ["alice", "carol"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice", "carol")
        engine = w.world.state.engines[0]
        registered = w.world.admin.state.secrets[engine.context][REGISTRY]
        w.remove("alice")
        await w.gone("alice")
        w.world.admin.set_secret(engine.context, REGISTRY, registered)
        await w.run_for(timedelta(hours=1))
        with pytest.raises(AssertionError, match=rf"Unknown: engine_access alice\w+ \({engine.name}/"):
            watch.raise_any()


@in_virtual_time
async def test_a_listener_that_is_opened_without_a_look_since_our_last_write_is_found(tmp_path: Path) -> None:
    """Also of a door that is as it should be."""
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        machine = w.world.machine_named(row_of(watch, "machine").name)
        opens = [b"hero_proc", b"secret", b"set", b"--quiet", b"--context", b"core", LISTENER.encode(), b"1"]
        await machine.run(opens)
        watch.raise_any()
        await w.run_for(A_MINUTE)
        await machine.run([b"hero_proc", b"service", b"restart", b"hero_proxy"])
        await machine.run(opens)
        with pytest.raises(AssertionError, match=r"ListenerUnproven: .* nobody has asked its loopback"):
            watch.raise_any()


@in_virtual_time
async def test_a_door_that_is_tried_to_be_shut_and_stays_open_is_found(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        w.world.machine_named(row_of(watch, "machine").name).state.door.ungated = True
        w.world.changed()
        watch.committed((PutCondition(replace(watch.books.conditions["alice", PROTECTED], status=Status.FALSE)),))
        for _ in range(5):
            await w.run_for(A_MINUTE * 2)
            watch.committed((journal(w, "sign_in_gate", "shut", "listener of the front door"),))
            watch.doors.passed("alice", w.clock.now() - A_MINUTE)
        watch.raise_any()
        await w.run_for(SHUT_WITHIN)
        watch.doors.passed("alice", w.clock.now() - A_MINUTE)
        with pytest.raises(AssertionError, match=r"LeftOpen: .* was not shut within"):
            watch.raise_any()
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_second_welcome_letter_of_other_words_is_found(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        watch.committed((journal(w, "welcome", "send", "welcome letter to alice@example.org"),))
        w.world.post.deliver("resend", {**letter(w), "text": "welcome once more", "key": "another"})
        w.world.changed()
        with pytest.raises(AssertionError, match=r"MailedTwice: alice@example.org"):
            watch.raise_any()


@in_virtual_time
async def test_an_account_that_appears_with_a_create_of_ours_that_is_refused_is_not_ours(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.until(lambda: any(key[1] == "account" for key in watch.books.rows), "it is intended")
        w.kill()
        w.world.drift.delete_account("alice")
        w.world.drift.add_account("alice", "alice@elsewhere.org")
        served(w, "POST", "/api/v1/admin/users", 422)
        watch.raise_any()
        served(w, "PATCH", "/api/v1/admin/users/alice", 200)
        with pytest.raises(AssertionError, match="AdoptedTouched: PATCH of alice"):
            watch.raise_any()


@in_virtual_time
async def test_a_daemon_is_asked_as_much_as_its_four_wires_allow_and_no_more(tmp_path: Path) -> None:
    """Each has the limits of the Fleet (decision 0015)."""
    async with world(tmp_path, ["alice"], fleet=FLEET) as w:
        watch = Watch(w)
        await w.ready("alice")
        w.kill()
        (daemon,) = w.world.daemons
        wires = watch.calls.counted(w.options()).transports
        meters = {id(meter_of(wires[f"compute {daemon}"])): meter_of(wires[f"compute {daemon}"]) for _ in range(2)}
        (meter,) = meters.values()
        for _ in range(4 * meter.limit.in_flight):
            meter.begin()
            await w.run_for(timedelta(seconds=1))
        watch.raise_any()
        meter.begin()
        with pytest.raises(AssertionError, match="TooManyAtOnce: 17 calls at compute compute1 at once, 16 are allowed"):
            watch.raise_any()
        assert meter_of(wires[f"compute {daemon}"]) is not meter, "another Fleet begins anew"
