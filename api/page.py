"""The page at `/`, made of values. Everything that comes from outside is escaped, and links lead to https only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from html import escape

from api.time_left import time_left
from api.words import ago, one_line
from controller.queries import FleetSummary, TesterSummary
from controller.records import Event, Phase, Severity

RENEWED_EVERY = 5  # seconds

STYLE = """
:root { color-scheme: light dark; --line: #8883; --soft: light-dark(#666, #a5a5a5); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, time { color: var(--soft); } time { white-space: nowrap; } p.bad { color: #c33; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; } th, td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); }
th, td { vertical-align: top; }
td.now { overflow-wrap: anywhere; } progress { width: 6rem; height: .6rem; vertical-align: middle; }
.phase { font-weight: 600; white-space: nowrap; }
.Ready { color: #197a3a; } .Failing, .Paused, .Removing { color: #b26a00; } .Stalled { color: #c33; }
.Waiting, .Progressing { color: #1a6fb5; }
.Warning { color: #b26a00; }
@media (prefers-color-scheme: dark) {
  .Ready { color: #5ccb82; } .Waiting, .Progressing { color: #6db6f2; } .Failing, .Paused, .Removing { color: #f0ad4e; }
  p.bad, .Stalled { color: #f08080; } .Warning { color: #f0ad4e; }
}
@media (max-width: 44rem) {
  body { margin: 1rem auto; } thead, progress { display: none; } td { border: 0; padding: 0 .6rem 0 0; }
  tr { display: flex; flex-wrap: wrap; padding: .45rem 0; border-bottom: 1px solid var(--line); }
  td.now { order: 1; width: 100%; }
}
"""
STYLE_HASH = f"sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}"


def page(fleet: FleetSummary, testers: tuple[TesterSummary, ...], events: tuple[Event, ...], now: datetime) -> str:
    """The whole document."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{RENEWED_EVERY}">
<title>Testers</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Testers</h1>
<p>{_numbers(fleet)}</p>
{_troubles(fleet)}
{_source(fleet, now)}
<table>
<thead><tr><th>Tester</th><th>Phase</th><th>Progress</th><th>Now</th><th>Since</th><th>Seen</th></tr></thead>
<tbody>
{_rows(testers, now)}
</tbody>
</table>
<h2>What happened last</h2>
<table>
<tbody>
{_events(events, now)}
</tbody>
</table>
<p>As of {_moment(now)}. The same for programs: <a href="/api/v1/testers">/api/v1/testers</a>,
<a href="/openapi.json">/openapi.json</a>.</p>
</body>
</html>
"""


def _numbers(fleet: FleetSummary) -> str:
    counts = [f"{count} {escape(phase)}" for phase, count in fleet.phases.items() if count]
    return f"{fleet.total} in all: {', '.join(counts)}" if counts else "Nobody yet."


def _troubles(fleet: FleetSummary) -> str:
    return "\n".join(f'<p class="bad">{_text(each)}</p>' for each in fleet.troubles)


def _source(fleet: FleetSummary, now: datetime) -> str:
    source = fleet.source
    if source is None:
        return '<p class="bad">The specs have not been read yet.</p>'
    lines = [
        f"<p>From the {_text(source.source)}, revision {_text(source.revision)}, taken in {ago(source.read_at, now)}.</p>"
    ]
    if source.held:
        lines.append(f'<p class="bad">Held back from removal: {_text(", ".join(source.held))}.</p>')
    lines += [f'<p class="bad">{_text(error)}</p>' for error in source.errors]
    return "\n".join(lines)


def _rows(testers: Iterable[TesterSummary], now: datetime) -> str:
    return "\n".join(_row(one, now) for one in testers)


def _row(one: TesterSummary, now: datetime) -> str:
    record = one.record
    file = f"<br>{_text(record.source_error)}" if record.source_error else ""
    return (
        f"<tr><td><strong>{_text(record.name)}</strong></td>"
        f'<td class="phase {_class(record.phase)}">{_text(record.phase)}</td>'
        f'<td><progress max="100" value="{record.progress}"></progress> {record.progress}%</td>'
        f'<td class="now">{_now(one)}{file}</td>'
        f"<td>{_since(one.since, now)}</td><td>{_since(one.seen_at, now)}</td></tr>"
    )


def _now(one: TesterSummary) -> str:
    """The cockpit's link once it is proven to be guarded; before that, what is waited for."""
    if one.ready and one.link.startswith("https://"):
        link = escape(one.link, quote=True)
        return f'<a href="{link}" rel="noreferrer noopener">{link}</a>'
    left = time_left(one.estimate)
    return _text(one.record.current or one.message) + (f"<br><strong>{_text(left)}</strong>" if left else "")


def _events(events: Iterable[Event], now: datetime) -> str:
    return "\n".join(
        f"<tr><td>{_since(one.last_at or one.at, now)}</td><td>{_text(one.tester or 'fleet')}</td>"
        f'<td class="{_class(one.severity)}">{_text(one.reason)}</td><td class="now">{_text(one.message)}'
        f"{f' ({one.count} times)' if one.count > 1 else ''}</td></tr>"
        for one in events
    )


def _since(then: datetime | None, now: datetime) -> str:
    return f'<time datetime="{_moment(then)}">{ago(then, now)}</time>' if then else "unknown"


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _class(word: Phase | Severity) -> str:
    return escape(str(word), quote=True)


def _text(foreign: str) -> str:
    return escape(one_line(foreign), quote=True)
