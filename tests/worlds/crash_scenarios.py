"""The six lives in which the process dies at every boundary (`tests/worlds/crash_points.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.reconcilers.data import OTHER_KEY
from tests.reconcilers.driver import both_engines
from tests.worlds.rig import Rig

HOUR = timedelta(hours=1)
ENGINE = "voice"
KEY_FILE = "openrouter.key"


def fleet_of(root: Path) -> dict[str, Any]:
    """The least Fleet in which there is one of everything, and which is not polled oftener than need be: thousands of deaths
    are to be told apart, not thousands of polls. Makes the provider's key below `root`."""
    file = root / KEY_FILE
    file.touch(mode=0o600)
    file.write_text("sk-or-first")
    return {
        "componentSets": {"demo": ["hero_books"]},
        "providers": {"openrouter": {"setting": "OPENROUTER_API_KEY", "default": f"file:{file}"}},
        "timing": {"poll": "6s"},
    }


def with_one_engine(w: Rig) -> None:
    """Drops all engines but one from the Fleet."""
    w.write_fleet(engines=[each for each in both_engines(w.addresses) if each["name"] == ENGINE])


async def a_pass_more(w: Rig) -> None:
    """Until what was under way a moment ago has been looked at, too."""
    if not await w.store.testers():
        return
    engine = w.controller.engine
    passes = engine.passes
    await w.until(lambda: w.controller.engine is not engine or engine.passes > passes, "one more pass")
    await _is_ready(w)


async def _is_ready(w: Rig) -> None:
    await w.ready("alice", within=3 * HOUR)


@dataclass(frozen=True)
class Scenario:
    """`begin` is what happens to a tester who is Ready and at rest (in a cold add to nobody), at once; `goal` waits until
    the controller has done what it calls for. Between the two every boundary counts."""

    name: str
    begin: Callable[[Rig], None]
    goal: Callable[[Rig], Awaitable[None]] = _is_ready
    ready_first: bool = True
    tester: Mapping[str, Any] = field(default_factory=dict)


def _nothing(_: Rig) -> None:
    pass


def _publish(w: Rig) -> None:
    """An app, and the front door itself."""
    for component in ("hero_books", "hero_proxy"):
        w.world.drift.publish(component, "v9.9.9")


async def _updated(w: Rig) -> None:
    def holds() -> bool:
        (machine,) = w.world.machines.values()
        rows = [machine.state.components[name] for name in ("hero_books", "hero_proxy")]
        return all((row.version, row.running) == ("v9.9.9", "v9.9.9") for row in rows)

    await w.until(holds, "both new versions", within=3 * HOUR)
    await _is_ready(w)


def _harm(w: Rig) -> None:
    """Something on the machine, at its door, at Forge and at an engine."""
    w.excuse("OpenDoor")  # a door without its domain; that it is not opened once more is compared
    drift, vm = w.world.drift, w.vm("alice")
    drift.stop_service(vm, "hero_books")
    drift.kill_service(vm, "hero_cockpit")
    drift.set_secret(vm, "cockpit", "HERO_VOICE_URL", "http://elsewhere.test")
    drift.add_authorized_key(vm, OTHER_KEY)
    drift.remove_domain(vm, w.fqdn("alice"))
    drift.disable_account("alice")
    drift.delete_app(w.world.state.forge.apps[-1].name)
    drift.remove_tenant(
        ENGINE, next(name for name in w.world.engines.named(ENGINE).accepted if name.startswith("alice"))
    )


async def _repaired(w: Rig) -> None:
    def holds() -> bool:
        (machine,) = w.world.machines.values()
        services = machine.state.services
        return (
            services["hero_books"].alive
            and services["hero_cockpit"].alive
            and bool(machine.state.domains)
            and not w.world.state.forge.accounts["alice"].prohibit_login
            and len(w.world.drift.authorized_keys(machine.name)) == 1
            and any(app.client_id == machine.state.door.client_id for app in w.world.state.forge.apps)
            and machine.state.door.listener
        )

    await w.until(holds, "the repair", within=3 * HOUR)
    await _is_ready(w)


def _rotate(w: Rig) -> None:
    """The provider's key, the engines' tokens, and the sign-in app, of which somebody made a new secret by hand."""
    w.world.drift.set_redirect(w.world.state.forge.apps[-1].name, "https://elsewhere.test/oauth/callback")
    (w.places.folder.parent / KEY_FILE).write_text("sk-or-another")
    w.edit("alice", keys={"rotateEngineTokens": 1})


async def _rotated(w: Rig) -> None:
    def holds() -> bool:
        (machine,) = w.world.machines.values()
        held = {key: value for each in machine.state.secrets.values() for key, value in each.items()}
        (app,) = w.world.state.forge.apps
        return held["OPENROUTER_API_KEY"] == b"sk-or-another" and machine.state.door.client_secret == app.client_secret

    await w.until(holds, "the new secrets", within=3 * HOUR)
    await _is_ready(w)


def _rebuild(w: Rig) -> None:
    w.edit("alice", machine={"rebuild": 1})


def _remove(w: Rig) -> None:
    w.remove("alice")


async def _gone(w: Rig) -> None:
    await w.gone("alice", within=3 * HOUR)


DELETED = {"identity": {"email": "alice@example.org", "whenRemoved": "delete"}}

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        Scenario("cold-add", _nothing, ready_first=False),
        Scenario("update", _publish, _updated),
        Scenario("drift", _harm, _repaired),
        Scenario("rotation", _rotate, _rotated, tester={"keys": {"providers": {"openrouter": "default"}}}),
        Scenario("rebuild", _rebuild),
        Scenario("removal", _remove, _gone, tester=DELETED),
    )
}
