"""A machine's programs: what a bare image lacks, byte-exact secrets, services that start late, lie or refuse."""

import json
from typing import TYPE_CHECKING

import pytest

from examples.simulator.records import Fault

if TYPE_CHECKING:
    from tests.simulator.conftest import Town, Virtually

LAB = "http://forge.test/lhumina_code/lab/releases/download/latest/lab-linux-x86_64"
NASTY = b"$(touch x)'\";|&\\n\n-----BEGIN KEY-----\nabc\xff\x00\n-----END KEY-----\n"


def test_a_bare_image_has_nothing_but_apt(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        assert (await town.tried(machine, "dpkg-query", "-W", "curl")).code == 1
        refused = await town.tried(machine, "apt-get", "install", "-y", "curl")
        assert b"Unable to locate package curl" in refused.err
        began = town.world.clock.now()
        await town.done(machine, "apt-get", "update")
        await town.done(machine, "apt-get", "install", "-y", "--no-install-recommends", "curl", "ca-certificates")
        assert town.world.clock.now() - began == pytest.approx(40)
        assert "install ok installed" in await town.done(machine, "dpkg-query", "-W", "-f=${Status}\\n", "curl")
        began = town.world.clock.now()
        await town.done(machine, "apt-get", "install", "-y", "curl")
        assert town.world.clock.now() == began

    virtually(scenario())


def test_lab_comes_with_curl_and_brings_the_rest(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        await town.done(machine, "curl", "-fsSL", "-o", f"{machine.files.home}/hero/bin/lab", LAB)
        assert (machine.files.read("hero/bin/lab") or b"").startswith(b"#!/bin/sh")
        assert (await town.tried(machine, "hero_books", "--version")).code == 127
        began = town.world.clock.now()
        await town.done(machine, "lab", "build", "hero_books", "--download", "--install")
        assert 10 <= town.world.clock.now() - began <= 40
        assert await town.done(machine, "hero_books", "--version") == "hero_books v0.3.1\n"
        await town.done(machine, "lab", "build", "hero_books", "--download", "--install", "--version", "v0.3.0")
        assert await town.done(machine, "hero_books", "--version") == "hero_books v0.3.0\n"
        assert (
            await town.tried(machine, "lab", "build", "hero_books", "--download", "--install", "--version", "v9")
        ).code == 1
        assert (await town.tried(machine, "lab", "build", "hero_boks", "--download", "--install")).code == 2
        await town.done(machine, "lab", "uninstall", "hero_books")
        assert machine.files.read("hero/bin/hero_books") is None

    virtually(scenario())


def test_nothing_works_before_the_supervisor_runs(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        await town.done(machine, "lab", "build", "hero_proc", "--download", "--install")
        for words in (["service", "list", "--json"], ["secret", "list", "--context", "core"]):
            refused = await town.tried(machine, "hero_proc", *words)
            assert (refused.code, refused.out) == (1, b"")
            assert b"supervisor not running" in refused.err
        await town.done(machine, "lab", "service", "hero_proc", "start")
        assert json.loads(await town.done(machine, "hero_proc", "service", "list", "--json"))[0]["state"] == "running"

    virtually(scenario())


@pytest.mark.parametrize("value", [NASTY, b"", b"--quiet", b"--context", b"plain", b"two\n\n"])
def test_secrets_are_kept_byte_for_byte(town: "Town", virtually: "Virtually", value: bytes) -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        key = [b"--context", b"core", b"KEY"]
        assert (await machine.run([b"hero_proc", b"secret", b"set", b"--quiet", *key, value])).code == 0
        got = await machine.run([b"hero_proc", b"secret", b"get", *key])
        assert (got.code, got.out) == (0, value)
        assert await town.done(machine, "hero_proc", "secret", "list", "--context", "core") == "KEY\n"
        for _ in range(2):
            await town.done(machine, "hero_proc", "secret", "delete", "--context", "core", "KEY")
        gone = await machine.run([b"hero_proc", b"secret", b"get", *key])
        assert (gone.code, gone.out) == (1, b"")
        assert await town.done(machine, "hero_proc", "secret", "list", "--context", "core") == ""

    virtually(scenario())


def test_no_secret_value_is_in_the_log_or_the_books(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        await town.done(machine, "hero_proc", "secret", "set", "--quiet", "--context", "core", "KEY", "hush-hush")
        assert any("secret set" in entry.what for entry in town.world.log.writes())
        assert not any("hush-hush" in entry.what for entry in town.world.log)
        assert "hush-hush" not in json.dumps(town.world.books())

    virtually(scenario())


def test_a_cold_start_takes_a_while_to_be_healthy(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        await town.done(machine, "lab", "build", "hero_books", "--download", "--install")
        await town.done(machine, "lab", "service", "hero_books", "start")
        codes = []
        for _ in range(8):
            url = "http://127.0.0.1:9988/hero_books/health"
            codes.append(await town.done(machine, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url))
            await town.world.clock.sleep(1)
        assert codes[0] == "502"
        assert codes[-1] == "200"
        assert codes == sorted(codes, reverse=True)

    virtually(scenario())


def test_the_supervisor_lies(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        town.world.drift.kill_service("alice_1", "hero_cockpit")
        listed = json.loads(await town.done(machine, "hero_proc", "service", "list", "--json"))
        assert {row["name"]: row["state"] for row in listed}["hero_cockpit"] == "running"
        assert not machine.healthy("hero_cockpit")
        town.world.drift.misreport_service("alice_1", "hero_router", "failed")
        assert machine.healthy("hero_router")
        await town.done(machine, "hero_proc", "service", "restart", "hero_cockpit")
        await town.world.clock.sleep(10)
        assert machine.healthy("hero_cockpit")
        town.world.faults.add(
            Fault(system="machine", method="service start", kind="supervisor_lies", target="hero_cockpit")
        )
        await town.done(machine, "hero_proc", "service", "restart", "hero_cockpit")
        await town.world.clock.sleep(10)
        assert machine.state.services["hero_cockpit"].state == "running"
        assert not machine.healthy("hero_cockpit")

    virtually(scenario())


def test_the_broker_refuses_without_a_key(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        await town.done(machine, "lab", "build", "hero_aibroker", "--download", "--install")
        refused = await town.tried(machine, "lab", "service", "hero_aibroker", "start")
        assert refused.code == 1
        assert machine.state.services["hero_aibroker"].state == "failed"
        await town.done(machine, "hero_proc", "secret", "set", "--quiet", "--context", "cockpit", "GROQ_API_KEY", "k")
        await town.done(machine, "lab", "service", "hero_aibroker", "start")

    virtually(scenario())


def test_stopping_the_supervisor_stops_everything(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        assert machine.alive("hero_router")
        await town.done(machine, "lab", "service", "hero_proc", "stop")
        assert not machine.alive("hero_router")
        url = "http://127.0.0.1:9988/hero_cockpit/health"
        asked = await town.tried(machine, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
        assert (asked.code, asked.out) == (7, b"000")

    virtually(scenario())


def test_an_install_may_fail_once(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        town.world.faults.add(Fault(system="machine", method="lab build", kind="install_fails", target="hero_db"))
        build = ["lab", "build", "hero_db", "--download", "--install"]
        assert (await town.tried(machine, *build)).code == 1
        assert "hero_db" not in machine.state.components
        await town.done(machine, *build)
        assert "hero_db" in machine.state.components

    virtually(scenario())


def test_a_new_release_is_what_lab_pulls_next(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        town.world.drift.publish("hero_cockpit", "v0.4.0")
        await town.done(machine, "lab", "build", "hero_cockpit", "--download", "--install")
        assert await town.done(machine, "hero_cockpit", "--version") == "hero_cockpit v0.4.0\n"
        assert machine.state.components["hero_cockpit"].running == "v0.3.1"

    virtually(scenario())


def test_lesson_33_a_version_that_was_published_broken(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        build = ["lab", "build", "hero_books", "--download", "--install"]
        await town.done(machine, *build)
        await town.done(machine, "lab", "service", "hero_books", "start")
        town.world.drift.publish_broken("hero_books", "v0.4.0", "install")
        assert b"damaged" in (await town.tried(machine, *build)).err
        assert await town.done(machine, "hero_books", "--version") == "hero_books v0.3.1\n"
        town.world.drift.publish_broken("hero_books", "v0.4.1")
        await town.done(machine, *build)
        assert machine.alive("hero_books")
        assert (await town.tried(machine, "hero_proc", "service", "restart", "hero_books")).code == 1
        rows = json.loads(await town.done(machine, "hero_proc", "service", "list", "--json"))
        assert {row["name"]: row["state"] for row in rows}["hero_books"] == "failed"
        await town.done(machine, *build, "--version", "v0.3.1")
        await town.done(machine, "hero_proc", "service", "restart", "hero_books")
        town.world.drift.publish("hero_books", "v0.4.2")
        await town.done(machine, *build)
        await town.done(machine, "hero_proc", "service", "restart", "hero_books")
        assert await town.done(machine, "hero_books", "--version") == "hero_books v0.4.2\n"

    virtually(scenario())


def test_lesson_34_only_its_health_check_answers(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        town.world.drift.install("alice_1", "hero_books")
        town.world.drift.set_secret("alice_1", "cockpit", "BOOKS_LIBRARIES", "hero, geomind")
        await town.world.clock.sleep(10)
        listing = ["curl", "-sf", "http://127.0.0.1:9988/hero_books/api/libraries"]
        assert json.loads(await town.done(machine, *listing)) == {"libraries": ["hero", "geomind"]}
        town.world.drift.break_service("alice_1", "hero_books")
        assert (await town.tried(machine, *listing)).code == 22
        await town.done(machine, "curl", "-sf", "http://127.0.0.1:9988/hero_books/health")
        town.world.drift.break_service("alice_1", "hero_books", works=True)
        await town.done(machine, *listing)

    virtually(scenario())


def test_lesson_27_a_service_knows_what_was_there_when_it_started(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        unread = town.world.drift.unread_settings
        write = ["hero_proc", "secret", "set", "--quiet", "--context", "cockpit", "K"]
        await town.done(machine, *write, "one")
        assert unread("alice_1", "hero_cockpit") == ["cockpit/K"]
        await town.done(machine, "hero_proc", "service", "restart", "hero_cockpit")
        await town.done(machine, *write, "one")
        assert unread("alice_1", "hero_cockpit") == []
        await town.done(machine, "hero_proc", "secret", "delete", "--context", "cockpit", "K")
        assert unread("alice_1", "hero_cockpit") == ["cockpit/K"]

    virtually(scenario())


def test_lessons_6_21_and_32_as_faults(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        for method, kind, target in (
            ("secret set", "secret_trimmed", "KEY"),
            ("service start", "slow_start", "hero_cockpit"),
            ("version", "version_unknown", "hero_cockpit"),
        ):
            town.world.faults.add(Fault(system="machine", method=method, kind=kind, target=target))
        write = ["hero_proc", "secret", "set", "--quiet", "--context", "core", "KEY", "key\n"]
        seen = []
        for _ in range(2):
            await town.done(machine, *write)
            seen.append(machine.state.secrets["core"]["KEY"])
        assert seen == [b"key", b"key\n"]
        await town.done(machine, "hero_proc", "service", "restart", "hero_cockpit")
        await town.world.clock.sleep(60)
        assert not machine.healthy("hero_cockpit")
        await town.world.clock.sleep(60)
        assert machine.healthy("hero_cockpit")
        said = [await town.done(machine, "hero_cockpit", "--version") for _ in range(2)]
        assert said == ["hero_cockpit (development build)\n", "hero_cockpit v0.3.1\n"]

    virtually(scenario())
