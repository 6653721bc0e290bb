"""What has changed: told once to everybody who follows, in order, and bounded."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from controller.news import Kind, News, Topic, news_of
from controller.records import (
    AddEvent,
    Condition,
    DropTester,
    Event,
    PutCondition,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    Seal,
    SourceState,
    Status,
)
from controller.store import Store
from reconcilers.secret import Secret
from tests.controller.fakes import START, a_tester, record_of

ALICE, BOB = (Topic(Kind.TESTER, name) for name in ("alice", "bob"))


def about(name: str) -> PutCondition:
    return PutCondition(Condition(name, "Ready", Status.TRUE, "Ready", "", 1, START))


def heard(news: News, position: str) -> list[Topic] | None:
    found = news.since(position)
    return None if found is None else [piece.topic for piece in found]


async def test_every_commit_tells_whose_it_was_and_nothing_secret_is_news(store: Store) -> None:
    news = news_of(store)
    start = news.position
    await store.write(
        PutTester(record_of(a_tester("alice"))),
        about("alice"),
        about(""),
        AddEvent(Event("alice", "machine", "Created", "x", START)),
        PutSource(SourceState("folder", "r1", START, True)),
        PutRevision(RevisionRecord("r1", "folder", START)),
        Seal("alice/one_time_password", Secret("s"), START),
    )
    told = {Topic(Kind.EVENT, "alice"), Topic(Kind.FLEET, ""), Topic(Kind.REVISION, "r1"), ALICE}
    assert set(heard(news, start) or ()) == told
    quiet = news.position
    await store.write(Seal("alice/one_time_password", Secret("t"), START))
    await store.prune(START - timedelta(days=1))
    assert news.position == quiet
    await store.write(DropTester("alice"))
    assert heard(news, quiet) == [ALICE]


async def test_all_who_ask_follow_the_same_news(store: Store) -> None:
    news = news_of(store)
    assert news_of(store) is news
    assert len(store.listeners) == 1


def test_who_comes_back_hears_each_thing_once_and_in_order() -> None:
    news = News()
    start = news.position
    for name in ("alice", "bob", "alice"):
        news.hear((about(name),))
    found = news.since(start)
    assert found is not None
    assert [piece.topic for piece in found] == [BOB, ALICE]
    assert heard(news, found[0].position) == [ALICE]
    assert heard(news, found[1].position) == []


def test_what_is_not_remembered_any_more_is_said_so() -> None:
    news = News(remembered=2)
    start = news.position
    news.hear((about("alice"),))
    after_alice = news.position
    news.hear((about("bob"),))
    news.hear((about("carol"),))
    assert heard(news, start) is None
    assert heard(news, after_alice) == [BOB, Topic(Kind.TESTER, "carol")]


def test_positions_of_others_are_not_believed() -> None:
    news, other = News(), News()
    news.hear((about("alice"),))
    of = news.position.partition("-")[0]
    strange = (other.position, "", "x", f"{of}-", f"{of}-2", f"{of}--1", f"{of}-١", f"{of}-{'9' * 5000}")
    assert [heard(news, position) for position in strange] == [None] * len(strange)


async def test_who_waits_is_woken_by_what_comes_after_its_position() -> None:
    news = News()
    waiting = asyncio.ensure_future(news.beyond(news.position))
    await asyncio.sleep(0)
    assert not waiting.done()
    news.hear(())
    await asyncio.sleep(0)
    assert not waiting.done()
    news.hear((about("alice"),))
    async with asyncio.timeout(30):
        await waiting
