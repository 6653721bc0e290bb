"""Forge's OAuth applications and its sign-in: authorisation codes, the token endpoint and userinfo. No HTTP here."""

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

from examples.simulator.realm import Realm
from examples.simulator.records import Account, App, Code

if TYPE_CHECKING:
    from examples.simulator.forge import Forge

CODE_LIVES = 600.0
"""Simulated seconds, as at Forge: ten minutes. People are slow and the world may run fast: see `exchange`."""


class OAuthError(Exception):
    """A refusal of the token endpoint: always 400 `{"error", "error_description"}`."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class OAuth:
    """Applications belong to the account whose token made them. Names are not unique (V)."""

    def __init__(self, forge: "Forge", realm: Realm) -> None:
        self._forge = forge
        self._realm = realm

    @property
    def _apps(self) -> list[App]:
        return self._forge.state.apps

    # -- applications

    def of(self, owner: Account) -> list[App]:
        """Newest first (V)."""
        return sorted((app for app in self._apps if app.owner == owner.name), key=lambda app: -app.id)

    def find(self, owner: Account, app_id: str) -> App | None:
        return next((app for app in self.of(owner) if str(app.id) == app_id), None)

    def create(self, owner: Account, name: str, redirect_uris: list[str], confidential: bool) -> App:
        app = App(
            id=self._forge.next_id(),
            owner=owner.name,
            name=name,
            client_id=self._client_id(),
            client_secret=self._secret(),
            redirect_uris=redirect_uris,
            confidential=confidential,
            created=self._realm.now(),
        )
        self._apps.append(app)
        return app

    def change(self, app: App, name: str, redirect_uris: list[str], confidential: bool) -> App:
        """Always makes a new secret, even when nothing changed; the old one is dead at once (V, S)."""
        app.name, app.redirect_uris, app.confidential = name, redirect_uris, confidential
        app.client_secret = self._secret()
        return app

    def delete(self, app: App) -> None:
        self._apps.remove(app)

    def forget_account(self, account: Account) -> None:
        self._forge.state.apps = [app for app in self._apps if app.owner != account.name]

    def by_client(self, client_id: str) -> App | None:
        return next((app for app in self._apps if app.client_id == client_id), None)

    def _client_id(self) -> str:
        raw = self._realm.draw(32)
        return "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))

    def _secret(self) -> str:
        return f"gto_{self._realm.draw(52)}"

    # -- sign-in

    def grant_code(self, app: App, account: Account, redirect_uri: str, challenge: str, nonce: str = "") -> str:
        code = f"gta_{self._realm.draw(52)}"
        expires = self._realm.now() + CODE_LIVES * max(1.0, self._realm.clock.speed)
        self._forge.state.codes[code] = Code(
            client_id=app.client_id,
            account=account.name,
            redirect_uri=redirect_uri,
            challenge=challenge,
            nonce=nonce,
            expires=expires,
        )
        return code

    def exchange(self, form: dict[str, str]) -> dict[str, object]:
        """The token endpoint. Codes live ten minutes of the person's time, whatever the world's speed. Raises
        OAuthError.
        """
        app = self.by_client(form.get("client_id", ""))
        if form.get("grant_type") != "authorization_code":
            raise OAuthError(
                "unsupported_grant_type", "Only refresh_token or authorization_code grant type is supported"
            )
        if app is None:
            raise OAuthError("invalid_client", f"cannot load client with client id: {form.get('client_id', '')!r}")
        if app.confidential and not hmac.compare_digest(app.client_secret, form.get("client_secret", "")):
            raise OAuthError("unauthorized_client", "invalid client secret")
        code = self._forge.state.codes.get(form.get("code", ""))
        if code is None or code.client_id != app.client_id or code.expires < self._realm.now():
            raise OAuthError("unauthorized_client", "client is not authorized")
        if form.get("redirect_uri", "") not in app.redirect_uris or form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("unauthorized_client", "unexpected redirect URI")
        if not _proves(code.challenge, form.get("code_verifier", "")):
            raise OAuthError("unauthorized_client", "failed PKCE code challenge")
        del self._forge.state.codes[form["code"]]
        return self._tokens(app, code.account, code.nonce)

    def _tokens(self, app: App, account: str, nonce: str) -> dict[str, object]:
        access = self._realm.draw(64)
        self._forge.state.grants[access] = account
        return {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": 3600,
            "refresh_token": self._realm.draw(64),
            "id_token": self._id_token(app, account, nonce),
        }

    def _id_token(self, app: App, name: str, nonce: str) -> str:
        """It carries only `sub`: the name has to come from userinfo (V). The nonce comes back as it was sent (P)."""
        account = self._forge.need_account(name)
        claims = {
            "iss": self._realm.forge_url,
            "aud": [app.client_id],
            "sub": str(account.id),
            "exp": int(self._realm.now()) + 3600,
            **({"nonce": nonce} if nonce else {}),
        }
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        proof = hmac.new(app.client_secret.encode(), signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{base64.urlsafe_b64encode(proof).decode().rstrip('=')}"

    def bearer(self, authorization: str) -> Account | None:
        kind, _, value = authorization.partition(" ")
        name = self._forge.state.grants.get(value) if kind.lower() == "bearer" else None
        return self._forge.account(name) if name else None


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _proves(challenge: str, verifier: str) -> bool:
    if not challenge:
        return True
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return hmac.compare_digest(made, challenge)


def sign_webhook(secret: str, body: bytes) -> dict[str, str]:
    """The signature headers of a webhook delivery (V). Without a secret they are there, but empty."""
    proof = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if secret else ""
    return {
        "X-Forgejo-Signature": proof,
        "X-Gitea-Signature": proof,
        "X-Hub-Signature-256": f"sha256={proof}" if proof else "",
    }
