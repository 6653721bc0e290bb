"""hero_proxy, the front door: what it answers depends on what it read at its last start, not on what is stored
now.

Unpleasant truths kept on purpose: without a registered domain, or with half of the sign-in settings, it lets
everybody in (lesson 12); without an allowlist everybody who can sign in comes in.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal
from urllib.parse import urlencode

from examples.simulator.faults import Faults
from examples.simulator.http import Answer, Request, json_answer, page, redirect, text
from examples.simulator.realm import Realm
from examples.simulator.records import Domain, DoorConfig, MachineState

Side = Literal["loopback", "inner", "outside"]
COOKIE = "hero_session"
MODES = ("none", "bearer", "oauth", "optional", "signature")
LISTENER = "HERO_PROXY_SEED_GATEWAY_LISTENER"
ALLOWED = "HERO_PROXY_ALLOWED_USERS"
SIGN_IN = {
    "client_id": "FORGE_OAUTH_CLIENT_ID",
    "client_secret": "FORGE_OAUTH_CLIENT_SECRET",
    "issuer": "FORGE_OAUTH_ISSUER",
    "redirect_uri": "FORGE_OAUTH_REDIRECT_URI",
}


class FrontDoor:
    """`sign_in(issuer, form)`: the account's name for an authorisation code, or None."""

    def __init__(
        self,
        state: MachineState,
        realm: Realm,
        faults: Faults,
        sign_in: Callable[[str, dict[str, str]], str | None],
        alive: Callable[[], bool],
        backend: Callable[[Request], Answer | None],
    ) -> None:
        self._state = state
        self._realm = realm
        self._faults = faults
        self._sign_in = sign_in
        self._alive = alive
        self._backend = backend

    @property
    def _config(self) -> DoorConfig:
        return self._state.door

    def read_settings(self) -> None:
        """What happens at every start: secrets of the context `core`; sessions end."""
        core = {
            key: value.decode("utf-8", "replace").strip() for key, value in self._state.secrets.get("core", {}).items()
        }
        ungated = (
            self._faults.take("machine", "hero_proxy start", ("listener_opens_ungated",), self._state.name) is not None
        )
        self._state.door = DoorConfig(
            allowed=[name.strip() for name in core.get(ALLOWED, "").split(",") if name.strip()],
            listener=core.get(LISTENER) == "1",
            ungated=ungated,
            **{field: core.get(key, "") for field, key in SIGN_IN.items()},
        )
        self._state.sessions.clear()

    def listens(self, side: Side) -> bool:
        return self._alive() and (side == "loopback" or self._config.listener)

    # -- answers

    def answer(self, request: Request, side: Side) -> Answer | None:
        """None: nobody listens on that side."""
        if not self.listens(side):
            return None
        if request.path == "/health":
            return text("ok\n")
        domain = self._state.domains.get(host_name(request))
        if self.stands_open(request, side, domain):
            return self._behind(request)
        if domain is None and not any(one.auth_mode == "oauth" for one in self._state.domains.values()):
            return text("no such domain\n", 404)
        return self._gated(request, domain)

    def stands_open(self, request: Request, side: Side, domain: Domain | None) -> bool:
        """Whether whoever comes is let through, signed in or not."""
        config = self._config
        if config.ungated or not self._state.domains or self._open_by_fault(request, side):
            return True
        if domain is not None and domain.auth_mode in ("none", "optional"):
            return True
        return (
            not all((config.client_id, config.client_secret, config.issuer, config.redirect_uri)) and domain is not None
        )

    def _open_by_fault(self, request: Request, side: Side) -> bool:
        paths = self._faults.active("machine", "door", ("open_paths",), self._state.name)
        if paths is not None and request.path in paths.options.get("paths", ("/", "/status")):
            return True
        return (
            side == "inner"
            and self._faults.active("machine", "door", ("inner_side_open",), self._state.name) is not None
        )

    def _gated(self, request: Request, domain: Domain | None) -> Answer:
        if request.path == "/oauth/callback":
            return self._callback(request)
        if request.path == "/logout":
            self._state.sessions.pop(request.cookies().get(COOKIE, ""), None)
            return redirect("/login", headers=(("set-cookie", f"{COOKIE}=; Path=/; Max-Age=0"),))
        if domain is not None and any(_below(request.path, path) for path in domain.public_paths):
            return self._behind(request)
        user = self._state.sessions.get(request.cookies().get(COOKIE, ""))
        if user is None or request.path == "/login":
            return redirect(self._authorize(request))
        allowed = self._config.allowed
        if allowed and user.lower() not in {name.lower() for name in allowed}:
            return page(
                "This machine is not yours", 403, f"<p>{user}, ask an administrator to put you on its list.</p>"
            )
        return self._behind(request)

    def _authorize(self, request: Request) -> str:
        wanted = "/" if request.path == "/login" else request.target()
        return _authorize_at(self._config.issuer, self._config.client_id, self._config.redirect_uri, wanted)

    def _callback(self, request: Request) -> Answer:
        query, config = request.params(), self._config
        if not query.get("code"):
            return page("Sign-in failed", 400, "<p>The address lacks the code that Forge gives.</p>")
        form = {
            "grant_type": "authorization_code",
            "code": query.get("code", ""),
            "client_id": config.client_id,
            "client_secret": config.client_secret,
            "redirect_uri": config.redirect_uri,
        }
        user = self._sign_in(config.issuer, form)
        if user is None:
            return page("Sign-in failed", 502, "<p>Forge did not accept this machine's credentials.</p>")
        session = self._realm.draw(32)
        self._state.sessions[session] = user
        back = query.get("state", "/") or "/"
        cookie = ("set-cookie", f"{COOKIE}={session}; Path=/; HttpOnly; Secure; SameSite=Lax")
        return redirect(back if back.startswith("/") and not back.startswith("//") else "/", headers=(cookie,))

    def _behind(self, request: Request) -> Answer:
        return self._backend(request) or text("bad gateway: hero_router does not answer\n", 502)

    # -- its JSON-RPC

    def rpc(self, method: str, params: dict[str, object]) -> Answer:
        """`domain.add`, `domain.list`, `domain.remove`. Effective at once."""
        domains = self._state.domains
        name = str(params.get("domain", "")).lower()
        if method == "domain.list":
            return _result([domain.model_dump() for domain in domains.values()])
        if method not in ("domain.add", "domain.remove"):
            return _refused(-32601, f"Method not found: {method}")
        if not name:
            return _refused(-32602, "missing field `domain`")
        if method == "domain.remove":
            domains.pop(name, None)
            return _result({"removed": name})
        paths = params.get("public_paths", [])
        if params.get("auth_mode") not in MODES or not params.get("backend") or not isinstance(paths, list):
            return _refused(
                -32602, f"auth_mode must be one of {', '.join(MODES)}; backend and public_paths as documented"
            )
        domains[name] = Domain(
            domain=name,
            auth_mode=str(params["auth_mode"]),
            backend=str(params["backend"]),
            public_paths=[str(path) for path in paths],
        )
        return _result(domains[name].model_dump())


@lru_cache(4096)
def _authorize_at(issuer: str, client_id: str, redirect_uri: str, wanted: str) -> str:
    """Where an anonymous visitor of a path is sent: asked for again and again."""
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": "openid profile email",
        "state": wanted,
    }
    return f"{issuer.rstrip('/')}/login/oauth/authorize?{urlencode(query)}"


def host_name(request: Request) -> str:
    """The name in the Host header without its port, in lower case; an IPv6 address without its brackets."""
    host = request.headers.get("host", "").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _below(path: str, prefix: str) -> bool:
    """Whether a path lies below a public one; `..` never does."""
    return ".." not in path.split("/") and (path == prefix.rstrip("/") or path.startswith(prefix.rstrip("/") + "/"))


def _result(value: object) -> Answer:
    return json_answer({"jsonrpc": "2.0", "id": 1, "result": value})


def _refused(code: int, message: str) -> Answer:
    return json_answer({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})
