"""A git server over HTTP on loopback, as a process of its own: `git http-backend` behind a small door that asks for a token.

    python -m tests.e2e.git_server ROOT PORT TOKEN

ROOT holds bare repositories as OWNER/NAME.git. After each push it does what a Forge does: `ROOT/after.json` says where the
commit is made known (`control`, the simulator's) and where the webhook goes (`hook`, `secret`). `ROOT/pushed-at`: when the
newest push was complete, by the machine's monotonic clock.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

DELIVERIES = 3  # of one and the same: that happens (V)


class Door(BaseHTTPRequestHandler):
    """One request."""

    root: Path
    token: str

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if base64.b64decode(given).decode().partition(":")[2] != self.token:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        repository = self.root.joinpath(*path.split("/")[1:3])
        before = refs(repository)
        answer = backend(self.root, path, query, self.command, dict(self.headers), body)
        pushed = path.endswith("/git-receive-pack") and self.command == "POST"
        if pushed:
            (self.root / "pushed-at").write_text(str(time.monotonic()))
        self._send(answer)
        if pushed:
            tell(self.root, repository, before, refs(repository))

    def _send(self, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((value.split()[0] for name, value in headers if name == "Status"), "200")
        self.send_response(int(status))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def backend(root: Path, path: str, query: str, method: str, headers: dict[str, str], body: bytes) -> bytes:
    """What `git http-backend` prints, as CGI has it."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": method,
        "REMOTE_USER": "mik",
        "CONTENT_TYPE": headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
    }
    return subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=True).stdout


def refs(repository: Path) -> dict[str, str]:
    told = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname) %(objectname)"], cwd=repository, capture_output=True, text=True
    )
    return dict(line.split() for line in told.stdout.splitlines())  # type: ignore[misc]


def tell(root: Path, repository: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """The pages of Forge know the commit first; then the webhook goes out."""
    where = json.loads((root / "after.json").read_text()) if (root / "after.json").exists() else {}
    for ref in sorted(name for name in after if after[name] != before.get(name)):
        owner, name = repository.parts[-2], repository.stem
        if where.get("control"):
            order = {"action": "commit", "owner": owner, "repository": name, "sha": after[ref]}
            post(where["control"] + "/_sim/do", json.dumps(order).encode(), {})
        if where.get("hook"):
            payload = {"ref": ref, "before": before.get(ref, "0" * 40), "after": after[ref]}
            deliver(where["hook"], where["secret"], "push", payload)


def deliver(hook: str, secret: str, event: str, payload: dict[str, Any]) -> None:
    """A signed delivery, several times under one id."""
    body = json.dumps(payload).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Forgejo-Event": event, "X-Forgejo-Delivery": str(uuid.uuid4()), "X-Forgejo-Signature": signature}
    for _ in range(DELIVERIES):
        post(hook, body, headers)


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        with urlopen(Request(url, body, {"Content-Type": "application/json", **headers}), timeout=10) as answer:
            answer.read()
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)


def main() -> None:
    root, port, token = sys.argv[1:]
    Door.root, Door.token = Path(root), token
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Door)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
