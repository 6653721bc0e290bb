"""The way in and out: sign-in with Forge, and its end. These change nothing but a cookie of the browser that asks."""

from __future__ import annotations

from typing import Annotated, Final, cast
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.access import cookies, pages
from api.access.access import LOOPBACK_NAMES, Access, host_of
from api.access.coming_back import HOME, ours
from api.access.limits import SPAN, Allowance, place_of
from api.access.sessions import LIVES
from api.access.sign_in import CALLBACK, PATIENCE, Refused, Returned, SignIn
from api.problems import refusal

router = APIRouter(include_in_schema=False)

SEE_OTHER: Final = 303
Text = Annotated[str, Query(max_length=4000)]


def _access(request: Request) -> Access:
    return cast(Access, request.app.state.access)


def _sign_in(request: Request) -> SignIn:
    found = _access(request).sign_in
    if found is None:
        raise HTTPException(
            404, "nobody signs in here: start the controller with --sign-in-client and --sign-in-secret"
        )
    return found


@router.get("/sign-in")
async def door(request: Request, next: Text = HOME) -> Response:
    """The page with the way in."""
    _sign_in(request)
    return pages.sign_in(next)


@router.get("/sign-in/forge")
async def begin(request: Request, next: Text = HOME) -> Response:
    """On to Forge."""
    sign_in, access = _sign_in(request), _access(request)
    if elsewhere := _other_name_of_here(request, access):
        return RedirectResponse(f"{elsewhere}/sign-in/forge?{urlencode({'next': ours(next)})}", SEE_OTHER)
    if (refusal := _too_often(request, access.begins)) is not None:
        return refusal
    try:
        begun = await sign_in.begin(next)
    except Refused as error:
        return pages.not_signed_in(str(error), error.status)
    answer = RedirectResponse(begun.location, SEE_OTHER)
    access.jar.put(answer, cookies.SIGN_IN, begun.kept, PATIENCE)
    return answer


@router.get(CALLBACK)
async def came_back(request: Request, state: Text = "", code: Text = "", error: Text = "", iss: Text = "") -> Response:
    """Back from Forge: a new session for an admin, and none for anybody else."""
    sign_in, access = _sign_in(request), _access(request)
    if (refusal := _too_often(request, access.returns)) is not None:
        return refusal
    kept = access.jar.get(request, cookies.SIGN_IN)
    answer: Response
    try:
        done = await sign_in.finish(Returned(kept, state, code, error, iss))
    except Refused as refused:
        answer = pages.not_signed_in(str(refused), refused.status)
    else:
        await access.sessions.end(access.jar.get(request, cookies.SESSION))
        answer = RedirectResponse(done.coming_back, SEE_OTHER)
        access.jar.put(answer, cookies.SESSION, access.sessions.begin(done.person, done.forge), LIVES)
    access.jar.drop(answer, cookies.SIGN_IN)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """The session ends here, and no copy of its cookie opens anything."""
    access = _access(request)
    if _is_from_elsewhere(request, access):
        return refusal(request, 403, "another site asked for this")
    await access.sessions.end(access.jar.get(request, cookies.SESSION))
    answer = RedirectResponse("/signed-out", SEE_OTHER)
    access.jar.drop(answer, cookies.SESSION)
    return answer


@router.get("/signed-out")
async def signed_out(request: Request) -> Response:
    """What is left to say."""
    _sign_in(request)
    return pages.signed_out()


def _is_from_elsewhere(request: Request, access: Access) -> bool:
    """Whether the page of another site sent this. Browsers of today say so; older ones name the site, or nothing."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and not access.is_ours(urlsplit(origin).netloc)


def _too_often(request: Request, allowance: Allowance) -> Response | None:
    if allowance.takes(place_of(request, _access(request).behind_a_proxy)):
        return None
    answer = pages.page(
        "Too many sign-ins", "Wait a minute, then try again.", status=429, link=("/sign-in", "Back to the sign-in")
    )
    answer.headers["Retry-After"] = str(int(SPAN.total_seconds()))
    return answer


def _other_name_of_here(request: Request, access: Access) -> str:
    """Where to begin instead: cookies of `localhost` do not come along to `127.0.0.1`, to which Forge sends back. "" if here."""
    asked, known = host_of(request.headers.get("host", "")), host_of(urlsplit(access.base).netloc)
    return access.base if asked != known and {asked, known} <= LOOPBACK_NAMES else ""
