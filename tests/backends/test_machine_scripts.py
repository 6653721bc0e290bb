"""What our scripts do on a machine, in dash and in busybox: look, keys, settings, services, the front door."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.backends.machine import Domain, MachineAddress, MachineQuery, Probe, ProbeAnswer
from reconcilers.backends.machine_alike import _template
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.errors import OutcomeUnknown, Rejected, Transient
from reconcilers.secret import Secret

NASTY = Secret("$(touch x)'\";|&\\n\n`id`\n\n")
PEM = Secret("-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n")
RAW = Secret(b"\xff\xfe not text \x01\n")


async def test_a_bare_machine_answers_what_it_can(home: Any, machines: ShellMachines, address: MachineAddress) -> None:
    query = MachineQuery(
        ("hero_books",), ("hero_books",), (("core", "A"),), ("core",), (Probe("inner", "a.test", "/"),)
    )
    look = await machines.look(address, query)
    assert (look.tools, look.supervisor_up, look.domains) == (frozenset(), False, None)
    assert (look.versions, look.health, look.secrets, look.listed, look.jobs) == ({}, {}, {}, {}, {})
    assert look.probes == {Probe("inner", "a.test", "/"): ProbeAnswer(None, error="it could not be asked")}
    assert look.host_key.startswith("ssh-ed25519 ")


async def test_one_look_answers_everything(furnished: Any, machines: ShellMachines, address: MachineAddress) -> None:
    furnished.touch("services/hero_books", "running")
    furnished.place("hero/bin/hero_books", "#!/bin/sh\necho hero_books v0.3.1\n")
    furnished.place("hero/bin/hero_odd", "#!/bin/sh\necho what is it to you\n")
    furnished.place("hero/bin/hero_ill", "#!/bin/sh\necho hero_ill v1\nexit 3\n")
    furnished.touch(
        "answers",
        "|http://127.0.0.1:9988/hero_books/health|200 \n"
        "a.test|http://127.0.0.1:9989/x%5B1%5D?q=1|302 https://forge.test/login?a=b\n"
        "a.test|http://[400:1::1]:9988/|200 \n",
    )
    domain = {"domain": "a.test", "auth_mode": "oauth", "backend": "http://127.0.0.1:9988", "public_paths": ["/p/"]}
    furnished.touch("door", json.dumps({"jsonrpc": "2.0", "id": 1, "result": [domain]}))
    await machines.write_settings(address, {("core", "A"): Secret("1")}, {("core", "A"): ("hero_books",)}, owned=True)
    furnished.touch("curls")
    probes = (
        Probe("loopback", "a.test", "/x[1]?q=1"),
        Probe("inner", "a.test", "/"),
        Probe("inner", "a.test", "/dead"),
    )
    query = MachineQuery(
        ("hero_books", "hero_odd", "hero_ill", "hero_none"),
        ("hero_books", "hero_dead"),
        (("core", "A"), ("core", "B")),
        ("core", "empty"),
        probes,
    )
    before = len(furnished.scripts)
    look = await machines.look(address, query)
    assert len(furnished.scripts) == before + 1
    assert look.supervisor_up
    assert look.tools == {"curl", "lab", "hero_proc"}
    assert look.services == {"hero_books": "running"}
    assert look.versions == {"hero_books": "v0.3.1", "hero_odd": None, "hero_ill": None}
    assert look.health == {"hero_books": 200, "hero_dead": 0}
    assert look.secrets == {("core", "A"): Secret("1")}
    assert look.listed == {"core": {"A"}, "empty": frozenset()}
    assert look.domains == (Domain("a.test", "oauth", "http://127.0.0.1:9988", ("/p/",)),)
    assert look.stale == {"hero_books"}
    assert look.owned_settings == {("core", "A")}
    assert look.probes == {
        probes[0]: ProbeAnswer(302, "https://forge.test/login?a=b"),
        probes[1]: ProbeAnswer(200),
        probes[2]: ProbeAnswer(None, error="nobody answers there"),
    }
    assert len(furnished.read("curls").split()) == 4  # domains, health, and one for each side


async def test_a_supervisor_that_hangs_or_dies_makes_its_answers_unknown(
    furnished: Any, machines: ShellMachines, address: MachineAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_alike._template", _template.__wrapped__)
    monkeypatch.setattr("reconcilers.backends.machine_look.COMMAND_TIME", 1)
    furnished.touch("hang")
    query = MachineQuery(secrets=(("core", "A"), ("core", "B"), ("core", "C")), contexts=("core",))
    # On a busy machine the list of services may come too late as well, and nothing more is asked.
    while "secret get" not in furnished.read("asked"):
        look = await machines.look(address, query)
    assert (look.supervisor_up, look.secrets, look.listed) == (False, {}, {})
    assert furnished.read("asked").count("secret get") == 1  # not asked again and again
    # One that dies between two questions says "not there" of everything (lesson 29): that must not be believed.
    (furnished.path / "hang").unlink()
    furnished.place(
        "hero/bin/hero_proc",
        '#!/bin/sh\n[ "$1" = service ] && [ ! -e "$HOME/t" ] && { touch "$HOME/t"; echo "[]"; exit; }\nexit 1',
    )
    assert not (await machines.look(address, query)).supervisor_up


async def test_values_come_back_byte_for_byte(furnished: Any, machines: ShellMachines, address: MachineAddress) -> None:
    values = {
        ("core", "NASTY"): NASTY,
        ("core", "PEM"): PEM,
        ("core", "RAW"): RAW,
        ("core", "EMPTY"): Secret(""),
        ("a b", "$(touch x);'\"&|\n"): Secret("odd name"),
        ("core", "ÄÖ"): Secret("ümläut"),
    }
    await machines.write_settings(address, values, {}, owned=True)
    look = await machines.look(address, MachineQuery(secrets=tuple(values)))
    assert look.secrets == values
    assert look.owned_settings == set(values)
    assert not list(furnished.path.rglob("x"))


async def test_a_value_that_reads_back_as_another_is_named(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.touch("mangle")
    with pytest.raises(Transient) as caught:
        await machines.write_settings(address, {("core", "KEY"): PEM}, {("core", "KEY"): ("hero_proxy",)}, owned=False)
    assert caught.value.reason == "ReadBackMismatch"
    assert "core/KEY" in str(caught.value)
    look = await machines.look(address, MachineQuery())
    assert (look.stale, look.owned_settings) == ({"hero_proxy"}, frozenset())


async def test_a_refused_write_says_why_and_hides_the_value(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.touch("refuse")
    with pytest.raises(Transient) as caught:
        await machines.write_settings(address, {("core", "A"): Secret("1"), ("core", "KEY"): PEM}, {}, owned=False)
    assert "core/A" in str(caught.value)
    with pytest.raises(Transient) as caught:
        await machines.write_settings(address, {("core", "KEY"): PEM}, {}, owned=False)
    assert "cannot store (secret) there" in str(caught.value)
    assert "abc" not in repr(caught.value) + str(caught.value.__context__)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (("core", "A"), Secret(b"a\0b")),
        (("core", "A"), Secret(b"x" * 200_000)),
        (("core", "--help"), Secret("x")),
        (("", "A"), Secret("x")),
        (("core", "A" * 300), Secret("x")),
    ],
)
async def test_what_no_command_can_carry_is_refused_before_anything_is_sent(
    home: Any, machines: ShellMachines, address: MachineAddress, setting: tuple[str, str], value: Secret
) -> None:
    with pytest.raises(Rejected):
        await machines.write_settings(address, {setting: value}, {}, owned=False)
    assert home.scripts == []


async def test_deleting_marks_the_readers_and_gives_up_ownership(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    key, readers = ("core", "A"), {("core", "A"): ("hero_books",)}
    await machines.write_settings(address, {key: Secret("1")}, {}, owned=True)
    for _ in range(2):
        await machines.delete_settings(address, [key], readers)
        look = await machines.look(address, MachineQuery(secrets=(key,)))
        assert (look.secrets, look.owned_settings, look.stale) == ({}, frozenset(), {"hero_books"})


async def test_a_stale_mark_outlives_a_restart_only_if_it_is_newer(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.touch("services/hero_books", "running")
    write = {("core", "A"): Secret("1")}, {("core", "A"): ("hero_books",)}
    await machines.write_settings(address, *write, owned=False)
    mark = next((furnished.path / ".tester-controller/stale").iterdir())
    furnished.place(
        "hero/bin/hero_proc",
        f'#!/bin/sh\n[ "$2" != restart ] || echo newer >"$HOME/.tester-controller/stale/{mark.name}"\necho "[]"\n',
    )
    await machines.restart_service(address, "hero_books")
    assert (await machines.look(address, MachineQuery())).stale == {"hero_books"}
    furnished.furnish()
    await machines.restart_service(address, "hero_books")
    assert (await machines.look(address, MachineQuery())).stale == frozenset()


async def test_a_failing_restart_keeps_the_mark_and_says_what_was_printed(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.touch("services/hero_books", "running")
    furnished.touch("fail.hero_books")
    await machines.write_settings(address, {("c", "A"): Secret("1")}, {("c", "A"): ("hero_books",)}, owned=False)
    with pytest.raises(Transient, match="cannot hero_books") as caught:
        await machines.restart_service(address, "hero_books")
    assert caught.value.reason == "CommandFailed"
    assert (await machines.look(address, MachineQuery())).stale == {"hero_books"}


async def test_a_restart_that_prints_its_environment_gives_nothing_away(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    """Neither what we know to lie there, however it is cut, nor a key of the tester's own."""
    furnished.touch("services/hero_books", "running")
    printed = (
        "URL=http://a/?k=gto_0123456789abcdef\nGROQ_API_KEY=gsk_own 1\n" + "x" * 560 + " gto_0123456789abcdef and out\n"
    )
    furnished.touch("fail.hero_books", printed)
    address = replace(address, hidden=(Secret("gto_0123456789abcdef"),))
    with pytest.raises(Transient) as caught:
        await machines.restart_service(address, "hero_books")
    assert "x (secret) and out" in str(caught.value)
    furnished.touch("fail.hero_books", printed.replace("x", ""))
    with pytest.raises(Transient) as whole:
        await machines.restart_service(address, "hero_books")
    assert "URL=http://a/?k=(secret) GROQ_API_KEY=(secret) 1" in str(whole.value)
    assert "gto_" not in str(whole.value) + str(caught.value)
    assert "89abcdef" not in str(caught.value)


async def test_starting_a_service_whose_settings_changed_restarts_it(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.touch("services/hero_books", "running")
    await machines.start_service(address, "hero_books")
    assert furnished.read("calls").splitlines() == ["lab service hero_books start"]
    await machines.write_settings(address, {("c", "A"): Secret("1")}, {("c", "A"): ("hero_books",)}, owned=False)
    await machines.start_service(address, "hero_books")
    assert furnished.read("calls").splitlines()[1:] == ["restart hero_books"]
    await machines.stop_service(address, "hero_books")
    look = await machines.look(address, MachineQuery())
    assert (look.stale, look.services) == (frozenset(), {"hero_books": "stopped"})


async def test_authorized_keys_are_replaced_whole(home: Any, machines: ShellMachines, address: MachineAddress) -> None:
    keys = ("ssh-ed25519 AAAA admin's $(touch x)", "ssh-ed25519 BBBB installer")
    for _ in range(2):
        await machines.set_authorized_keys(address, keys)
    assert (home.path / ".ssh/authorized_keys").read_text() == "".join(f"{each}\n" for each in keys)
    assert (home.mode(".ssh"), home.mode(".ssh/authorized_keys"), home.mode(".tester-controller")) == (
        0o700,
        0o600,
        0o700,
    )
    assert (await machines.look(address, MachineQuery())).authorized_keys == keys
    home.touch(".ssh/authorized_keys", "# by hand\n\n  ssh-rsa CCCC x  \nssh-ed25519 BBBB installer")
    assert (await machines.look(address, MachineQuery())).authorized_keys == ("ssh-rsa CCCC x", keys[1])
    for bad in ((), ("",), ("a\nb",)):
        with pytest.raises(Rejected):
            await machines.set_authorized_keys(address, bad)


async def test_domains_go_to_the_front_door(furnished: Any, machines: ShellMachines, address: MachineAddress) -> None:
    domain = Domain("a.test", "oauth", "http://127.0.0.1:9988", ("/it's/",))
    furnished.touch("door", '{"jsonrpc":"2.0","id":1,"result":{}}')
    await machines.set_domain(address, domain)
    said = json.loads(furnished.read("rpc"))
    assert (said["method"], said["params"]["public_paths"]) == ("domain.add", ["/it's/"])
    assert said["params"] | {"public_paths": ()} == {
        "domain": "a.test",
        "auth_mode": "oauth",
        "backend": "http://127.0.0.1:9988",
        "public_paths": (),
    }
    await machines.remove_domain(address, "a.test")
    assert json.loads(furnished.read("rpc"))["params"] == {"domain": "a.test"}


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        (7, Transient),  # nobody listens
        (28, OutcomeUnknown),  # what curl says when time is up
        (52, OutcomeUnknown),
        ('{"id":1,"error":{"code":-32602,"message":"bad mode"}}', Rejected),
        ('{"id":1,"error":{"code":-1,"message":"busy"}}', Transient),
        ('{"id":1,', OutcomeUnknown),
    ],
)
async def test_what_the_front_door_says_is_heard(
    furnished: Any, machines: ShellMachines, address: MachineAddress, door: str | int, kind: type[Exception]
) -> None:
    furnished.touch("silent" if isinstance(door, int) else "door", str(door))
    with pytest.raises(kind) as caught:
        await machines.remove_domain(address, "a.test")
    assert type(caught.value) is kind


async def test_two_writers_at_once_leave_whole_values(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    key = ("core", "A")
    values = [Secret(f"value {number}\n" * 50) for number in range(4)]
    await asyncio.gather(*(machines.write_settings(address, {key: each}, {}, owned=True) for each in values))
    look = await machines.look(address, MachineQuery(secrets=(key,)))
    assert look.secrets[key] in values


async def test_a_script_that_arrives_in_part_does_nothing(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    await machines.write_settings(address, {("core", "A"): Secret("1")}, {}, owned=True)
    script = furnished.scripts[-1]
    before = sorted(furnished.path.rglob("*"))
    asked = furnished.read("asked")
    for cut in range(10, len(script) - 20, 97):
        await furnished.run(address, script[:cut], name="cut", writing=True)
    assert sorted(furnished.path.rglob("*")) == before
    assert furnished.read("asked") == asked


async def test_an_answer_that_stops_half_way_is_no_answer(
    furnished: Any, machines: ShellMachines, address: MachineAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = furnished.run

    async def half(*args: Any, **kwargs: Any) -> Any:
        ran = await whole(*args, **kwargs)
        return type(ran)(124, ran.out[: len(ran.out) // 2], ran.err, ran.host_key)

    monkeypatch.setattr(furnished, "run", half)
    with pytest.raises(Transient, match="took too long"):
        await machines.look(address, MachineQuery())
    with pytest.raises(OutcomeUnknown):
        await machines.stop_service(address, "hero_books")


async def test_removing_a_component_stops_it_first(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    furnished.place("hero/bin/hero_books", "#!/bin/sh\n")
    for _ in range(2):
        await machines.remove_component(address, "hero_books", ("hero_books", "hero_books_ui"))
    assert furnished.read("calls").splitlines() == [
        "lab service hero_books stop",
        "lab service hero_books_ui stop",
        "lab uninstall hero_books",
    ]
    assert not (furnished.path / "hero/bin/hero_books").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "a\n"])
async def test_a_name_that_is_a_path_or_an_option_is_refused(
    home: Any, machines: ShellMachines, address: MachineAddress, name: str
) -> None:
    with pytest.raises(Rejected):
        await machines.start_service(address, name)
    with pytest.raises(Rejected):
        await machines.start_install(address, name, None, ())
    assert home.scripts == []


@pytest.mark.parametrize("held", [None, Secret(b""), NASTY, PEM, RAW], ids=["nothing", "empty", "nasty", "pem", "raw"])
async def test_a_shared_setting_is_swapped_only_for_what_was_seen(
    held: Secret | None, furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    place = ("embedder", "TENANT_TOKENS")
    if held is not None:
        await machines.write_settings(address, {place: held}, {}, owned=False)
    for other in (
        None,
        Secret(b"x"),
        Secret((held or NASTY).reveal() + b"\n"),
        Secret((held or NASTY).reveal()[:-1] + b"y"),
    ):
        if other != held:
            assert not await machines.swap_setting(address, place, other, Secret("new"), ("hero_embedder",))
    look = await machines.look(address, MachineQuery(secrets=(place,)))
    assert (look.secrets.get(place), look.stale) == (held, frozenset())

    assert await machines.swap_setting(address, place, held, NASTY, ("hero_embedder",))
    look = await machines.look(address, MachineQuery(secrets=(place,)))
    assert (look.secrets[place], look.stale) == (NASTY, {"hero_embedder"})
    assert look.owned_settings == frozenset(), "it is not ours alone"


async def test_a_swap_that_fails_shows_neither_value(
    furnished: Any, machines: ShellMachines, address: MachineAddress
) -> None:
    place, old = ("embedder", "TENANT_TOKENS"), Secret('{"workshop":"their-own-token"}')
    await machines.write_settings(address, {place: old}, {}, owned=False)
    furnished.touch("mangle")
    with pytest.raises(Transient) as caught:
        await machines.swap_setting(address, place, old, Secret('{"a":"b"}'), ())
    assert caught.value.reason == "ReadBackMismatch"
    (furnished.path / "mangle").unlink()
    furnished.touch("refuse")
    with pytest.raises(Transient) as caught:
        await machines.swap_setting(address, place, Secret("mangled"), old, ())
    assert caught.value.reason == "CommandFailed"
    assert "their-own-token" not in str(caught.value)
    with pytest.raises(Rejected):
        await machines.swap_setting(address, place, None, Secret(b"a\0b"), ())
