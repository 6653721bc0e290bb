"""The script of a look is made once for all who ask alike; and two answers that prove the same have one digest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconcilers.backends.machine import MachineQuery, question_of
from reconcilers.backends.machine_alike import answer_digest, script_of
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_look import look_script
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.probes import Probe

DIALECT = MachineDialect()
NONCE = "@00112233"


def query(*hosts: str) -> MachineQuery:
    probes = tuple(
        Probe(side, host, path) for side in ("loopback", "inner") for host in hosts for path in ("/", "/api?x=1")
    )
    return MachineQuery(
        ("hero_books",), ("hero_books",), (("core", "KEY"),), probes=(*probes, Probe("router", "127.0.0.1", "/x"))
    )


HOSTS = {
    "one": ("alice.gent.test",),
    "before and after the others by name": ("zoe.gent.test", "another-host.invalid"),
    "digits and signs": ("0-a.test", "h1-b8e4c6a2.invalid"),
    "what a shell would read": ("a'b; rm -rf /", "x$(y)"),
    "many": tuple(f"h{number}.test" for number in range(12)),
    "none": (),
}


@pytest.mark.parametrize("hosts", HOSTS)
@pytest.mark.parametrize("address", ["400::1", "127.0.0.1"])
def test_it_is_the_very_script_that_is_made_for_one_alone(hosts: str, address: str) -> None:
    asked = query(*HOSTS[hosts])
    assert script_of(DIALECT, address, question_of(asked), NONCE) == look_script(DIALECT, address, asked, NONCE)
    assert question_of(asked).query == asked


def test_those_who_ask_alike_have_one_shape() -> None:
    one = question_of(query("alice.gent.test", "another-host.invalid"))
    other = question_of(query("alan.gent.test", "another-host.invalid"))
    assert one.shape is other.shape
    assert one.shape is not question_of(query("alice.gent.test")).shape


def test_equal_questions_are_equal_and_others_are_not() -> None:
    asked = [question_of(query(*HOSTS[each])) for each in HOSTS]
    asked += [question_of(query("alan.gent.test")), question_of(replace(query("alan.gent.test"), logs=("x",)))]
    assert len(set(asked)) == len(asked)
    assert asked == [question_of(each.query) for each in asked]


def answer(location: str, nonce: str = NONCE, rc: int = 0, host_key: str = "ssh-ed25519 A", end: str = "end") -> bytes:
    out = f"\n{nonce} keys\nssh-ed25519 X\n{nonce} probes 0\n302 {location}\n\n{nonce} {end}\n"
    return answer_digest(Ran(rc, out.encode(), b"", host_key), nonce)


SIGN_IN = "https://forge.test/login/oauth/authorize?client_id=1&state=abc&scope=openid"


def test_what_is_drawn_anew_for_each_stranger_does_not_count() -> None:
    one = answer(SIGN_IN)
    assert one == answer(SIGN_IN.replace("abc", "xyz"), "@another")
    more = SIGN_IN.replace("&state=abc", "&code_challenge=abc&nonce=abc&state=nonce=1")
    assert answer(more) == answer(more.replace("abc", "xyz").replace("state=nonce=1", "state=2"))
    differing = [
        answer(SIGN_IN.replace("client_id=1", "client_id=2")),
        answer(SIGN_IN.replace("forge.test", "elsewhere.test")),
        answer(SIGN_IN.replace("&state=abc", "")),
        answer(SIGN_IN.replace("&state=abc", "&state=")),
        answer(SIGN_IN.replace("&state=abc", "&state=abc&more=1")),
        answer(SIGN_IN.replace("&state=abc", "&estate=abc")),
        answer(SIGN_IN.replace("&state=abc", "&estate=xyz")),
        answer(SIGN_IN, host_key="ssh-ed25519 B"),
    ]
    assert one not in differing
    assert len(set(differing)) == len(differing)


def test_an_answer_that_is_not_whole_has_none() -> None:
    assert answer(SIGN_IN, end="en") == answer(SIGN_IN, rc=124) == b""
