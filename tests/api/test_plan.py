"""`testerctl plan`: how a plan reads, what its exit code says, and that making one changes nothing."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from api.commands.plan import CHANGES, FAILED, NOTHING, exit_code
from api.demo.folder import write_fleet
from api.demo.world import Addresses
from api.plan_view import show_plan, show_sum, without_provisional
from api.planning import FolderPlan, Planned, plan_folder
from controller.preview import Preview, StepPreview
from controller.running import Places
from examples.simulator.server import serving
from examples.simulator.world import World
from reconcilers.actions import Action, Disruption, Effect, FieldChange, Wait, secret_change
from reconcilers.clock import SystemClock
from specs.errors import SpecError

CREATE = Action(
    "create",
    "machine alice_x7k2p9_1_1",
    Effect.CREATE,
    changes=(FieldChange("name", None, "alice_x7k2p9_1_1"), secret_change("password", known=False)),
)
CHANGE = Action(
    "rotate_app",
    "OAuth app",
    changes=(FieldChange("redirect", "a", "b"), FieldChange("old", "x", None)),
    disruption=Disruption.RESTART,
    consequences=("Forge makes a new client secret",),
)
DELETE = Action("delete", "gateway g1", Effect.DELETE, disruption=Disruption.REMOVE)
ERROR = SpecError("zoe.yaml", 3, 1, "spec", "is wrong", "mend it")


def shown(*steps: StepPreview, provisional: str = "", leaving: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
    planned = Planned(Preview("alice", leaving, steps), provisional)
    show_plan(console, planned)
    show_sum(console, (planned,))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_plan_reads_field_by_field_with_consequences() -> None:
    text = shown(
        StepPreview("machine", (CREATE,)), StepPreview("sign_in_app", (CHANGE,)), StepPreview("gateway", (DELETE,))
    )
    assert text.splitlines()[:-1] == [
        "alice  disruption: remove",
        "  machine",
        "    + create machine alice_x7k2p9_1_1",
        "        + name: alice_x7k2p9_1_1",
        "        + password: (secret)",
        "  sign_in_app",
        "    ~ rotate app OAuth app  (restart)",
        "        ~ redirect: a → b",
        "        - old: x",
        "        ! Forge makes a new client secret",
        "  gateway",
        "    - delete gateway g1  (remove)",
    ]
    assert text.splitlines()[-1] == "1 to make, 1 to change, 1 to take away; 1 of 1 testers are touched."


def test_what_is_not_known_yet_waited_for_or_wrong_is_said() -> None:
    wait = Wait("Installing", "hero_books\nis being installed", timedelta(minutes=1), "the machine")
    text = shown(
        StepPreview("gateway", known_after=("machine",)),
        StepPreview("components", waits=(wait,)),
        StepPreview("account", error="Forge: no answer"),
        StepPreview("settings"),
    )
    assert "    known after machine\n" in text
    assert "    … waits: hero_books is being installed\n" in text
    assert "    ! Forge: no answer\n" in text
    assert "settings" not in text
    assert "nothing to do" not in text.splitlines()[0]


def test_names_of_a_new_tester_show_as_new() -> None:
    text = shown(StepPreview("machine", (CREATE,)), provisional="x7k2p9")
    assert "x7k2p9" not in text
    assert "    + create machine (new)\n" in text
    assert text.splitlines()[0] == "alice new"


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("https://alicex7k2p9.gent.example.org/cb", "https://(new)/cb"),
        ("Hero OS alice x7k2p9-1-1", "Hero OS alice (new)"),
        ("alice_x7k2p9_1_1: a", "(new): a"),
        ("nothing of it", "nothing of it"),
    ],
)
def test_where_the_uid_stands_in_a_name(words: str, then: str) -> None:
    assert without_provisional(words, "x7k2p9") == then
    assert without_provisional(words, "") == words


@pytest.mark.parametrize(
    ("steps", "errors", "code"),
    [
        ((), (), NOTHING),
        ((StepPreview("machine", waits=(Wait("W", "m", timedelta(1), "b"),)),), (), NOTHING),
        ((StepPreview("machine", (CREATE,)),), (), CHANGES),
        ((StepPreview("machine", (CREATE,)), StepPreview("account", error="no")), (), FAILED),
        ((StepPreview("machine", (CREATE,)),), (ERROR,), FAILED),
        ((), (ERROR,), FAILED),
    ],
)
def test_exit_codes(steps: tuple[StepPreview, ...], errors: tuple[SpecError, ...], code: int) -> None:
    assert exit_code(FolderPlan((Planned(Preview("alice", False, steps)),), errors)) == code


async def test_a_plan_for_new_testers_looks_and_changes_nothing(tmp_path: Path) -> None:
    world = World(seed=1, speed=600, state_dir=tmp_path / "world", daemons=1)
    async with serving(world, tmp_path / "world"):
        addresses = Addresses.read(tmp_path / "world" / "addresses.json")
        assert addresses is not None
        where = Places(write_fleet(tmp_path, addresses), tmp_path / "state")
        made = await plan_folder(where, (), SystemClock())
        only_bob = await plan_folder(where, ("bob",), SystemClock())
        entries = list(world.log.entries)
    assert made.errors == ()
    assert [one.preview.tester for one in made.plans] == ["alice", "bob", "carol"]
    assert [one.preview.tester for one in only_bob.plans] == ["bob"]
    assert exit_code(made) == CHANGES
    steps = {step.step: step for step in made.plans[0].preview.steps}
    assert [action.verb for action in steps["machine"].actions] == ["create"]
    assert "machine" in steps["gateway"].known_after
    assert all(one.provisional for one in made.plans)
    assert entries
    assert [entry for entry in entries if entry.writing] == []
    assert not (tmp_path / "state").exists()
