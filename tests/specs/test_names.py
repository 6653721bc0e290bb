"""Derived names are safe everywhere and never the same for two different things."""

import re
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.names import bearer_of, gateway_name, is_borne_by, new_uid, oauth_app_name, tenant_name, vm_name

Derive = Callable[[str, str, int, int], str]
DERIVATIONS: dict[Derive, str] = {
    vm_name: r"[a-zA-Z0-9_]{1,36}",
    gateway_name: r"[a-z0-9]{3,36}",
    tenant_name: r"[a-z0-9]{3,36}",
    oauth_app_name: r"[A-Za-z0-9 -]{1,255}",
}
pieces = st.sampled_from(["a", "ab", "b1", "alice", "d" * 18, "d" * 19])
names = st.builds("-".join, st.lists(pieces, min_size=1, max_size=4)).filter(lambda name: 2 <= len(name) <= 40)
uids = st.integers(0, 2**32).map(lambda seed: new_uid(Random(seed)))
inputs = st.tuples(names, uids, st.integers(1, 10_000), st.integers(1, 10_000))


def test_the_first_ones_read_nicely() -> None:
    assert gateway_name("alice", "x7k2p9") == "alicex7k2p9"
    assert tenant_name("alice", "x7k2p9") == "alicex7k2p9"
    assert vm_name("alice", "x7k2p9") == "alice_x7k2p9_1_1"
    assert oauth_app_name("alice", "x7k2p9") == "Hero OS alice x7k2p9-1-1"


@pytest.mark.parametrize("derive", DERIVATIONS)
@given(one=inputs)
def test_safe_and_always_the_same(derive: Derive, one: tuple[str, str, int, int]) -> None:
    assert re.fullmatch(DERIVATIONS[derive], derive(*one))
    assert derive(*one) == derive(*one)


@pytest.mark.parametrize("derive", DERIVATIONS)
@given(some=st.lists(inputs, min_size=2, max_size=12, unique=True))
def test_different_things_have_different_names(derive: Derive, some: list[tuple[str, str, int, int]]) -> None:
    assert len({derive(*one) for one in some}) == len(some)


@pytest.mark.parametrize("derive", DERIVATIONS)
def test_near_misses_differ(derive: Derive) -> None:
    """The same uid, names that are alike once cut or stripped, and every next attempt and incarnation."""
    alike = ["ab", "a-b", "d" * 40, "d" * 39, "d" * 20 + "-" + "d" * 19, "d" * 19 + "-" + "d" * 20, "d" * 30, "d" * 31]
    made = [derive(name, "x7k2p9", i, a) for name in alike for i in (1, 2, 11, 111) for a in (1, 2, 11, 111)]
    assert len(set(made)) == len(made)


@given(st.integers())
def test_uids_are_six_letters_and_digits(seed: int) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]{5}", new_uid(Random(seed)))


@pytest.mark.parametrize(
    ("uid", "incarnation", "attempt"),
    [("x7k2p", 1, 1), ("17k2p9", 1, 1), ("X7k2p9", 1, 1), ("x7k2p9", 0, 1), ("x7k2p9", 1, 0)],
)
def test_what_is_no_uid_or_count_is_refused(uid: str, incarnation: int, attempt: int) -> None:
    for derive in DERIVATIONS:
        with pytest.raises(ValueError, match=r"uid|count"):
            derive("alice", uid, incarnation, attempt)


@given(one=inputs)
def test_a_machine_s_and_an_app_s_name_tell_whose_they_are(one: tuple[str, str, int, int]) -> None:
    name, uid, *_ = one
    for derived in (vm_name(*one), oauth_app_name(*one)):
        bearer = bearer_of(derived)
        assert bearer is not None
        told, whose = bearer
        assert whose == uid
        assert name.replace("-", "").startswith(told.replace("-", ""))
        for joined in (gateway_name(*one), tenant_name(*one)):
            assert is_borne_by(joined, told, whose), "also to who knows only what the machine's name tells"
            assert is_borne_by(joined, name, uid)


@given(one=inputs, other=inputs)
def test_a_gateway_s_name_is_not_somebody_else_s(
    one: tuple[str, str, int, int], other: tuple[str, str, int, int]
) -> None:
    assert is_borne_by(gateway_name(*one), *other[:2]) == (one[1] == other[1] and _alike(one[0], other[0]))


def _alike(one: str, other: str) -> bool:
    return one.replace("-", "").startswith(other.replace("-", "")[:18])


STRANGERS = (
    "",
    "alice",
    "alice_1_1",
    "admin_machine_1_1",
    "Alice_x7k2p9_1_1",
    "alice_x7k2p9_0_1",
    "alice_x7k2p9_1_1_1",
)


@pytest.mark.parametrize(
    "name", [*STRANGERS, "Hero OS", "Hero OS alice x7k2p9", "my Hero OS alice x7k2p9-1-1", "alicex7k2p9"]
)
def test_what_others_call_their_things_tells_nobody(name: str) -> None:
    assert bearer_of(name) is None
