"""The small words: SSH keys, references to secrets, addresses, and what YAML may take a word for."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from specs.errors import dotted
from specs.forge_rules import RESERVED, forge_name
from specs.mail import TemplateLine, TemplateText
from specs.references import SecretRef
from specs.secrecy import looks_secret, shown
from specs.ssh_keys import key_identity, parse_host_key, parse_ssh_key
from specs.text import DaemonUrl, Email, Host, ProxyUrl, PublicPath, TesterName, Url
from specs.yaml_words import Plain, meaning

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMCYJWIBAZJ2xDR4Ap4o1MNV/+IHNBnWsyXMaApUwOeS"


def rsa_key(bits: int) -> str:
    fields = [b"ssh-rsa", b"\x01\x00\x01", (1 << (bits - 1)).to_bytes(bits // 8 + 1)]
    blob = b"".join(struct.pack(">I", len(each)) + each for each in fields)
    return f"ssh-rsa {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize(
    ("written", "kept"),
    [(KEY, KEY), (f"  {KEY}  bob at home \n", f"{KEY} bob at home"), (rsa_key(2048), rsa_key(2048))],
)
def test_ssh_keys_are_kept_as_one_line(written: str, kept: str) -> None:
    assert parse_ssh_key(written) == kept


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ssh-ed25519",
        KEY.replace("AAAAC3", "AAAAC4"),
        KEY[:-4],
        f"no-pty {KEY}",
        f"{KEY}\n{KEY}",
        f"{KEY} a,b",
        rsa_key(1024),
        "ssh-ed25519 " + "A" * 20_000,
        "ssh-ed25519-cert-v01@openssh.com AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_ssh_key(bad: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_ssh_key(bad)


def test_a_host_key_is_kept_without_its_comment() -> None:
    assert parse_host_key(f"{KEY} root@admin\n") == KEY
    with pytest.raises(PydanticCustomError):
        parse_host_key("ssh-ed25519 AAAA")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("mail.example.org", "mail.example.org"),
        ("Admin-1", "admin-1"),
        ("127.0.0.1", "127.0.0.1"),
        ("0400:0001::0001", "400:1::1"),
        ("400:A::1", "400:a::1"),
        ("::1", "::1"),
    ],
)
def test_hosts_have_one_spelling(written: str, kept: str) -> None:
    assert TypeAdapter(Host).validate_python(written) == kept


@pytest.mark.parametrize(
    "bad",
    ["", ".", "a..b", "-a", "a-.b", "[400:1::1]", "a:22", "127.0.0.300", "1.2.3", "fe80::1%eth0", "a b", "a/b", "::x"],
)
def test_what_is_no_host(bad: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Host).validate_python(bad)


@pytest.mark.parametrize("good", ["plain", "${account} at $link", "costs $$5, ${name}"])
def test_templates(good: str) -> None:
    assert TypeAdapter(TemplateLine).validate_python(good) == good
    assert TypeAdapter(TemplateText).validate_python(f"{good}\n\tmore\n") == f"{good}\n\tmore\n"


@pytest.mark.parametrize(
    "bad", ["", "$", "$5", "${", "${}", "${link", "${Account}", "${acc ount}", "$password", "a\rb"]
)
def test_what_is_no_template(bad: str) -> None:
    for kind in (TemplateLine, TemplateText):
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(bad)


def test_a_comment_does_not_make_another_key() -> None:
    assert key_identity(f"{KEY} home") == key_identity(KEY)


@given(st.text())
def test_any_text_is_an_ssh_key_or_refused(text: str) -> None:
    for candidate in (text, f"ssh-ed25519 {text}", f"{KEY} {text}"):
        try:
            kept = parse_ssh_key(candidate)
        except PydanticCustomError:
            continue
        assert "\n" not in kept
        assert "," not in kept
        assert kept.startswith("ssh-")


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("env:FORGE_TOKEN", "env", "FORGE_TOKEN"),
        ("file:keys/installer", "file", "keys/installer"),
        ("alice/sambanova", "sealed", "alice/sambanova"),
    ],
)
def test_references(text: str, kind: str, target: str) -> None:
    reference = SecretRef.parse(text)
    assert (reference, reference.kind, reference.target) == (text, kind, target)
    again = TypeAdapter(SecretRef).validate_json(TypeAdapter(SecretRef).dump_json(reference))
    assert isinstance(again, SecretRef)


@pytest.mark.parametrize(
    "bad", ["", "env:", "env:A B", "file:", "file:a\nb", "alice", "Alice/x", "a//b", "/a", "a/../b", "env:A\n"]
)
def test_what_is_no_reference_is_not_repeated(bad: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        SecretRef.parse(bad)
    assert not bad.strip() or bad not in str(refused.value).replace("env:NAME, file:path", "").replace(
        "alice/sambanova", ""
    )


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            Url,
            ["https://forge.example.org", "http://[400:1::1]:9100"],
            ["forge", "https://", "https://a b", "https://u:p@h", "https://h?x", "https://h:99999", "javascript:x"],
        ),
        (ProxyUrl, ["socks5://127.0.0.1:1080"], ["socks5://h", "http://h:1", "socks5://u:p@h:1", "socks5://h:1/x"]),
        (DaemonUrl, ["unix:/run/a.sock", "http://h:1"], ["unix:a.sock", "unix:", "/run/a.sock", "unix:/a\nb"]),
        (
            Email,
            ["a@b.org", "a.b+c@mail.example.org"],
            ["a", "a@b", "@b.org", "a b@c.org", ".a@b.org", "a..b@c.org", "a@b.org\n", "a@-b.org", "-a@b.org"],
        ),
        (
            PublicPath,
            ["/hero_whiteboard/share/", "/hero_books/a/b.html"],
            [
                "",
                "/",
                "//",
                "/a",
                "/a/",
                "/a//b",
                "/a/./b",
                "/a/../b",
                "/a/...",
                "a/b",
                "/a/b c",
                "/a/%2e",
                "/a/b#c",
                "/a\\b/c",
            ],
        ),
    ],
)
def test_addresses_and_paths(kind: object, good: list[str], bad: list[str]) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    assert [adapter.validate_python(each) for each in good] == good
    for each in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(each)


def test_a_closing_slash_is_dropped_from_an_address() -> None:
    assert TypeAdapter(Url).validate_python("https://forge.example.org/") == "https://forge.example.org"


@pytest.mark.parametrize("name", ["Alice-B", "a", "a.b_c-d", "0day", "x" * 40])
def test_names_that_forge_takes(name: str) -> None:
    assert forge_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a--b", "a.-b", "a b", "a/b", "ä", "a\n", "x" * 41, "a.PNG", *sorted(RESERVED)]
)
def test_names_that_forge_refuses(name: str) -> None:
    for spelling in (name, name.upper()):
        with pytest.raises(PydanticCustomError):
            forge_name(spelling)


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-0123456789abcdefghij",
        "gsk_0123456789abcdefghij",
        "ghp_0123456789abcdefghij0123",
        "re_abcdef12_0123456789ab",
        "x-----BEGIN RSA PRIVATE KEY-----x",
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    assert looks_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "hero,geomind",
        "hero_books",
        "ssh-ed25519 AAAA",
        "v0.3.1",
        "env:SK_KEY",
        "re_read",
        "task-force-of-many-people-in-here",
    ],
)
def test_ordinary_words_are_no_secrets(text: str) -> None:
    assert not looks_secret(text)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-7", -7),
        ("42", 42),
        ("v1", "v1"),
        ("2026-12-31", "2026-12-31"),
        ("8GiB", "8GiB"),
        ("0.3.1", "0.3.1"),
        ("-", "-"),
        ("+", "+"),
        (".", "."),
    ],
)
def test_words_that_all_readers_agree_about(word: str, value: object) -> None:
    assert meaning(word) == value


@pytest.mark.parametrize(
    "word",
    [
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "0001",
        "010",
        "0x10",
        "0o7",
        "0b1",
        "1_000",
        "12:30",
        "1.10",
        "1e3",
        ".5",
        ".inf",
        ".NaN",
        "+5",
        "-0",
        "9" * 19,
    ],
)
def test_words_that_readers_disagree_about_are_taken_for_nothing(word: str) -> None:
    assert isinstance(meaning(word), Plain)


@pytest.mark.parametrize("name", ["ab", "a-b", "a1", "d" * 40, "a" + "-b" * 19])
def test_names_of_testers(name: str) -> None:
    assert TypeAdapter(TesterName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "a", "1a", "-a", "a-", "a--b", "A", "a_b", "a.b", "a b", "d" * 41, "ä", "ab\n"])
def test_what_is_no_name_of_a_tester(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TesterName).validate_python(name)


def test_what_a_message_repeats() -> None:
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert shown("x" * 100) == f"'{'x' * 37}…'"
    for secret in ("gsk_0123456789abcdefghij", "x" * 30 + " sk-0123456789abcdefghij"):
        assert "0123" not in shown(secret)
        assert "0123" not in dotted(("spec", secret, 0))
    assert dotted(("spec", "allowlist", 0)) == "spec.allowlist[0]"
