"""What was seen of a machine before a write of ours there is planned with by nobody, whatever came of the write."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from controller.records import PutTester
from controller.store import Store
from reconcilers.actions import Action, Step, Wait
from reconcilers.backends.machine import MachineAddress, MachineAnswer, MachineLook, Question
from reconcilers.contract import TesterView
from reconcilers.errors import Transient
from reconcilers.facts import Facts
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import machine_address
from specs.desired import DesiredTester
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Seen, a_tester, failing, record_of, rig


class OnTheMachine(FakeStep):
    """Makes nothing: restarts something on the machine, which it sees through the looks that all steps share."""

    seen = ""

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        self.seen = (await looks.machine(machine_address(tester.facts))).host_key
        return Seen("gate", {"value": self.seen})

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        return (self.wait,) if self.wait is not None else (Action("restart", "gate"),)


async def test_a_look_from_before_a_restart_that_failed_is_no_answer(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    gate = OnTheMachine("sign_in_gate", outside, needs=("machine",))
    gate.makes = False
    one = rig(store, clock, [FakeStep("machine", outside), gate], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    answers = itertools.count(1)

    async def answer(address: MachineAddress, question: Question) -> MachineAnswer:
        number = str(next(answers))
        return MachineAnswer(b"", lambda: MachineLook(host_key=number))

    backends: Any = one.engine.world.looks.backends
    backends.machines = SimpleNamespace(answer=answer)
    gate.wait = Wait("NotYet", "the machine is new", limit=None, blames="gate")
    await one.run_pass()
    assert gate.seen == "1"
    gate.wait = None
    for generation, expected in ((2, "1"), (3, "2")):
        await store.write(PutTester(record_of(a_tester("alice"), generation=generation)))  # so that nobody waits
        outside.before.append(failing(Transient("exited during its start", system="the machine")))
        clock.pass_by(FLEET.spec.timing.poll / 8)
        await one.run_pass()
        assert gate.seen == expected
