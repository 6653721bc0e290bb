"""A listing that is the same to the byte is not read again; whatever differs is."""

from __future__ import annotations

import pytest

from reconcilers.backends.unchanged import MOST, Unchanged, unnumbered


def rows(answer: bytes) -> list[str]:
    return answer.decode().split()


def test_the_same_answer_to_the_same_question_gives_the_very_same_values() -> None:
    known = Unchanged()
    first = known.made("vms", b"a b", lambda: rows(b"a b"))
    assert known.made("vms", b"a b", lambda: rows(b"a b")) is first
    assert known.made("vms", b"a c", lambda: rows(b"a c")) == ["a", "c"]
    assert known.made("vms", b"a b", lambda: rows(b"a b")) == first, "as it was before"
    assert known.made("gateways", b"a b", lambda: ["other"]) == ["other"]


def test_what_cannot_be_read_is_read_again() -> None:
    known = Unchanged()

    def broken() -> list[str]:
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        known.made("vms", b"a", broken)
    assert known.made("vms", b"a", lambda: rows(b"a")) == ["a"]


def test_it_has_a_limit() -> None:
    known = Unchanged()
    for number in range(2 * MOST):
        known.made(str(number), b"", list)
    assert len(known._known) <= MOST


ROWS = b"[%s]" % b",".join(b'{"id":"%05d"}' % number for number in range(40))


@pytest.mark.parametrize(
    "reply",
    [
        b'{"jsonrpc":"2.0","id":%%d,"result":%s}' % ROWS,
        b'{"jsonrpc": "2.0", "result": %s, "id": %%d}' % ROWS,
        b'{"id":%d,"result":[]}',
    ],
)
def test_an_answer_is_the_same_whatever_the_number_of_its_call(reply: bytes) -> None:
    assert unnumbered(reply % 7, 7) == unnumbered(reply % 12345, 12345)
    assert unnumbered(reply % 71, 7) == reply % 71, "of another call's the number stays: it is no answer to this one"
