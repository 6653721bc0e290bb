"""The gateway: what the daemon lists, what follows, and where the address comes from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.actions import Disruption, Effect
from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway, GatewayOrder
from reconcilers.backends.outside import ProbeAnswer
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, NameTaken, Transient
from reconcilers.facts import (
    Facts,
    FrontDoorFacts,
    GatewayFacts,
    MachineFacts,
    ObjectState,
    SignInGateFacts,
    StepFacts,
)
from reconcilers.gateway import GatewayReconciler, SeenGateway
from reconcilers.looks import TesterLooks
from tests.reconcilers.data import ADDRESS, CLIENT_ID, FQDN, NOW, a_fleet, a_row, a_tester, actions, brief, some_facts

NAME = "alicex7k2p9"
OURS = f"http://[{ADDRESS}]:9988"
AUTHORIZE = "https://forge.example.org/login/oauth/authorize"
CREATE, DELETE = [f"create gateway {NAME}"], [f"delete gateway {NAME}"]


class FakeDaemon:
    """Gent's daemon, the looks at it and at york's, and the ports. `did`: in which order."""

    def __init__(self, *gateways: Gateway, york: tuple[Gateway, ...] | Exception = ()) -> None:
        self.held, self.york = gateways, york
        self.ordered: list[GatewayOrder] = []
        self.did: list[object] = []
        self.taken: NameTaken | None = None
        self.public = ProbeAnswer(None)

    def authorize_url(self) -> str:
        return AUTHORIZE

    async def gateways(self, daemon: str) -> tuple[Gateway, ...]:
        if daemon == "gent":
            return self.held
        if isinstance(self.york, Exception):
            raise self.york
        return self.york

    async def deploy_gateway(self, order: GatewayOrder) -> Gateway:
        self.ordered.append(order)
        self.did.append("deploy")
        if self.taken is not None:
            raise self.taken
        return Gateway("4", order.name, FQDN, (OURS,))

    async def place(self, identity: dict[str, str]) -> None:
        self.did.append(identity)

    def unshared(self) -> None: ...

    async def outside(self, fqdn: str, paths: tuple[str, ...]) -> dict[str, ProbeAnswer]:
        self.did.append(fqdn)
        return dict.fromkeys(paths, self.public)


def step(daemon: FakeDaemon | None = None) -> GatewayReconciler:
    return GatewayReconciler(Backends(daemon, {"gent": daemon}, None, None))  # type: ignore[arg-type, dict-item]


async def seen(daemon: FakeDaemon, facts: Facts) -> SeenGateway | None:
    looks: TesterLooks = daemon  # type: ignore[assignment]
    return await step(daemon).observe(TesterView(a_tester(), facts), looks)


def there(*backends: str, fqdn: str = FQDN, state: str = "ok") -> SeenGateway:
    return SeenGateway("gent", Gateway("3", NAME, fqdn, backends or (OURS,), state), fqdn)


def facts(*more: StepFacts, **row: Any) -> Facts:
    return some_facts(*more, object=a_row("gateway", **{"name": NAME, **row}))


PLANS: dict[str, tuple[SeenGateway | None, list[str]]] = {
    "absent": (None, CREATE),
    "ours": (there(), []),
    "ours in another spelling": (there("http://[400:1:0:0:0:0:0:2]:9988/"), []),
    "reported failed, but there": (there(state="failed"), []),
    "to another machine": (there("http://[400:1::3]:9988"), DELETE),
    "to another port": (there(f"http://[{ADDRESS}]:9989"), DELETE),
    "to ours and to another": (there(OURS, "http://[400:1::3]:9988"), DELETE),
    "to nothing that is an address": (there("nonsense"), DELETE),
    "to nothing": (SeenGateway("gent", Gateway("3", NAME, FQDN, ()), FQDN), DELETE),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_is_done_about_a_gateway(name: str) -> None:
    observed, expected = PLANS[name]
    assert brief(step().plan(a_tester(), observed, facts())) == expected


def test_a_deploy_is_an_operation_and_a_wrong_one_is_rebuilt() -> None:
    (create,) = actions(step().plan(a_tester(), None, facts()))
    assert (create.effect, create.limit) == (Effect.CREATE, a_fleet().spec.timing.gateway_limit)
    (delete,) = actions(step().plan(a_tester(), there("http://[400:1::3]:9988"), facts()))
    assert (delete.effect, delete.disruption) == (Effect.DELETE, Disruption.REBUILD)
    assert "http://[400:1::3]:9988" in delete.why
    (removed,) = actions(step().plan(None, there(), facts()))
    assert (removed.effect, removed.disruption, removed.args) == (Effect.DELETE, Disruption.REMOVE, ("gent", "3"))
    assert delete.limit == removed.limit == a_fleet().spec.timing.gateway_limit
    assert step().plan(None, None, facts()) == ()


SHUT = FrontDoorFacts(router="v1", proxy="v1", seen_shut_at=NOW + timedelta(seconds=1))
NOT_YET = FrontDoorFacts(router="v1", proxy="v1")
CUTS: dict[str, tuple[bool, FrontDoorFacts, list[str]]] = {
    "cut, and not seen shut since": (True, NOT_YET, ["wait DoorCut"]),
    "cut, and seen shut since": (True, SHUT, CREATE),
    "cut, and seen shut before": (True, SHUT.model_copy(update={"seen_shut_at": NOW}), ["wait DoorCut"]),
    "not cut": (False, NOT_YET, CREATE),
}


@pytest.mark.parametrize("name", CUTS)
def test_no_new_address_leads_to_an_open_door(name: str) -> None:
    cut, door, expected = CUTS[name]
    assert brief(step().plan(a_tester(), None, facts(SignInGateFacts(cut=cut, cut_at=NOW), door))) == expected


def test_a_preview_says_that_the_address_of_the_machine_is_not_known_yet() -> None:
    (create,) = actions(step().plan(a_tester(), None, some_facts(MachineFacts.unknown())))
    assert "known after machine" in str(create.changes[1].after)


async def test_by_id_where_it_is_known_else_by_name() -> None:
    other = Gateway("9", NAME, "other.example.org")
    listed = FakeDaemon(other, Gateway("3", "renamed", FQDN, (OURS,)))
    by_id = await seen(listed, facts(identity={"daemon": "gent", "gateway_id": "3"}))
    assert by_id is not None
    assert by_id.gateway.gateway_id == "3"
    by_name = await seen(listed, facts())
    assert by_name is not None
    assert by_name.gateway.gateway_id == "9"
    assert await seen(listed, facts(identity={"daemon": "york", "gateway_id": "3"})) is None


HELD: dict[str, Any] = {"identity": {"daemon": "gent", "gateway_id": "3", "machine": "gent/12"}}
KNOWN = GatewayFacts(daemon="gent", gateway_id="3", gateway_name=NAME, fqdn=FQDN, backend=OURS)
ASKS = ProbeAnswer(302, f"{AUTHORIZE}?client_id={CLIENT_ID}")
ANSWERS: dict[str, tuple[ProbeAnswer, bool]] = {
    "it asks for sign-in with this tester's app": (ASKS, True),
    "with another one's": (ProbeAnswer(302, f"{AUTHORIZE}?client_id=other"), False),
    "nobody answers": (ProbeAnswer(None, error="no connection"), False),
    "the grid knows no such name": (ProbeAnswer(404), False),
    "the grid reaches no machine": (ProbeAnswer(502), False),
    "somebody refuses": (ProbeAnswer(403), False),
    "somebody answers": (ProbeAnswer(200), False),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_one_that_the_listing_omits_stands_as_long_as_its_name_leads_to_the_testers_machine(name: str) -> None:
    answer, stands = ANSWERS[name]
    daemon = FakeDaemon(Gateway("9", "another"))
    daemon.public = answer
    known = facts(KNOWN, **HELD)
    found = await seen(daemon, known)
    assert daemon.did == [FQDN]
    assert (found is not None) is stands
    if found is not None:
        assert step().plan(a_tester(), found, known) == ()
        assert step().learn(found, known) == KNOWN
        assert step().identity(found) == HELD["identity"]
        told = {each.type: each for each in step().findings(a_tester(), found, known)}["GatewayListed"]
        assert (told.status, told.reason) == (False, "ListingIncomplete")
        assert FQDN in told.message


def computed_address() -> GatewayFacts:
    return KNOWN.model_copy(update={"fqdn": f"{NAME}.gent.example.org", "computed": True})


async def test_an_address_that_was_computed_stays_so() -> None:
    daemon, known = FakeDaemon(), facts(computed_address(), **HELD)
    daemon.public = ASKS
    found = await seen(daemon, known)
    assert found is not None
    assert step().learn(found, known) == computed_address()


NOT_ASKED: dict[str, Facts] = {
    "it goes": facts(KNOWN, state=ObjectState.RETIRING, **HELD),
    "it was lost": facts(KNOWN, state=ObjectState.LOST, **HELD),
    "its tester leaves": replace(facts(KNOWN, **HELD), leaving=True),
    "its door was cut off": facts(KNOWN, SignInGateFacts(cut=True, cut_at=NOW), **HELD),
    "another one is in use": facts(KNOWN.model_copy(update={"gateway_id": "8"}), **HELD),
    "another daemon's is": facts(KNOWN.model_copy(update={"daemon": "york"}), **HELD),
    "it has no app": replace(facts(KNOWN, **HELD), steps={"gateway": KNOWN, "machine": facts().steps["machine"]}),
}


@pytest.mark.parametrize("name", NOT_ASKED)
async def test_a_name_that_is_not_in_use_is_not_asked(name: str) -> None:
    daemon = FakeDaemon()
    daemon.public = ASKS
    assert await seen(daemon, NOT_ASKED[name]) is None
    assert daemon.did == []


def test_one_that_is_not_seen_is_told_to_go_by_what_its_row_tells() -> None:
    delete = step().delete_unseen(facts(state=ObjectState.RETIRING, **HELD))
    assert delete is not None
    assert (delete.verb, delete.target, delete.args) == ("delete", f"gateway {NAME}", ("gent", "3"))
    assert (delete.effect, delete.limit) == (Effect.DELETE, a_fleet().spec.timing.gateway_limit)
    for row in ({}, {"daemon": "gent"}, {"gateway_id": "3"}):
        assert step().delete_unseen(facts(identity=row)) is None
    assert step().delete_unseen(some_facts()) is None


async def test_without_a_machine_there_is_nothing_to_look_for() -> None:
    bare = some_facts(without=("machine", "gateway"))
    assert await seen(FakeDaemon(Gateway("3", NAME)), bare) is None


UNPLACED: dict[str, Any] = {"state": ObjectState.INTENDED, "identity": {}}


async def test_one_that_was_begun_is_looked_for_at_all_daemons_while_it_is_not_known_where() -> None:
    """Also when the machine for which it was made is forgotten, or is another one by now."""
    there = FakeDaemon(york=(Gateway("7", NAME, FQDN, (OURS,)),))
    for known in (some_facts(), some_facts(without=("machine", "gateway"))):
        row = a_row("gateway", name=NAME, **UNPLACED)
        found = await seen(there, replace(known, object=row))
        assert found is not None
        assert (found.daemon, found.gateway.gateway_id) == ("york", "7")
        looks: TesterLooks = there  # type: ignore[assignment]
        assert await step().listed(TesterView(a_tester(), replace(known, object=row)), looks) == {NAME}


async def test_it_is_not_absent_as_long_as_one_of_them_cannot_be_read() -> None:
    silent = FakeDaemon(york=Transient("502", system="compute york"))
    with pytest.raises(Transient, match="502"):
        await seen(silent, facts(**UNPLACED))
    at_gent = facts(state=ObjectState.INTENDED, identity={"daemon": "gent"})
    assert await seen(silent, at_gent) is None, "the other one was never asked for it"


async def test_it_is_looked_for_where_it_was_ordered_wherever_the_machine_is_now() -> None:
    there = FakeDaemon(Gateway("3", NAME, FQDN), york=(Gateway("7", NAME, FQDN),))
    found = await seen(there, facts(state=ObjectState.INTENDED, identity={"daemon": "york"}))
    assert found is not None
    assert found.gateway.gateway_id == "7"
    with pytest.raises(Blocked, match="the fleet names no daemon bruges any more, and gateway"):
        await seen(there, facts(state=ObjectState.INTENDED, identity={"daemon": "bruges"}))


async def test_an_address_that_is_not_told_is_computed_and_said_to_be() -> None:
    computed = await seen(FakeDaemon(Gateway("3", NAME, "", (OURS,))), facts())
    assert computed is not None
    assert (computed.fqdn, computed.computed) == (f"{NAME}.gent.example.org", True)

    learnt = step().learn(computed, some_facts(without=("gateway",)))
    assert learnt is not None
    assert learnt.computed
    (finding,) = step().findings(a_tester(), computed, some_facts(learnt))
    assert (finding.status, finding.reason) == (None, "AddressComputed")


async def test_an_address_that_was_told_once_is_not_computed_again() -> None:
    """The create told it, the listing does not."""
    computed = await seen(FakeDaemon(Gateway("3", NAME, "", (OURS,))), facts())
    assert computed is not None
    told = GatewayFacts(daemon="gent", gateway_id="3", gateway_name=NAME, fqdn="told.example.org")
    learnt = step().learn(computed, some_facts(told))
    assert learnt is not None
    assert (learnt.fqdn, learnt.computed) == ("told.example.org", False)
    another = step().learn(computed, some_facts(told.model_copy(update={"gateway_id": "1"})))
    assert another is not None
    assert another.computed, "another gateway's address says nothing about this one"


async def test_a_gateway_is_ordered_with_the_grids_node_id() -> None:
    daemon = FakeDaemon()
    (create,) = actions(step().plan(a_tester(), None, facts()))
    made = await step(daemon).apply(create, TesterView(a_tester(), facts()), daemon)  # type: ignore[arg-type]
    (order,) = daemon.ordered
    machine = facts().need(MachineFacts)
    assert daemon.did == [{"daemon": "gent", "machine": machine.key}, "deploy"], "known before the call"
    assert (order.name, order.grid_node, order.backend_address) == (NAME, "2", ADDRESS)
    assert made is not None
    assert made.fqdn == FQDN


@pytest.mark.parametrize(("address", "cure"), [("goodname", True), ("auto", False)])
async def test_a_taken_name_that_the_spec_gives_says_what_to_do(address: str, cure: bool) -> None:
    daemon = FakeDaemon()
    daemon.taken = NameTaken("NameExists", system="compute gent")
    alice = a_tester(address=address)
    (action,) = actions(step().plan(alice, None, facts()))
    with pytest.raises(NameTaken) as caught:
        await step(daemon).apply(action, TesterView(alice, facts()), daemon)  # type: ignore[arg-type]
    assert ("choose another one in spec.address, or auto" in caught.value.message) is cure


def test_names() -> None:
    auto = [step().name_for(a_tester(), some_facts(), *pair) for pair in ((1, 1), (1, 2), (2, 1))]
    assert auto[0] == NAME
    assert len(set(auto)) == 3
    custom = a_tester(address="alice")
    assert {step().name_for(custom, some_facts(), each, 1) for each in (1, 2)} == {"alice"}


def test_rows_that_were_never_begun_are_planned_by_their_name() -> None:
    (create,) = actions(step().plan(a_tester(), None, facts(name="another", state=ObjectState.GONE)))
    assert create.args == ("another",)
