"""Signs a person in at a tester's public address, the way a browser would: for tests and for the demo's proof."""

import ssl
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import httpx

COCKPIT = "/hero_cockpit/web/"
NEW_PASSWORD = "Chosen-by-the-person-1"
MOST_STEPS = 12


class Reachable(Protocol):
    """What is needed of the world's addresses."""

    @property
    def forge_url(self) -> str: ...
    @property
    def socks(self) -> str: ...
    @property
    def ca_file(self) -> str: ...


def outside(addresses: Reachable) -> httpx.AsyncClient:
    """A client that reaches public names through the world's proxy and trusts the world's authority. It follows no
    redirect.
    """
    trust = ssl.create_default_context(cafile=addresses.ca_file)
    return httpx.AsyncClient(proxy=addresses.socks, verify=trust, timeout=30)


async def sign_in(addresses: Reachable, fqdn: str, user: str, path: str = COCKPIT) -> tuple[int, str]:
    """Opens `https://<fqdn><path>` as this Forge account and follows every redirect; (status, text) of where it ends.

    An account that must change its password does so on the way, as a person would. Raises RuntimeError when
    redirects do not end."""
    # Forge is plain HTTP on loopback: reading the system's certificates for it would cost more than all the rest.
    plain = httpx.AsyncClient(headers={"X-Sim-User": user}, timeout=30, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with outside(addresses) as public, plain as forge:
        return await walk(public, forge, addresses.forge_url, f"https://{fqdn}{path}")


async def walk(public: httpx.AsyncClient, forge: httpx.AsyncClient, forge_url: str, wanted: str) -> tuple[int, str]:
    """As `sign_in`, with given clients: `forge` has the person's session there. Raises RuntimeError."""
    url = wanted
    for _ in range(MOST_STEPS):
        at_forge = _origin(url) == _origin(forge_url)
        answer = await (forge if at_forge else public).get(url)
        if not answer.has_redirect_location:
            return answer.status_code, answer.text
        url = urljoin(url, answer.headers["location"])
        if urlsplit(url).path == "/user/settings/change_password":
            await forge.post(url, data={"password": NEW_PASSWORD})
            url = wanted
    raise RuntimeError(f"signing in at {wanted} led in circles")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
