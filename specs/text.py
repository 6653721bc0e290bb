"""The small words of the language: names, addresses, paths, each with the one rule that makes it safe where it goes."""

import re
from ipaddress import ip_address
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Strict, WithJsonSchema

from specs import forge_rules
from specs.errors import refusal
from specs.secrecy import shown

TESTER_NAME_PATTERN: Final = r"^[a-z](-?[a-z0-9]){1,39}$"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN_PATTERN: Final = rf"^{_LABEL}(\.{_LABEL})+$"
SETTING_LIMIT: Final = 32 * 1024
_HOST: Final = r"^[0-9A-Za-z:]([0-9A-Za-z.:-]{0,251}[0-9A-Za-z:])?$"


def _checked(pattern: str, what: str, remedy: str, limit: int = 253) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > limit:
            raise refusal(f"this is {len(value)} characters long", f"at most {limit}; {remedy}")
        if not compiled.fullmatch(value):
            raise refusal(f"{shown(value)} is not {what}", remedy)
        return value

    return AfterValidator(check)


def _schema(pattern: str, *examples: str, limit: int = 253) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "maxLength": limit, "examples": list(examples)}
    return WithJsonSchema(schema)


def _tester_name(value: str) -> str:
    if len(value) > 40:
        raise refusal(f"the name is {len(value)} characters long", "at most 40")
    if not re.fullmatch(TESTER_NAME_PATTERN, value):
        raise refusal(
            f"{shown(value)} is not a safe name",
            "2 to 40 lowercase letters, digits and single dashes, a letter first, like alice-b; "
            "the account (spec.identity.account) may keep its own spelling",
        )
    return value


def _email(value: str) -> str:
    good = re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@" + DOMAIN_PATTERN[1:-1], value, re.IGNORECASE)
    local = value.partition("@")[0]
    if not good or len(value) > 254 or local.startswith((".", "-")) or local.endswith(".") or ".." in local:
        raise refusal(f"{shown(value)} is not an e-mail address", "write it like alice@example.org")
    return value


def _url(value: str) -> str:
    return _checked_url(value, ("http", "https"), "https://forge.example.org")


def _proxy(value: str) -> str:
    url = _checked_url(value, ("socks5",), "socks5://127.0.0.1:1080")
    if urlsplit(url).port is None or urlsplit(url).path:
        raise refusal(f"{shown(value)} is not a proxy", "write it like socks5://127.0.0.1:1080")
    return url


def _daemon_url(value: str) -> str:
    if not value.startswith("unix:"):
        return _checked_url(value, ("http", "https"), "http://10.0.0.5:9100 or unix:/path/to/rpc.sock")
    if not re.fullmatch(r"unix:/[^\x00-\x1f\x7f]{1,100}", value):
        raise refusal(f"{shown(value)} is not the path of a socket", "write it like unix:/path/to/rpc.sock")
    return value


def _checked_url(value: str, schemes: tuple[str, ...], example: str) -> str:
    bad = refusal(f"{shown(value)} is not a usable address", f"write it like {example}")
    if re.search(r"[\s\x00-\x1f\x7f\\\"'<>^`{|}]", value) or len(value) > 500:
        raise bad
    try:
        parts = urlsplit(value)
        port_is_wrong = parts.port == 0
    except ValueError:
        raise bad from None
    if parts.scheme not in schemes or not parts.hostname or port_is_wrong:
        raise bad
    if parts.username is not None or parts.password is not None:
        raise refusal("the address holds a user or password", "take it out; secrets are only referred to")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise bad
    return value.rstrip("/")


def _host(value: str) -> str:
    bad = refusal(
        f"{shown(value)} is not a host", "write only a name like mail.example.org, or an address like 400:1::1"
    )
    if not re.fullmatch(_HOST, value):
        raise bad
    if ":" in value or re.fullmatch(r"[0-9.]+", value):
        try:
            return str(ip_address(value))
        except ValueError:
            raise bad from None
    if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value.lower()):
        raise bad
    return value.lower()


def _public_path(value: str) -> str:
    remedy = "write it like /hero_whiteboard/share/"
    if len(value) > 200 or not re.fullmatch(r"/(?:[A-Za-z0-9._~-]+/)*[A-Za-z0-9._~-]*", value):
        raise refusal(f"{shown(value)} is not a path that may be public", remedy)
    parts = [part for part in value.split("/") if part]
    if any(set(part) == {"."} for part in parts):
        raise refusal(f"{shown(value)} leaves its app", f"no dots as a step; {remedy}")
    if len(parts) < 2:
        raise refusal(f"{shown(value)} is not below an app", f"name a part of one app; {remedy}")
    return value


def _setting_text(value: str) -> str:
    if len(value.encode()) > SETTING_LIMIT:
        raise refusal("the value is too long", f"at most {SETTING_LIMIT // 1024} KiB")
    return value


TesterName = Annotated[str, AfterValidator(_tester_name), _schema(TESTER_NAME_PATTERN, "alice", limit=40)]
"""A tester's name: safe in a machine's, a gateway's and a file's name."""

ForgeName = Annotated[
    str,
    AfterValidator(forge_rules.forge_name),
    _schema(forge_rules.NAME_PATTERN, "Alice-B", limit=forge_rules.MAX_NAME),
]
"""An account's name as Forge accepts it, in its own spelling."""

Email = Annotated[str, AfterValidator(_email), _schema(r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "alice@example.org", limit=254)]
"""An address for mail."""

Url = Annotated[str, AfterValidator(_url), _schema(r"^https?://", "https://forge.example.org", limit=500)]
"""An address over HTTP, without a trailing slash, user or password."""

ProxyUrl = Annotated[str, AfterValidator(_proxy), _schema(r"^socks5://", "socks5://127.0.0.1:1080", limit=500)]
"""A SOCKS5 proxy, which resolves names itself."""

DaemonUrl = Annotated[
    str, AfterValidator(_daemon_url), _schema(r"^(https?://|unix:/)", "unix:/run/hero_compute/rpc.sock", limit=500)
]
"""Where a compute daemon listens: HTTP or a Unix socket."""

Domain = Annotated[
    str,
    _checked(DOMAIN_PATTERN, "a domain", "write it like gent01.grid.tf"),
    _schema(DOMAIN_PATTERN, "gent01.grid.tf"),
]
"""A domain's name."""

Host = Annotated[str, AfterValidator(_host), _schema(_HOST, "mail.example.org", "400:1::1")]
"""A host: a name, or an IP address without brackets, in its shortest spelling."""

_ITEM: Final = r"^[a-z][a-z0-9_-]{0,39}$"
ItemName = Annotated[
    str,
    _checked(_ITEM, "a name for this", "lowercase letters, digits, - and _, like gent"),
    _schema(_ITEM, "demo", limit=40),
]
"""The name of a component, set, provider, daemon or engine. Whether it exists is checked later, with suggestions."""

_SERVICE: Final = r"^[a-z][a-z0-9_]{0,39}$"
ServiceName = Annotated[
    str, _checked(_SERVICE, "the name of a service", "write it like hero_embedder"), _schema(_SERVICE, limit=40)
]
"""A service that hero_proc supervises."""

_CHANNEL: Final = r"^[a-z][a-z0-9._-]{0,31}$"
Channel = Annotated[str, _checked(_CHANNEL, "a channel", "write it like latest"), _schema(_CHANNEL, "latest", limit=32)]
"""A release channel: the tag from which components come."""

_VERSION: Final = r"^v?[0-9][0-9A-Za-z._+-]{0,63}$"
Version = Annotated[
    str,
    _checked(_VERSION, "a version", 'write it like v0.3.1, in quotes when it is only digits and a dot: "1.10"'),
    _schema(_VERSION, "v0.3.1", limit=65),
]
"""An exact version of a component."""

_IMAGE: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._/:+-]{0,99}$"
Image = Annotated[
    str,
    _checked(_IMAGE, "the name of an image", "write it like Ubuntu 24.04"),
    _schema(_IMAGE, "Ubuntu 24.04", limit=100),
]
"""A machine image, by the name under which the grid knows it."""

_SETTING_KEY: Final = r"^[A-Z][A-Z0-9_]{0,63}$"
SettingKey = Annotated[
    str,
    _checked(_SETTING_KEY, "the name of a setting", "capitals, digits and _, like BOOKS_LIBRARIES"),
    _schema(_SETTING_KEY, "BOOKS_LIBRARIES", limit=64),
]
"""The key under which hero_proc keeps a setting."""

_CONTEXT: Final = r"^[a-z][a-z0-9_]{0,39}$"
Context = Annotated[
    str, _checked(_CONTEXT, "a context of hero_proc", "write it like cockpit"), _schema(_CONTEXT, "cockpit", limit=40)
]
"""The context of hero_proc in which a setting is kept."""

_PUBLIC: Final = r"^/[A-Za-z0-9._~-]+/[A-Za-z0-9._~/-]+$"
PublicPath = Annotated[str, AfterValidator(_public_path), _schema(_PUBLIC, "/hero_whiteboard/share/", limit=200)]
"""A path that strangers may open, below one app."""

SettingText = Annotated[
    str, AfterValidator(_setting_text), WithJsonSchema({"type": "string", "maxLength": SETTING_LIMIT})
]
"""A setting's value, stored byte for byte."""

_GATEWAY: Final = r"^[a-z][a-z0-9]{2,35}$"
GatewayName = Annotated[
    str,
    _checked(
        _GATEWAY,
        "a name for a gateway",
        "auto, or 3 to 36 lowercase letters and digits, a letter first; the domain is added",
    ),
    _schema(_GATEWAY, "auto", "alicedemo", limit=36),
]
"""The first label of a tester's public address."""

_NODE: Final = r"^(auto|[a-z][a-z0-9_-]{0,39}/[0-9A-Za-z]{1,32})$"
NodeChoice = Annotated[
    str, _checked(_NODE, "a node", "auto, or daemon/node like gent/0001"), _schema(_NODE, "auto", "gent/0001", limit=80)
]
"""Where a machine stands: `auto`, or a daemon's name and its own id of the node."""

_SENTENCE: Final = r"^[^\x00-\x1f\x7f]{1,200}$"
Sentence = Annotated[
    str, _checked(_SENTENCE, "a line of text", "one line of at most 200 characters"), _schema(r"^.{1,200}$", limit=200)
]
"""One line for people to read."""

_REPOSITORY: Final = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,99}/[0-9A-Za-z][0-9A-Za-z._-]{0,99}$"
Repository = Annotated[
    str,
    _checked(_REPOSITORY, "a repository", "write it like owner/repository"),
    _schema(_REPOSITORY, "owner/repository"),
]
"""A repository on Forge."""

Whole = Annotated[int, Strict()]
"""A whole number; text and fractions are not turned into one."""

Flag = Annotated[bool, Strict()]
"""true or false; nothing else is turned into one."""
