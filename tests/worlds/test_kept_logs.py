"""What a failed install printed is readable while its machine is away and after it was rebuilt (lesson 36)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.lessons.conftest import LEAN, asked, fault
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import world

LOGS = "/api/v1/testers/alice/logs"
PRINTED = "+ lab build hero_books"


@in_virtual_time
async def test_a_failed_installs_log_outlives_its_machine_and_goes_when_all_is_well(tmp_path: Path) -> None:
    broken = fault("machine", "lab build", "install_fails", "hero_books", times=None)
    async with world(tmp_path, ["alice"], fleet=LEAN, faults=[broken]) as w:

        async def kept() -> Any:
            found = await w.store.books("alice")
            return found is not None and found.facts.get("install_logs")

        await w.until(kept, "the failure is in our books")
        w.world.drift.add_fault(**fault("machine", "overlay", "inner_unroutable", w.vm("alice"), times=None))
        first = w.vm("alice")
        await w.until(lambda: w.world.reachable_at(w.world.machine_named(first).state.mycelium_ip) is None, "away")
        (one,) = await asked(w, LOGS)
        assert (one["component"], one["state"]) == ("hero_books", "failed")
        assert one["log"].startswith(PRINTED)
        assert one["keptAt"]
        assert "Host unreachable" in one["keptWhy"]
        w.edit("alice", machine={"rebuild": 1})
        w.world.drift.clear_faults()
        await w.ready("alice")
        found = {each["component"]: each for each in await asked(w, LOGS)}
        assert (found["hero_books"]["state"], found["hero_books"]["keptAt"]) == ("succeeded", None)
        books = await w.store.books("alice")
        assert books is not None
        assert books.facts["install_logs"].model_dump() == {"kept": {}}
