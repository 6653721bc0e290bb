"""A tester leaves while calls of minutes are under way: what is being made, and what does not want to go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from reconcilers.facts import ObjectState
from tests.lessons.conftest import LEAN
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import world

AT_ONCE = {"machine": {"keepAfterRemoval": "0s"}, "identity": {"email": "alice@example.org", "whenRemoved": "delete"}}
LISTENER = "HERO_PROXY_SEED_GATEWAY_LISTENER"
SOON = timedelta(seconds=30)
SEEN = timedelta(seconds=45)
"""A look at a machine may be half a minute old (`timing.lookAge`); then the next pass looks anew, and shuts."""


def fault(method: str, kind: str, **options: Any) -> dict[str, Any]:
    return {"system": "compute", "method": method, "kind": kind, "times": 1, "options": options}


@in_virtual_time
async def test_a_machine_that_is_being_made_holds_up_no_removal_and_does_not_outlive_it(tmp_path: Path) -> None:
    """The daemon goes on making it, and shows it minutes after nobody waits for it any more (law 2)."""
    lagging = fault("list_vms", "listing_lags", seconds=240)
    async with world(tmp_path, {"alice": AT_ONCE}, faults=[{**lagging, "times": None}], fleet=LEAN) as w:
        await w.until(lambda: w.books()["vms"] == 1, "the machine is being made")
        assert w.elapsed < timedelta(minutes=1)
        w.remove("alice")
        await w.until(lambda: w.books()["made_accounts"] == [], "her access is gone", within=SOON)
        assert w.books()["vms"] == 1
        await w.gone("alice", within=timedelta(minutes=20))
        assert w.books()["vms"] == 0
        told = [event.message for event in await w.events("alice")]
        assert any("not waited for any longer: the tester leaves" in message for message in told)


@in_virtual_time
async def test_a_delete_without_an_answer_holds_up_neither_the_door_nor_anybody_else(tmp_path: Path) -> None:
    silent = [fault("delete_webgateway", "timeout_before"), fault("delete_vm", "timeout_before")]
    async with world(tmp_path, {"alice": AT_ONCE, "dora": {}}, faults=silent, fleet=LEAN) as w:
        await w.ready("alice", "dora")
        vm = w.vm("alice")

        async def gateway_is_going() -> bool:
            return (await w.conditions("alice"))["Gateway"].reason == "OperationRunning"

        w.remove("alice")
        await w.until(gateway_is_going, "the call that deletes her gateway is under way", within=SOON)
        w.world.drift.set_secret(vm, "core", LISTENER, "1")
        w.world.drift.restart_proxy(vm)
        w.write("erin")
        await w.until(lambda: w.world.drift.secret(vm, "core", LISTENER) == "0", "her door is shut again", within=SEEN)
        await w.ready("erin", within=timedelta(minutes=15))
        await w.gone("alice", within=timedelta(minutes=30))
        assert w.books()["vms"] == 2
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_gateway_that_is_being_made_does_not_outlive_a_tester_whose_machine_is_forgotten(
    tmp_path: Path,
) -> None:
    """Where it was asked for is known before the call: what is known of the machine may go meanwhile."""
    slow = fault("deploy_webgateway", "slow_chain", seconds=200)
    async with world(tmp_path, {"alice": AT_ONCE}, faults=[slow], fleet=LEAN) as w:

        async def it_is_being_made() -> bool:
            return any(row.identity.get("daemon") for row in await w.store.objects("gateway"))

        async def the_machine_goes() -> bool:
            return any(row.state is ObjectState.RETIRING for row in await w.store.objects("machine"))

        await w.until(it_is_being_made, "the gateway is being made")
        w.edit("alice", machine={"rebuild": 1})
        await w.until(the_machine_goes, "the machine is to be built anew")
        w.remove("alice")
        await w.gone("alice", within=timedelta(hours=1))
        await w.run_for(timedelta(minutes=5))
        assert w.books()["gateways"] == 0


@in_virtual_time
async def test_a_delete_that_waits_for_its_turn_is_not_sent_when_its_tester_is_put_back(tmp_path: Path) -> None:
    """Behind another one it may wait for minutes: written down is not sent."""
    slow = fault("delete_vm", "slow", seconds=200)
    one_at_a_time = {**LEAN, "limits": {"compute": {"inFlight": 1, "perSecond": 10}}}
    testers = {name: {**AT_ONCE, "identity": {"email": f"{name}@example.org"}} for name in ("alice", "dora")}
    async with world(tmp_path, testers, faults=[slow], fleet=one_at_a_time) as w:
        await w.ready("alice", "dora")
        vms = {name: w.vm(name) for name in testers}
        for name in testers:
            w.remove(name)

        async def both_are_begun() -> bool:
            rows = await w.store.objects("machine")
            return {row.tester for row in rows if row.state is ObjectState.RETIRING} == set(testers)

        await w.until(both_are_begun, "both deletes are written down", within=timedelta(minutes=2))
        for name, spec in testers.items():
            w.write(name, **spec)
        await w.ready("alice", "dora", within=timedelta(minutes=30))
        assert len({vms[name] for name in testers} & {w.vm(name) for name in testers}) == 1, "one was sent, one was not"
        (kept,) = [name for name in testers if vms[name] == w.vm(name)]
        told = [event.message for event in await w.events(kept)]
        assert any("changed while it waited for its turn" in message for message in told), told
