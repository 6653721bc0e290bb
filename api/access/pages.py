"""The few pages around the sign-in: who may look, how to sign in, and why somebody may not. Nothing of the fleet is on them."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from fastapi.responses import HTMLResponse

from api.access.coming_back import HOME, ours
from api.pages.render import asset

BRAND = (
    '<p class="brand"><svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">'
    '<rect x="1" y="1" width="8" height="8" rx="2"/><rect x="11" y="1" width="8" height="8" rx="2" class="dim"/>'
    '<rect x="1" y="11" width="8" height="8" rx="2" class="dim"/><rect x="11" y="11" width="8" height="8" rx="2"/></svg>'
    "Testers</p>"
)


def page(title: str, *paragraphs: str, status: int = 200, link: tuple[str, str] | None = None) -> HTMLResponse:
    """`link`: where it leads and what it says. All of it is text."""
    body = "".join(f"<p>{escape(each)}</p>" for each in paragraphs)
    if link is not None:
        body += f'<p><a class="button" href="{escape(link[0], quote=True)}">{escape(link[1])}</a></p>'
    sheet = asset("style.css")
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<title>{escape(title)} · Testers</title><link rel="stylesheet" href="{sheet}"></head>'
        f'<body class="door"><main>{BRAND}<h1>{escape(title)}</h1>{body}</main></body></html>',
        status,
    )


def sign_in(coming_back: str, *, status: int = 200) -> HTMLResponse:
    """The way in, which leads back to where somebody wanted to go."""
    return page(
        "Sign in",
        "How the testers stand is shown to the admins of this fleet. Forge says who you are; nothing else is asked of it.",
        status=status,
        link=(_begin(coming_back), "Sign in with Forge"),
    )


def not_signed_in(why: str, status: int) -> HTMLResponse:
    return page("Not signed in", why, status=status, link=(_begin(HOME), "Sign in with Forge again"))


def tokens_only() -> HTMLResponse:
    return page(
        "Not for browsers yet",
        "This controller answers programs that bring a token. For people, start it with --sign-in-client and --sign-in-secret.",
        status=401,
    )


def signed_out() -> HTMLResponse:
    return page(
        "Signed out",
        "You are signed out here. At Forge you still are signed in: sign out there as well on a machine that is not yours.",
        link=(_begin(HOME), "Sign in again"),
    )


def _begin(coming_back: str) -> str:
    wanted = ours(coming_back)
    return "/sign-in/forge" if wanted == HOME else f"/sign-in/forge?next={quote(wanted, safe='/')}"
