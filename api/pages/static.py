"""The one style sheet, the one script and the icon. Their addresses change with their content, so that browsers may keep them."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from api.pages.render import STATIC, version_of

KINDS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
KEPT = "private, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(name: str, request: Request) -> Response:
    """Only what is listed: no path leads anywhere else."""
    if name not in KINDS:
        raise HTTPException(404, "there is no such file")
    tag = f'"{version_of(name)}"'
    headers = {"ETag": tag, "Cache-Control": KEPT}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response((STATIC / name).read_bytes(), headers=headers, media_type=KINDS[name])
