"""curl on a machine: options, several URLs, what goes where."""

from typing import TYPE_CHECKING

import pytest

from examples.simulator.curl_options import UsageError, parse

if TYPE_CHECKING:
    from tests.simulator.conftest import Town, Virtually

NOBODY = "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("line", "stdin", "field", "wanted"),
    [
        ("-fsSL -o x http://a/", b"", "flags", {"fail", "silent", "show_error", "follow"}),
        ("-sox http://a/", b"", "outputs", ["x"]),
        ("-s -o /dev/null -o - http://a/ http://b/", b"", "outputs", ["/dev/null", "-"]),
        ("-H Host:x.test -H A:b:c http://a/", b"", "headers", {"host": "x.test", "a": "b:c"}),
        ("-X DELETE http://a/", b"", "verb", "DELETE"),
        ("http://a/", b"", "verb", "GET"),
        ("-d x http://a/", b"", "verb", "POST"),
        ("-I http://a/", b"", "verb", "HEAD"),
        ("--data-binary @- http://a/", b"a\nb\n", "body", b"a\nb\n"),
        ("-d @- http://a/", b"a\nb\n", "body", b"ab"),
        ("http://a/{x,y}/health", b"", "urls", ["http://a/x/health", "http://a/y/health"]),
        ("-g http://a/{x,y}", b"", "urls", ["http://a/{x,y}"]),
        ("http://[400::1]:9988/", b"", "urls", ["http://[400::1]:9988/"]),
        ("-K -", b'# a comment\nurl = "http://a/"\nheader "X: y"\n', "urls", ["http://a/"]),
        ("-m 3 http://a/", b"", "max_time", 3.0),
        ("--unix-socket /s http://a/", b"", "unix_socket", "/s"),
    ],
)
def test_options(line: str, stdin: bytes, field: str, wanted: object) -> None:
    assert getattr(parse([word.encode() for word in line.split()], stdin), field) == wanted


@pytest.mark.parametrize("line", ["--no-such-thing http://a/", "-y http://a/", "-o"])
def test_unknown_options_are_refused(line: str) -> None:
    with pytest.raises(UsageError):
        parse([word.encode() for word in line.split()], b"")


def test_each_url_takes_the_next_output_and_the_rest_go_to_standard_output(
    town: "Town", virtually: "Virtually"
) -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        url = "http://127.0.0.1:9988/health"
        said = await town.done(machine, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{url}\\n", url, url)
        assert said == f"200 {url}\nok\n200 {url}\n"

    virtually(scenario())


def test_a_failed_connection_is_000_and_the_last_url_decides_the_exit_code(
    town: "Town", virtually: "Virtually"
) -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        shape = ["-s", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{exitcode};"]
        fine = "http://127.0.0.1:9988/health"
        assert await town.done(machine, "curl", *shape, NOBODY, fine) == "000 7;200 0;"
        last = await town.tried(machine, "curl", *shape, fine, NOBODY)
        assert (last.code, last.out) == (7, b"200 0;000 7;")

    virtually(scenario())


def test_fail_says_nothing_but_its_exit_code(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        missing = await town.tried(machine, "curl", "-fsS", "http://127.0.0.1:9988/nothing/")
        assert (missing.code, missing.out) == (22, b"")
        assert b"requested URL returned error" in missing.err
        assert (await town.tried(machine, "curl", "-fs", "http://nowhere.test/")).code == 6

    virtually(scenario())


def test_output_stays_on_the_machine(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        url = "http://127.0.0.1:9988/health"
        assert (await town.tried(machine, "curl", "-s", "-o", "/etc/motd", url)).code == 23
        assert (await town.tried(machine, "curl", "-s", "-o", "../../x", url)).code == 23
        await town.done(machine, "curl", "-s", "-o", "here", url)
        assert machine.files.read("here") == b"ok\n"

    virtually(scenario())
