"""Bearer tokens in the books: kept as hashes, replaced, revoked; a use is noted for the token that was used. Ended sessions."""

from __future__ import annotations

from dataclasses import replace

from controller.store import Store
from controller.tokens import DropToken, EndSession, NoteTokenUse, PutToken, TokenRecord
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import MINUTE, NOON

TOKEN = TokenRecord("prometheus", "ab" * 32, NOON, NOON + 90 * MINUTE)


async def test_tokens_are_kept_by_name_until_they_are_revoked(store: Store) -> None:
    other = replace(TOKEN, name="backup", hash="cd" * 32)
    await store.write(PutToken(TOKEN), PutToken(other))
    assert await store.tokens() == (other, TOKEN)
    await store.write(DropToken("prometheus"), DropToken("nobody"))
    assert await store.tokens() == (other,)


async def test_a_use_is_noted_for_the_token_that_was_used(store: Store) -> None:
    await store.write(PutToken(TOKEN), NoteTokenUse("prometheus", TOKEN.hash, NOON + MINUTE))
    assert await store.tokens() == (replace(TOKEN, last_used_at=NOON + MINUTE),)
    again = replace(TOKEN, hash="ef" * 32)  # revoked, and made anew under its name
    await store.write(PutToken(again), NoteTokenUse("prometheus", TOKEN.hash, NOON + 2 * MINUTE))
    assert await store.tokens() == (again,)
    await store.write(DropToken("prometheus"), NoteTokenUse("prometheus", again.hash, NOON + 3 * MINUTE))
    assert await store.tokens() == ()


async def test_an_ended_session_is_known_to_everybody_until_history_of_its_time_is_forgotten(
    store: Store, open_store: OpenStore
) -> None:
    end = EndSession("ab" * 32, NOON + MINUTE)
    await store.write(end, EndSession("cd" * 32, NOON + 2 * MINUTE))
    await store.write(end)
    other = await open_store()
    assert await other.has_ended("ab" * 32)
    assert not await other.has_ended("ef" * 32)
    assert await other.prune(NOON + MINUTE) == 0
    assert await other.prune(NOON + 2 * MINUTE) == 1
    assert not await store.has_ended("ab" * 32)
    assert await store.has_ended("cd" * 32)
