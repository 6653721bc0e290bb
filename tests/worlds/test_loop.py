"""The virtual loop: time jumps only when nobody can run, a standstill is told, and the dead stay dead."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from controller.records import AddEvent, Event
from controller.store import KeySource, Store
from tests.worlds.loop import START, Deadlock, Life, Livelock, VirtualClock, VirtualWorldClock, outliving, run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_month_passes_in_no_time_and_in_order() -> None:
    seen: list[tuple[str, float]] = []

    async def wake(name: str, after: float) -> None:
        await asyncio.sleep(after)
        seen.append((name, now()))

    async def main() -> None:
        await asyncio.gather(wake("later", 30 * 86_400), wake("sooner", 0.25), wake("between", 3600))

    run(main())
    assert seen == [("sooner", 0.25), ("between", 3600.0), ("later", 30 * 86_400.0)]


def test_both_clocks_tell_the_same_moment() -> None:
    async def main() -> None:
        await VirtualClock().sleep(timedelta(hours=5, seconds=0.5))
        assert VirtualClock().now() == START + timedelta(hours=5, seconds=0.5)
        assert VirtualWorldClock().now() == VirtualClock().now().timestamp()

    run(main())


def test_limits_go_by_virtual_time() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        assert now() == 90

    run(main())


def test_a_deadlock_is_told_with_who_waits_for_what() -> None:
    async def feed(lock: asyncio.Lock) -> None:
        async with lock:
            await asyncio.Event().wait()

    async def main() -> None:
        lock = asyncio.Lock()
        await asyncio.gather(feed(lock), feed(lock))

    with pytest.raises(Deadlock) as told:
        run(main())
    assert "feed → Event.wait" in str(told.value)
    assert "→ Lock.acquire (locks.py" in str(told.value)


def test_a_loop_that_never_rests_is_told() -> None:
    async def main() -> None:
        while now() == 0:  # noqa: ASYNC110 - that is the mistake
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="main"):
        run(main())


def test_a_wait_that_is_only_a_rounding_error_long_ends() -> None:
    """As a limiter's may be: added to the time of day it is nothing."""

    async def main() -> float:
        await asyncio.sleep(100_000)
        loop, due = asyncio.get_running_loop(), now() + 1e-9
        while now() < due:
            woken = loop.create_future()
            loop.call_later(1e-16, woken.set_result, None)
            await woken
        return now()

    assert run(main()) < 100_000.001


def test_time_does_not_jump_while_the_database_is_at_work(tmp_path: Path) -> None:
    """However long a transaction takes, and though a timer is due meanwhile by the machine's own clock."""
    order: list[str] = []

    async def timer() -> None:
        await asyncio.sleep(0.001)
        order.append("timer")

    async def main() -> None:
        store = await Store.open(f"sqlite:///{tmp_path}/books.db", KeySource({}, tmp_path / "key"), VirtualClock())
        waiting = asyncio.ensure_future(timer())
        before = now()
        for number in range(20):
            await store.write(AddEvent(Event("alice", "", "Note", str(number), VirtualClock().now())))
            assert len(await store.events()) == number + 1
        order.append("written")
        assert now() == before
        await waiting
        await store.aclose()

    run(main())
    assert order == ["written", "timer"]


def test_work_for_a_thread_is_done_in_line() -> None:
    async def main() -> None:
        began = time.monotonic()
        assert await asyncio.to_thread(lambda: random.Random(7).random()) == random.Random(7).random()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        assert now() == 0
        assert time.monotonic() >= began

    run(main())


def test_no_time_passes_while_the_api_works_in_a_thread_of_its_own() -> None:
    """An ordinary function as an endpoint, or a dependency, goes to a thread past the loop: a timer must not run meanwhile."""
    app = FastAPI()

    @app.get("/")
    def moment() -> str:
        time.sleep(0.05)  # a busy machine
        return "told"

    async def main() -> None:
        timer = asyncio.ensure_future(asyncio.sleep(3600))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            assert (await client.get("/")).json() == "told"
        assert now() == 0
        timer.cancel()

    run(main())


def test_the_end_of_a_life_runs_not_one_more_line_of_it() -> None:
    did: list[str] = []

    async def serve() -> str:
        await asyncio.sleep(5)
        did.append("served")
        return "answer"

    async def child() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                did.append(f"child at {now():.0f}")
        finally:
            did.append("child's finally")

    async def controller() -> None:
        grown = asyncio.ensure_future(child())
        try:
            did.append(await asyncio.shield(outliving(serve())))
        except BaseException:
            did.append("caught")
            raise
        finally:
            grown.cancel()

    async def main() -> None:
        life = Life()
        life.run(controller())
        await asyncio.sleep(2.5)
        life.end()
        await asyncio.sleep(10)
        assert did == ["child at 1", "child at 2", "served"]  # the world went on, and nobody heard its answer

    run(main())


def test_what_was_about_to_run_at_the_end_of_a_life_does_not() -> None:
    did: list[str] = []

    async def controller(go: asyncio.Event) -> None:
        await go.wait()
        did.append("went on")

    async def main() -> None:
        life, go = Life(), asyncio.Event()
        life.run(controller(go))
        await asyncio.sleep(1)
        go.set()
        life.end()
        await asyncio.sleep(1)
        assert did == []

    run(main())


@pytest.mark.parametrize("begin", [asyncio.ensure_future, asyncio.create_task])
def test_what_the_dead_still_had_in_mind_is_left_with_no_other_loop(
    begin: Callable[..., asyncio.Future[None]], recwarn: pytest.WarningsRecorder
) -> None:
    """It would be told of there, some day, as a coroutine that was never awaited."""
    begun: list[asyncio.Future[None]] = []

    async def last_will() -> None: ...

    async def mortal() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            begun.append(begin(last_will()))

    async def main() -> None:
        life = Life()
        life.run(mortal())
        await asyncio.sleep(1)
        life.end()

    another = asyncio.new_event_loop()
    asyncio.set_event_loop(another)
    try:
        run(main())
    finally:
        asyncio.set_event_loop(None)
        another.close()
    assert (begun, recwarn.list) == ([], [])
