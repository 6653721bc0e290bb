"""Who goes first at a gate, and the places for which one waits there."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType

IN_A_ROW = 3  # who go before somebody that has waited longer; then it is that one's turn, so that nobody waits for ever


class Haste:
    """Of calls that are made for somebody: whether they go before all others that wait. This may come while they wait already."""

    __slots__ = ("_also", "first")

    def __init__(self, first: bool = False) -> None:
        self.first = first
        self._also: list[Haste] = []

    def comes(self) -> None:
        if not self.first:
            self.first = True
            for other in self._also:
                other.comes()

    def spreads_to(self, other: Haste) -> None:
        """To what is done for several, now or when it comes."""
        if self.first:
            other.comes()
        else:
            self._also.append(other)


HASTE: ContextVar[Haste] = ContextVar("haste")
"""That of this task and all that it starts."""


def haste() -> Haste:
    return HASTE.get(None) or Haste()


class Places(AbstractAsyncContextManager[None]):
    """So many may be in at once. Of the others the first to come is the next one, and who is in haste before all of them."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: dict[asyncio.Future[None], Haste] = {}  # nobody, as long as a place is free
        self._in_a_row = 0

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = haste()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._let_in()  # somebody else: it had just been given to us
            raise
        finally:
            self._waiting.pop(turn, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_in()

    def _let_in(self) -> None:
        """The next one, in place of who has left."""
        turns = [turn for turn in self._waiting if not turn.done()]
        if not turns:
            self._free += 1
            return
        turn = next((each for each in turns if self._waiting[each].first), turns[0])
        if turn is not turns[0]:
            self._in_a_row += 1
            if self._in_a_row > IN_A_ROW:
                turn = turns[0]
        if turn is turns[0]:
            self._in_a_row = 0
        turn.set_result(None)
