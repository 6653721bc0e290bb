"""`testerctl doctor`: how the findings read, its exit code, and what `run` says of them at its start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from api import examining
from api.commands import doctor, run
from api.examining import in_words
from controller.checkup.doctor import Finding, Verdict
from controller.places import Places
from controller.records import PutObject
from controller.running import Controller
from reconcilers.facts import ObjectState, OutsideObject
from tests.api.conftest import CANARY, HOSTILE, Terminal

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet"
GOOD = Finding("Forge", "answers", Verdict.GOOD, "https://forge.example.org")
WRONG = Finding("compute gent", "nodes of the Fleet", Verdict.WRONG, f"0009 is unknown {HOSTILE}", "correct the nodes")
UNKNOWN = Finding("mail", "way out", Verdict.UNKNOWN, "no way out is configured")


def answering(monkeypatch: pytest.MonkeyPatch, *found: Finding) -> None:
    async def examined(*_: object) -> tuple[Finding, ...]:
        return found

    for module in (doctor, run):
        monkeypatch.setattr(module, "examine_folder", examined)


def test_what_is_wrong_is_marked_with_how_to_mend_it(testerctl: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, GOOD, WRONG, UNKNOWN)
    assert testerctl("doctor") == 1
    assert [line[0] for line in testerctl.out.splitlines() if line[0] != " "] == ["✓", "✗", "–"]
    assert "→ correct the nodes" in testerctl.out
    assert "\x1b" not in testerctl.out
    assert all(len(line) <= 80 for line in testerctl.out.splitlines())
    assert testerctl.err == "1 of 3 are wrong: see the lines marked ✗.\n"


def test_what_could_not_be_asked_is_no_failure(testerctl: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, GOOD, UNKNOWN)
    assert testerctl("doctor") == 0
    assert testerctl.err == ""


def test_programs_get_the_same(testerctl: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, GOOD, WRONG)
    assert testerctl("doctor", "-o", "json") == 1
    told = json.loads(testerctl.out)
    assert [one["verdict"] for one in told] == ["good", "wrong"]
    assert told[0] == {
        "system": "Forge",
        "what": "answers",
        "verdict": "good",
        "detail": "https://forge.example.org",
        "mend": None,
    }


def test_without_a_fleet_that_is_the_finding_and_no_books_are_made(testerctl: Terminal, tmp_path: Path) -> None:
    assert testerctl("doctor") == 1
    assert "testerctl validate fleet" in " ".join(testerctl.out.split())
    assert list(tmp_path.iterdir()) == []


async def test_run_warns_of_what_is_wrong_and_of_nothing_else(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, GOOD, WRONG, UNKNOWN)
    with caplog.at_level(logging.INFO, logger="controller"):
        await run._warn(controller, controller.places)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("compute gent, nodes of the Fleet: 0009 is unknown")
    assert record.message.endswith("; correct the nodes")
    assert "\x1b" not in record.message


async def test_a_folder_without_a_fleet_does_not_stop_run(
    controller: Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run._warn(controller, Places(tmp_path / "nowhere", tmp_path))
    assert "fleet, can be read: " in caplog.text
    assert CANARY not in caplog.text


async def test_the_check_up_is_told_how_many_machines_our_books_have(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def examined(*given: object) -> tuple[Finding, ...]:
        asked.append(given[-2])
        return ()

    states = (("0008", ObjectState.EXISTING), ("0009", ObjectState.EXISTING), ("0010", ObjectState.GONE))
    for number, (vm_id, state) in enumerate(states, start=1):
        identity = {"daemon": "gent", "vm_id": vm_id}
        row = OutsideObject("bob", "machine", number, 1, f"bob_{number}", state, identity, controller.clock.now())
        await controller.store.write(PutObject(row))
    monkeypatch.setattr(examining, "examine", examined)
    await examining.examine_folder(Places(EXAMPLE, controller.places.state), controller.store, controller.clock)
    (standing_at,) = asked
    assert isinstance(standing_at, Mapping)
    assert standing_at["gent"] == 2


def test_a_finding_in_words() -> None:
    assert in_words(GOOD) == "Forge, answers: https://forge.example.org"
