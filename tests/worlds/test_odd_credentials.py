"""A credential that is no text, or none that a header can carry: told, and no reason for anything to end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from examples.simulator import seeding
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import world

LEAST = {"componentSets": {"demo": ["hero_books"]}, "engines": []}


@pytest.mark.parametrize(
    "odd",
    [b"\xef\xbb\xbftoken", "tok\u2019n".encode(), b"\xff\xfet\x00o\x00", b"first\nsecond", b"tok\x00en"],
    ids=["a mark of byte order", "a typographer's apostrophe", "not UTF-8", "two lines", "a zero"],
)
@in_virtual_time
async def test_a_token_that_cannot_be_sent_is_told_and_the_last_good_one_stays(tmp_path: Path, odd: bytes) -> None:
    file = tmp_path / "token"
    async with world(tmp_path / "w", ["alice"], fleet=LEAST) as w:
        await w.ready("alice")
        file.write_bytes(odd)
        file.chmod(0o600)
        w.write_fleet(forge={"token": f"file:{file}"})
        await w.until(lambda: w.controller.engine.world_error, "that it is told", timedelta(minutes=5))
        assert "spec.forge.token" in w.controller.engine.world_error
        assert "token" not in w.controller.engine.world_error.replace("spec.forge.token", "").replace(str(file), "")
        await w.run_for(timedelta(minutes=30))
        file.write_text(seeding.controller_token(w.world.forge))
        w.rescan()
        w.write("newa")
        await w.ready("alice", "newa")
        assert not w.controller.engine.world_error
