"""curl on a machine: loopback, the machine's Unix sockets, the overlay, Forge, and the public names."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from examples.simulator.curl_options import Options, UsageError, parse
from examples.simulator.files import OutsideError
from examples.simulator.http import Answer, Request, text
from examples.simulator.outcome import Outcome, failed

if TYPE_CHECKING:
    from examples.simulator.machine import Machine

ROUTER_PORT = 9988
PROXY_PORT = 9989
SOCKETS = "hero/var/sockets/"
_REFUSED, _UNKNOWN_HOST, _TIMED_OUT, _FAILED, _UNWRITABLE, _CUT = 7, 6, 28, 22, 23, 18
_REASONS = {
    _REFUSED: "Failed to connect to server",
    _UNKNOWN_HOST: "Could not resolve host",
    _TIMED_OUT: "Operation timed out",
    _FAILED: "The requested URL returned error",
    _UNWRITABLE: "Failure writing output to destination",
    _CUT: "transfer closed with outstanding read data remaining",
}
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Fetched:
    """One URL's end: what came, where from, and curl's exit code for it."""

    url: str
    verb: str
    answer: Answer | None
    code: int


def describe(words: list[str]) -> tuple[str, bool]:
    """For the log: method and URLs. A JSON-RPC call on a machine's socket is writing unless it only lists; its caller
    notes that itself.
    """
    urls = [word for word in words if word.startswith(("http://", "https://"))]
    return " ".join(["curl", *urls[:3], *(["…"] if len(urls) > 3 else [])]), False


async def run(machine: "Machine", arguments: list[bytes], stdin: bytes, cwd: str) -> Outcome:
    try:
        options = parse(arguments, stdin)
    except (UsageError, ValueError) as error:
        return failed(f"curl: option {error}: is unknown", 2)
    if not options.urls:
        return failed("curl: (2) no URL specified", 2)
    out, err, code = b"", b"", 0
    for number, url in enumerate(options.urls):
        fetched = await _fetched(machine, options, url)
        written, fetched = _deliver(machine, options, fetched, number, cwd)
        out += written + _write_out(options.write_out, fetched, number)
        code = fetched.code
        if code and ("silent" not in options.flags or "show_error" in options.flags):
            err += f"curl: ({code}) {_REASONS[code]}: {url}\n".encode("utf-8", "surrogateescape")
    return Outcome(code, out, err)


async def _fetched(machine: "Machine", options: Options, url: str) -> Fetched:
    headers, verb = dict(options.headers), options.verb
    for _ in range(10):
        answer, code = await _ask(machine, options, url, verb, headers)
        if answer is None or "follow" not in options.flags or answer.status not in _REDIRECTS:
            break
        url, verb = urljoin(url, answer.header("location") or url), "GET" if answer.status != 307 else verb
        headers.pop("host", None)
    if answer is not None and "fail" in options.flags and answer.status >= 400:
        code = _FAILED
    return Fetched(url, verb, answer, code)


async def _ask(
    machine: "Machine", options: Options, url: str, verb: str, headers: dict[str, str]
) -> tuple[Answer | None, int]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    headers = {"host": parts.netloc, "user-agent": "curl/8.5.0", "accept": "*/*", **headers}
    request = Request(verb, unquote(parts.path) or "/", parts.query, headers, options.body or b"")
    if options.unix_socket is not None:
        answer = _over_socket(machine, options.unix_socket, request)
        return answer, 0 if answer else _REFUSED
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.hostname in ("127.0.0.1", "localhost", "::1") and origin != machine.around.realm.forge_url:
        answer = _on_loopback(machine, parts.port or 80, request)
        return answer, 0 if answer else _REFUSED
    far = await machine.around.fetch(machine, origin, request)
    if isinstance(far, Answer):
        return (far, _CUT) if far.delivery == "cut" else (None, _TIMED_OUT) if far.delivery == "never" else (far, 0)
    return None, {"refused": _REFUSED, "unknown": _UNKNOWN_HOST}.get(far, _TIMED_OUT)


def _on_loopback(machine: "Machine", port: int, request: Request) -> Answer | None:
    if port == ROUTER_PORT:
        return machine.through_router(request)
    return machine.door.answer(request, "loopback") if port == PROXY_PORT else None


def _over_socket(machine: "Machine", path: str, request: Request) -> Answer | None:
    _, found, rest = path.partition(SOCKETS)
    service = rest.removesuffix("/rpc.sock")
    if not found or service == rest or not machine.alive(service):
        return None
    if request.path == "/health":
        return text("ok\n") if machine.healthy(service) else text("starting\n", 503)
    if service != "hero_proxy" or (request.method, request.path) != ("POST", "/rpc"):
        return text("not found\n", 404)
    try:
        call = json.loads(request.body)
        method, params = str(call["method"]), dict(call.get("params") or {})
    except (ValueError, KeyError, TypeError):
        return text(
            '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}', 200, "application/json"
        )
    answer = machine.door.rpc(method, params)
    writing = method != "domain.list"
    machine.around.note(machine, f"hero_proxy {method} {params.get('domain', '')}".rstrip(), writing, answer.status)
    if writing:
        machine.around.changed()
    return answer


def _deliver(machine: "Machine", options: Options, fetched: Fetched, number: int, cwd: str) -> tuple[bytes, Fetched]:
    """The body to its `-o`, or to standard output when this URL has none."""
    answer = fetched.answer
    if answer is None or (fetched.code == _FAILED and "fail" in options.flags):
        return b"", fetched
    body = (
        b"" if fetched.verb == "HEAD" else answer.body[: len(answer.body) // 2] if fetched.code == _CUT else answer.body
    )
    if "include" in options.flags or "head" in options.flags:
        lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        body = f"HTTP/1.1 {answer.status} \r\n{lines}\r\n".encode() + body
    target = options.outputs[number] if number < len(options.outputs) else "-"
    if target in ("-", "/dev/stdout"):
        return body, fetched
    if target != "/dev/null":
        try:
            machine.files.write(target if target.startswith("/") else f"{cwd}/{target}", body, 0o644)
        except (OSError, OutsideError):
            return b"", Fetched(fetched.url, fetched.verb, answer, _UNWRITABLE)
    return b"", fetched


def _write_out(shape: str, fetched: Fetched, number: int) -> bytes:
    if not shape:
        return b""
    answer = fetched.answer
    location = answer.header("location") if answer else None
    values = {
        "http_code": f"{answer.status:03}" if answer else "000",
        "response_code": f"{answer.status:03}" if answer else "000",
        "redirect_url": urljoin(fetched.url, location) if location else "",
        "url": fetched.url,
        "url_effective": fetched.url,
        "method": fetched.verb,
        "exitcode": str(fetched.code),
        "errormsg": _REASONS.get(fetched.code, ""),
        "content_type": (answer.header("content-type") or "") if answer else "",
        "size_download": str(len(answer.body) if answer else 0),
        "urlnum": str(number),
        "num_redirects": "0",
        "time_total": "0.010000",
    }

    def variable(match: re.Match[str]) -> str:
        name = match[1] or ""
        if name.startswith("header{"):
            return (answer.header(name[7:-1]) or "") if answer else ""
        return values.get(name, "") if match[0] != "%%" else "%"

    shape = shape.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
    return re.sub(r"%%|%\{((?:header\{[^}]*\})|\w+)\}", variable, shape).encode("utf-8", "surrogateescape")
