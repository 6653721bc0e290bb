"""`testerctl plan`: how a plan reads, what its exit code says, and that making one changes nothing."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from api.commands import plan as plan_command
from api.commands.plan import CHANGES, FAILED, NOTHING, exit_code
from api.demo.folder import write_fleet
from api.demo.world import Addresses
from api.plan_view import show_plan, show_sum, without_provisional
from api.planning import FolderPlan, Planned, plan_folder
from controller.passes.preview import Preview, StepPreview
from controller.places import Places
from controller.telling.expected import expected
from examples.simulator.server import serving
from examples.simulator.world import World
from reconcilers.actions import Action, Disruption, Effect, FieldChange, Finding, Wait, secret_change
from reconcilers.clock import SystemClock
from specs.errors import SpecError
from specs.loading import load_folder
from tests.controller.fakes import START, a_tester, record_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"

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
        StepPreview(
            "sign_in_gate", findings=(Finding("SignInProtected", False, "SeenOpen", "a stranger\nwas let in"),)
        ),
        StepPreview("settings"),
    )
    assert "    known after machine\n" in text
    assert "    … waits: hero_books is being installed\n" in text
    assert "    ! Forge: no answer\n" in text
    assert "    ! SignInProtected is not so: a stranger was let in\n" in text
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


def folder_of(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "fleet"
    folder.mkdir()
    for name in ("fleet", *names):
        text = (EXAMPLES / f"{name}.yaml").read_text()
        (folder / f"{name}.yaml").write_text(text)
    return folder


async def test_removals_are_held_back_by_the_same_rule_as_an_intake_has(tmp_path: Path) -> None:
    loaded = load_folder(folder_of(tmp_path, "carol"), START.date())
    rows = {name: record_of(a_tester(name), uid=f"{name}7k2") for name in ("alice", "bob", "carol")}
    wanted, held = expected(rows, loaded, START)
    assert held == ("alice", "bob")
    assert not wanted["alice"].leaving
    wanted, held = expected({name: rows[name] for name in ("alice", "carol")}, loaded, START)
    assert held == ()
    assert wanted["alice"].leaving


async def test_who_has_expired_is_planned_to_leave(tmp_path: Path) -> None:
    loaded = load_folder(folder_of(tmp_path, "alice"), START.date())
    after = loaded.testers["alice"].desired.expires
    assert after is not None
    then = datetime(after.year, after.month, after.day, tzinfo=UTC) + timedelta(days=1)
    rows = {"alice": record_of(a_tester("alice"))}
    assert not expected(rows, loaded, START)[0]["alice"].leaving
    assert expected(rows, loaded, then)[0]["alice"].leaving


async def test_many_who_expire_at_once_are_held_back_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "alice")
    text = (folder / "alice.yaml").read_text()
    dora = text.replace("name: alice", "name: dora").replace("Alice-B", "Dora").replace("alice@", "dora@")
    (folder / "dora.yaml").write_text(dora)
    loaded = load_folder(folder, START.date())
    assert loaded.errors == ()
    rows = {name: record_of(a_tester(name), uid=f"{name}7k2"[:6]) for name in ("alice", "dora")}
    wanted, held = expected(rows, loaded, datetime(2091, 1, 1, tzinfo=UTC))
    assert held == ("alice", "dora")
    assert not any(record.leaving for record in wanted.values())


def test_who_has_nothing_to_do_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = [Planned(Preview(f"quiet{number}", False, (StepPreview("machine"),))) for number in range(9)]
    busy = Planned(Preview("busy", False, (StepPreview("machine", (CREATE,)),)))
    waiting = Planned(
        Preview("waiting", False, (StepPreview("machine", waits=(Wait("W", "for it", timedelta(1), "b"),)),))
    )
    plan_command._show(FolderPlan((*quiet, busy, waiting), ()), asked=False)
    told = capsys.readouterr().out
    assert "9 of 11 testers: nothing to do\n" in told
    assert "quiet0" not in told
    assert [line.split()[0] for line in told.splitlines() if line[:1].isalpha()] == ["busy", "waiting"]
    plan_command._show(FolderPlan((*quiet[:2], busy), ()), asked=False)
    assert "2 of 3 testers: nothing to do (quiet0, quiet1)\n" in capsys.readouterr().out
    plan_command._show(FolderPlan((quiet[0],), ()), asked=True)
    assert capsys.readouterr().out.startswith("quiet0  nothing to do\n")
