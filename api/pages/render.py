"""From values to HTML. Everything that comes from outside is cleaned and escaped here, whether a template thinks of it or not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.access.who import viewer_of
from api.pages.pictures import bar, icon, share, strip
from api.time_left import about, time_left, usual_wait
from api.waiting import whom, whom_of
from api.words import ahead, one_line, safe

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
STATIC: Final = Path(__file__).parents[1] / "static"
UNSEEN = "unknown"
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
EXACT_BELOW: Final = 3
"""Of so many days, hours or minutes the smaller unit is not told any more."""


def page(request: Request, template: str, now: datetime, /, **values: Any) -> HTMLResponse:
    """A whole page."""
    return HTMLResponse(_environment().get_template(template).render(**_frame(request, now), **values))


def part(request: Request, parts: Mapping[str, str], name: str, now: datetime, /, **values: Any) -> HTMLResponse:
    """One part of a page: what stands inside the element of this id. 404 for a part that the page does not have."""
    if name not in parts:
        return HTMLResponse("<p>This page has no such part.</p>", 404)
    text = _environment().get_template(parts[name]).render(**_frame(request, now), **values)
    return HTMLResponse(text)


def query(**values: object) -> str:
    """`?a=1&b=2` of what is set; "?" for nothing, which is the page itself."""
    return "?" + urlencode({key: str(value) for key, value in values.items() if value})


@cache
def version_of(name: str) -> str:
    """A mark of a static file's content, so that browsers take a new one at once."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def _frame(request: Request, now: datetime) -> dict[str, Any]:
    """What every template may use."""
    viewer = viewer_of(request)
    return {
        "now": now,
        "position": getattr(request.state, "position", ""),
        "path": request.url.path,
        "viewer": viewer.name if viewer is not None else "",
        "signed_in": viewer is not None and viewer.how == "forge",
        "since": lambda then: _since(then, now),
        "until": lambda then: ahead(then, now),
        "waits_for": lambda one: whom(one.blames, one.until, now, retried=one.retried),
        "blamed": lambda one: whom_of(one, now),
    }


def _since(then: datetime | None, now: datetime) -> Markup:
    """An age; the browser counts on."""
    if then is None:
        return Markup('<span class="soft">{}</span>').format(UNSEEN)
    moment = then.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(moment, _age(now - then))


def _age(length: timedelta) -> str:
    """As exact as it is of use: `2 min 5 s ago`, `3 min ago`, `1 d 4 h ago`, `12 d ago`."""
    if length < timedelta(seconds=1):
        return "now"
    return f"{_short(length)} ago"


def _clean(value: Any) -> Any:
    """Foreign text without what turns it around; markup that we made ourselves stays."""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _amount(mib: int) -> str:
    """`8 GiB`, `512 MiB`."""
    return f"{mib / 1024:g} GiB" if mib % 512 == 0 else f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"


def _step_words(told: str) -> str:
    """`sign_in_gate: …` → `sign in gate: …`."""
    step, colon, rest = told.partition(":")
    return f"{step.replace('_', ' ')}{colon}{rest}"


def _short(length: timedelta | None) -> str:
    """`45 s`, `2 min 5 s`, `3 min`, `1 d 4 h`: the next smaller unit only beside a few of the larger one."""
    if length is None:
        return ""
    left = max(int(length.total_seconds()), 0)
    for (size, unit), (smaller, its_unit) in pairwise(UNITS):
        count, rest = divmod(left, size)
        if count:
            more = rest // smaller if count < EXACT_BELOW else 0
            return f"{count} {unit} {more} {its_unit}" if more else f"{count} {unit}"
    return f"{left} s"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "line": one_line,
        "step_words": _step_words,
        "span": _short,
        "about": about,
        "amount": _amount,
        "time_left": time_left,
        "usual_wait": usual_wait,
        "is_https": lambda link: str(link).startswith("https://"),
    }
    made.globals |= {
        "icon": icon,
        "bar": bar,
        "strip": strip,
        "share": share,
        "query": query,
        "asset": asset,
        "time_left_of": lambda one: time_left(one.estimate),
    }
    return made


def asset(name: str) -> str:
    """The address of a static file, which changes with its content."""
    return f"/static/{name}?v={version_of(name)}"
