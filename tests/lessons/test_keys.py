"""Lessons 37 and 46: a key that is asked for and that nobody holds, and keys that a tester can read."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import PROVIDER_KEY
from tests.lessons.conftest import LEAN, asked, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

GROQ = "gsk-canary-of-groq-0987654321"
OWN = "sk-or-alice-has-bought-this-one"
PROVIDERS = {
    "openrouter": {"setting": "OPENROUTER_API_KEY", "default": "env:SIM_OPENROUTER"},
    "groq": {"setting": "GROQ_API_KEY", "default": "env:SIM_GROQ"},
}
BOTH = {"keys": {"providers": {"openrouter": "default", "groq": "default"}}}


def key_of(w: Rig, name: str, key: str) -> str | None:
    return w.world.drift.secret(w.vm(name), "cockpit", key)


async def settings_of_plan(w: Rig, name: str) -> tuple[dict[str, Any], str]:
    """The part of the settings in the plan that the read API shows; and the whole plan as text."""
    plan = await asked(w, f"/api/v1/testers/{name}/plan")
    (step,) = [each for each in plan["steps"] if each["step"] == "settings"]
    return step, str(plan)


# ------------------------------------------------------------------ 37: one of two keys


@in_virtual_time
async def test_lesson_37_a_key_that_nobody_holds_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other key is there, and yet nobody is told that the machine is ready until both are."""
    monkeypatch.delenv("SIM_GROQ", raising=False)
    async with world(tmp_path, {"alice": BOTH}, fleet={**LEAN, "providers": PROVIDERS}) as w:

        async def missing() -> bool:
            found = (await w.conditions("alice")).get("Settings")
            return found is not None and found.reason == "SecretMissing"

        await w.until(missing, "the key is missed")
        await w.run_for(timedelta(minutes=5))
        conditions = await w.conditions("alice")
        assert all(word in conditions["Settings"].message for word in ("env:SIM_GROQ", "GROQ_API_KEY", "provider groq"))
        assert "SIM_OPENROUTER" not in conditions["Settings"].message
        assert (conditions["Ready"].reason, conditions["Stalled"].reason) == ("SecretMissing", "SecretMissing")
        assert (key_of(w, "alice", "OPENROUTER_API_KEY"), key_of(w, "alice", "GROQ_API_KEY")) == (PROVIDER_KEY, None)
        assert w.books()["mailbox"] == []
        assert (await asked(w, "/api/v1/testers/alice"))["tester"]["phase"] == "Stalled"
        monkeypatch.setenv("SIM_GROQ", GROQ)
        w.rescan()
        await w.ready("alice")
        assert (key_of(w, "alice", "OPENROUTER_API_KEY"), key_of(w, "alice", "GROQ_API_KEY")) == (PROVIDER_KEY, GROQ)


@in_virtual_time
async def test_lesson_37_the_plan_says_so_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIM_GROQ", raising=False)
    paused = {"paused": {"reason": "a look first", "by": "mik"}}
    async with world(tmp_path, {"alice": {**BOTH, **paused}}, fleet={**LEAN, "providers": PROVIDERS}) as w:
        await w.until(lambda: w.store.commits > 1, "alice is taken in")
        step, _ = await settings_of_plan(w, "alice")
        assert "env:SIM_GROQ" in step["error"]
        assert w.writes() == []


@in_virtual_time
async def test_lesson_37_a_default_key_that_the_fleet_does_not_have_is_refused_with_its_file(tmp_path: Path) -> None:
    without = {"openrouter": PROVIDERS["openrouter"], "groq": {"setting": "GROQ_API_KEY"}}
    async with world(tmp_path, {"alice": BOTH}, fleet={**LEAN, "providers": without}) as w:
        await w.run_for(timedelta(minutes=10))
        (broken,) = [each for each in await told(w) if "alice.yaml" in each]
        assert "groq" in broken
        assert "openrouter" not in broken.replace("openrouter: default", "")
        assert await w.store.testers() == ()
        assert w.writes() == []


# ------------------------------------------------------------------ 46: keys that can be read


@in_virtual_time
async def test_lesson_46_the_plan_warns_of_a_default_key_before_it_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of the tester's own is no risk of the fleet's, and the values are shown in no case."""
    monkeypatch.setenv("SIM_OWN", OWN)
    paused = {"reason": "a look first", "by": "mik"}
    default = {"keys": {"providers": {"openrouter": "default"}}, "paused": paused}
    own = {"keys": {"providers": {"openrouter": {"secret": "env:SIM_OWN"}}}, "paused": paused}
    async with world(tmp_path, {"alice": default, "carol": own}, fleet=LEAN) as w:
        await w.until(lambda: w.store.commits > 2, "they are taken in")
        warned = {}
        for name in ("alice", "carol"):
            step, text = await settings_of_plan(w, name)
            (write,) = [action for action in step["actions"] if action["verb"] == "write"]
            warned[name] = [each for each in write["consequences"] if "tester can read it" in each]
            assert "settings.cockpit/OPENROUTER_API_KEY" in text
            assert os.environ["SIM_OPENROUTER"] not in text
            assert OWN not in text
        assert [each.partition(" ")[0] for each in warned["alice"]] == ["OPENROUTER_API_KEY"]
        assert warned["carol"] == []
        assert w.writes() == []


@in_virtual_time
async def test_lesson_46_who_holds_a_key_of_the_fleet_stays_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIM_OWN", OWN)
    default, own = "default", {"secret": "env:SIM_OWN"}
    specs = {"alice": {"keys": {"providers": {"openrouter": default}}}}
    async with world(tmp_path, specs, fleet=LEAN) as w:
        await w.ready("alice")
        assert key_of(w, "alice", "OPENROUTER_API_KEY") == PROVIDER_KEY, "she can read it"
        held = (await w.conditions("alice"))["SharedKeysHandedOut"]
        assert (held.status, held.reason) == ("True", "DefaultKey")
        assert "OPENROUTER_API_KEY" in held.message
        w.edit("alice", keys={"providers": {"openrouter": own}})
        await w.until(lambda: key_of(w, "alice", "OPENROUTER_API_KEY") == OWN, "her own key")
        await w.ready("alice")
        assert "SharedKeysHandedOut" not in await w.conditions("alice")
