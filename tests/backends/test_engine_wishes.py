"""Changes of an engine's list that come together are written by one task for all: each is asked about before it is written."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from reconcilers.backends.limits import ask_before_writing, asked_before_writing
from reconcilers.secret import Secret
from tests.backends.test_engines import TOKEN, Scripted, client_over


async def test_who_is_written_by_another_ones_task_was_asked_before() -> None:
    asked: list[str] = []
    before: dict[str, list[str]] = {}  # by tenant: who had been asked when it was first written

    class Gated(Scripted):
        async def swap_setting(self, address: Any, setting: Any, old: Any, new: Secret, readers: Any) -> bool:
            await ask_before_writing()  # as every gate does
            for tenant in json.loads(new.reveal()):
                before.setdefault(tenant, list(asked))
            return await super().swap_setting(address, setting, old, new, readers)

    machines = Gated({}, open=asyncio.Event())
    engine = client_over(machines)

    async def register(name: str) -> None:
        async def question() -> None:
            asked.append(name)

        with asked_before_writing(question):
            await engine.register(name, TOKEN)

    tasks = [asyncio.create_task(register(name)) for name in ("alice", "bob", "carol")]
    await machines.looked.wait()  # for the first of them; the others wait for their turn, and go together
    while len(engine._wishes) < len(tasks):  # noqa: ASYNC110 - a list sets no event
        await asyncio.sleep(0)
    assert machines.open is not None
    machines.open.set()
    await asyncio.gather(*tasks)
    assert set(before) == {"alice", "bob", "carol"}
    assert all(name in known for name, known in before.items()), before
