"""curl's command line, as much of it as scripts on a machine use. Several URLs share the request's options; each
takes the next `-o`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_WITH_VALUE = {
    "-o": "output",
    "--output": "output",
    "-w": "write_out",
    "--write-out": "write_out",
    "-X": "method",
    "--request": "method",
    "-H": "header",
    "--header": "header",
    "-d": "data",
    "--data": "data",
    "--data-binary": "data_binary",
    "--data-raw": "data_raw",
    "--unix-socket": "unix_socket",
    "-K": "config",
    "--config": "config",
    "--url": "url",
    "-b": "cookie",
    "--cookie": "cookie",
    "-m": "max_time",
    "--max-time": "max_time",
    "--connect-timeout": "",
    "--retry": "",
    "--retry-delay": "",
    "--retry-max-time": "",
    "--noproxy": "",
    "--max-redirs": "",
    "--parallel-max": "",
    "-A": "",
    "--user-agent": "",
}
_FLAGS = {
    "-f": "fail",
    "--fail": "fail",
    "-s": "silent",
    "--silent": "silent",
    "-S": "show_error",
    "--show-error": "show_error",
    "-L": "follow",
    "--location": "follow",
    "-I": "head",
    "--head": "head",
    "-i": "include",
    "--include": "include",
    "-g": "globoff",
    "--globoff": "globoff",
    "-q": "",
    "-k": "",
    "--insecure": "",
    "-Z": "",
    "--parallel": "",
    "--no-progress-meter": "silent_progress",
    "--path-as-is": "",
    "--retry-connrefused": "",
    "--retry-all-errors": "",
    "-4": "",
    "-6": "",
    "--fail-early": "",
    "--compressed": "",
    "--http1.1": "",
}


class UsageError(Exception):
    """An option that this curl does not know: exit code 2."""


@dataclass
class Options:
    """One invocation. `body` None: no data was given. `max_time` in seconds of the machine."""

    urls: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    write_out: str = ""
    method: str | None = None
    body: bytes | None = None
    unix_socket: str | None = None
    max_time: float | None = None

    @property
    def verb(self) -> str:
        return self.method or ("HEAD" if "head" in self.flags else "GET" if self.body is None else "POST")


def parse(arguments: list[bytes], stdin: bytes) -> Options:
    """Raises UsageError. `@-` and `-K -` read `stdin`."""
    options = Options()
    for name, value in _pairs(arguments):
        _take(options, name, value, stdin)
    if "globoff" not in options.flags:
        options.urls = [url for given in options.urls for url in _braces(given)]
    return options


def _pairs(arguments: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """(option's meaning, value); short flags may be glued together, the last of them with its value."""
    rest = iter(arguments)
    for raw in rest:
        word = raw.decode("utf-8", "surrogateescape")
        if word in _WITH_VALUE or word in _FLAGS:
            yield from _one(word, rest)
        elif word.startswith("--") or not word.startswith("-") or word == "-":
            if word.startswith("--"):
                raise UsageError(word)
            yield "url", raw
        else:
            yield from _glued(raw, rest)


def _one(word: str, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    if word in _FLAGS:
        yield "flag", _FLAGS[word].encode()
        return
    value = next(rest, None)
    if value is None:
        raise UsageError(word)
    yield _WITH_VALUE[word], value


def _glued(raw: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    for place in range(1, len(raw)):
        option = "-" + chr(raw[place])
        if option in _FLAGS:
            yield "flag", _FLAGS[option].encode()
        elif option in _WITH_VALUE:
            value = raw[place + 1 :] or next(rest, None)
            if value is None:
                raise UsageError(option)
            yield _WITH_VALUE[option], value
            return
        else:
            raise UsageError(option)


def _take(options: Options, name: str, value: bytes, stdin: bytes) -> None:
    words = value.decode("utf-8", "surrogateescape")
    match name:
        case "flag":
            options.flags.add(words)
        case "url":
            options.urls.append(words)
        case "output":
            options.outputs.append(words)
        case "header":
            key, _, content = words.partition(":")
            options.headers[key.strip().lower()] = content.strip()
        case "cookie":
            options.headers["cookie"] = words
        case "data" | "data_binary" | "data_raw":
            _take_data(options, name, value, stdin)
        case "config":
            _take_config(options, words, stdin)
        case "max_time":
            options.max_time = float(words)
        case "write_out" | "method" | "unix_socket":
            setattr(options, name, words)


def _take_data(options: Options, name: str, value: bytes, stdin: bytes) -> None:
    if name != "data_raw" and value == b"@-":
        value = stdin if name == "data_binary" else stdin.replace(b"\r", b"").replace(b"\n", b"")
    elif name != "data_raw" and value.startswith(b"@"):
        raise UsageError("--data @file")
    options.body = value if options.body is None else options.body + b"&" + value
    options.headers.setdefault("content-type", "application/x-www-form-urlencoded")


_LINE = re.compile(r'\s*-{0,2}([\w-]+)(?:\s*[=:\s]\s*(?:"((?:[^"\\]|\\.)*)"|(\S.*?)))?\s*')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "v": "\v"}


def _take_config(options: Options, where: str, stdin: bytes) -> None:
    """Lines like `url = "http://…"` from standard input."""
    if where != "-":
        raise UsageError("--config file")
    for line in stdin.decode("utf-8", "surrogateescape").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(line)
        word = f"-{match[1]}" if len(match[1]) == 1 else f"--{match[1]}"
        quoted = (
            re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[2])
            if match[2] is not None
            else match[3]
        )
        given = [] if quoted is None else [quoted.encode("utf-8", "surrogateescape")]
        for name, value in _pairs([word.encode(), *given]):
            _take(options, name, value, b"")


def _braces(url: str) -> list[str]:
    """`{a,b}` in a URL stands for several URLs."""
    match = re.search(r"\{([^{}]*)\}", url)
    if match is None:
        return [url]
    return [one for part in match[1].split(",") for one in _braces(url[: match.start()] + part + url[match.end() :])]
