"""The mark over a tester's books: another one after every write about it, whoever writes, and the same after none."""

from __future__ import annotations

from dataclasses import replace

from controller.fresh import FreshenFacts
from controller.records import AddEvent, ClaimForge, PutCondition, PutFacts, PutJournal, PutObject, PutTester, Seal
from controller.rests import PutRest
from controller.store import Store
from reconcilers.facts import EngineAccessFacts, SignInGateFacts
from reconcilers.secret import Secret
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import MINUTE, NOON, a_condition, a_tester, an_entry, an_event, an_object

GATE = SignInGateFacts(proven="it", listening=True, public=True, checked_at=NOON, checked_path=1)
ENGINES = EngineAccessFacts(tenant="alice_x", proven={"voice": NOON})
NAMES = ("alice", "bob")


async def filled(store: Store) -> None:
    for name in NAMES:
        await store.write(
            PutTester(a_tester(name)),
            PutObject(replace(an_object(), tester=name)),
            PutFacts(name, GATE, "gent/1", NOON),
            PutFacts(name, ENGINES, "", NOON),
            PutCondition(a_condition(of=name)),
            PutJournal(replace(an_entry(), id=f"{name:0>32}", tester=name, ended_at=NOON)),
            Seal(f"{name}/token", Secret("x"), NOON),
            PutRest(name, b"mark", "{}"),
        )


async def ran(store: Store, sql: str) -> int:
    """As somebody writes who knows nothing of marks."""
    return await store._database.write(lambda connection: connection.exec_driver_sql(sql).rowcount, None)


async def mark_of(store: Store, name: str = "alice") -> bytes:
    books = await store.books(name, marked=lambda record: True)
    kept = (await store.rests(NAMES))[name]
    assert books is not None
    assert books.mark == kept.books.digest, "of one as of many"
    return books.mark


WRITES = {
    "its row": "UPDATE testers SET source_line = source_line + 1 WHERE name = 'alice'",
    "its wish": "UPDATE testers SET desired = desired || ' ' WHERE name = 'alice'",
    "how it stands": "UPDATE testers SET progress = 7 WHERE name = 'alice'",
    "an object": "UPDATE objects SET name = 'other' WHERE tester = 'alice'",
    "an object's state": "UPDATE objects SET state = 'retiring' WHERE tester = 'alice'",
    "a condition": "UPDATE conditions SET message = 'other' WHERE tester = 'alice'",
    "a condition that went": "DELETE FROM conditions WHERE tester = 'alice'",
    "what facts speak of": "UPDATE facts SET machine = 'gent/2' WHERE tester = 'alice' AND step = 'sign_in_gate'",
    "facts": "UPDATE facts SET body = replace(body, 'alice_x', 'alice_y') WHERE tester = 'alice'",
    "facts beside their hours": "UPDATE facts SET body = replace(body, '\"it\"', '\"else\"') WHERE tester = 'alice'",
    "an engine that is proven no more": "UPDATE facts SET body = replace(body, '\"voice\"', '\"else\"') WHERE tester = 'alice'",
    "an hour that is none": "UPDATE facts SET body = replace(body, '\"2026-11-20T12:00:00.123456Z\"', 'null') "
    "WHERE tester = 'alice' AND step = 'sign_in_gate'",
    "facts that are none": "UPDATE facts SET body = '[]' WHERE tester = 'alice' AND step = 'sign_in_gate'",
    "facts that went": "DELETE FROM facts WHERE tester = 'alice' AND step = 'sign_in_gate'",
    "a box": "UPDATE sealed SET key_id = 'other' WHERE owner = 'alice'",
    "a void secret": "UPDATE sealed SET void = (1 = 1) WHERE owner = 'alice'",
    "something begun since": "UPDATE journal SET began_at = '2030-01-01 00:00:00' WHERE tester = 'alice'",
    "something under way": "UPDATE journal SET ended_at = NULL WHERE tester = 'alice'",
}


async def test_every_write_is_seen_and_only_of_whom_it_is_about(store: Store) -> None:
    await filled(store)
    others, marks = await mark_of(store, "bob"), {await mark_of(store)}
    for what, sql in WRITES.items():
        assert await ran(store, sql) >= 1, what
        marks.add((await store.rests(NAMES))["alice"].books.digest)
    assert len(marks) == len(WRITES) + 1
    assert await mark_of(store, "bob") == others
    await store.write(ClaimForge("controller", NOON))
    assert await mark_of(store, "bob") != others, "whose all is at Forge concerns everybody"


async def test_hours_of_proofs_and_what_no_pass_reads_are_no_part_of_it(store: Store, open_store: OpenStore) -> None:
    await filled(store)
    before = await mark_of(store)
    later = GATE.model_copy(update={"checked_at": NOON + MINUTE, "checked_path": 2})
    again = ENGINES.model_copy(update={"proven": {"voice": NOON + MINUTE}})
    await store.write(
        FreshenFacts("alice", GATE, later, "gent/1", NOON + MINUTE),
        FreshenFacts("alice", ENGINES, again, "", NOON + MINUTE),
        AddEvent(an_event(of="alice")),
        PutJournal(replace(an_entry(), id="of long ago", tester="alice", began_at=NOON - MINUTE, ended_at=NOON)),
        PutRest("alice", b"another", "[]"),
    )
    assert await mark_of(store) == before
    kept = (await (await open_store()).rests(NAMES))["alice"]
    assert (kept.mark, kept.body, kept.books.digest) == (b"another", "[]", before)
    assert {
        step: type(later).model_validate_json(body) for step, body in kept.books.hours.items() if step == later.step
    } == {later.step: later}
    assert set(kept.books.hours) == {later.step, again.step}


async def test_of_whom_nothing_is_kept_nothing_is_told_and_it_goes_with_the_tester(store: Store) -> None:
    await filled(store)
    await store.write(PutTester(a_tester("carol")), PutRest("nobody", b"mark", "{}"))
    assert set(await store.rests(["alice", "carol", "nobody"])) == {"alice"}
    assert await store.rests([]) == {}
    plain = await store.books("alice")
    assert plain is not None
    assert plain.mark == b""
    await ran(store, "DELETE FROM testers WHERE name = 'alice'")
    assert await store.rests(["alice"]) == {}
