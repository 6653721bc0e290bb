"""What stands at the end of a world is compared with the folder, and what the world itself saw is a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.rig import FEW
from tests.worlds import living
from tests.worlds.edits import Asked
from tests.worlds.ending import wrong_at_the_end
from tests.worlds.living import live
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world
from tests.worlds.test_stories import story_of
from tests.worlds.watch import Watch

ASKED = {"alice": Asked.READY, "carol": Asked.GONE}


@in_virtual_time
async def test_whatever_is_missing_or_left_over_at_the_end_is_told(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice", "carol"], fleet=FEW) as w:
        watch = Watch(w)
        await w.ready("alice", "carol")
        daemon, forge = next(iter(w.world.state.daemons.values())), w.world.state.forge
        engine = w.world.state.engines[0]
        vms, gateways, apps, accepted = dict(daemon.vms), dict(daemon.gateways), list(forge.apps), dict(engine.accepted)
        w.remove("carol")
        await w.gone("carol")
        await w.settled()
        w.kill()
        assert wrong_at_the_end(watch, ASKED) == []
        harm: Mapping[str, Callable[[], object]] = {
            "machine carol_": lambda: daemon.vms.update(vms),
            "gateway carol": lambda: daemon.gateways.update(gateways),
            "sign_in_app Hero OS carol": lambda: forge.apps.extend(each for each in apps if "carol" in each.name),
            "embedder accepts a token of carol": lambda: engine.accepted.update(accepted),
            "alice has none as gateway": daemon.gateways.clear,
            "alice has none as machine": daemon.vms.clear,
            "alice has none as sign_in_app": forge.apps.clear,
            "alice has tokens at other engines": w.world.admin.state.secrets[engine.context].clear,
        }
        for text, does in harm.items():
            assert text not in (told := "\n".join(wrong_at_the_end(watch, ASKED))), told
            does()
            assert text in (told := "\n".join(wrong_at_the_end(watch, ASKED))), told


def open_for_a_moment(w: Rig) -> None:
    machine = w.world.machine_named(w.vm("alice"))
    for machine.state.door.ungated in (True, False):
        w.world.changed()


def without_gateway(w: Rig) -> None:
    next(iter(w.world.state.daemons.values())).gateways.clear()


@pytest.mark.parametrize(
    ("harm", "kind"), [(open_for_a_moment, "violation: OpenDoor"), (without_gateway, "end"), (None, "")]
)
def test_a_world_fails_by_what_it_saw_itself_and_by_what_stands_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Rig], None] | None, kind: str
) -> None:
    async def never(w: Rig) -> None:
        w.kill()
        if harm is not None:
            harm(w)

    monkeypatch.setattr(living, "_quiet", never)
    outcome = live(tmp_path, story_of())
    assert (outcome.failure.kind if outcome.failure is not None else "") == kind
