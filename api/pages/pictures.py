"""Small pictures, drawn as SVG: state by shape as well as by colour, and bars. No style attributes: the policy forbids them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from markupsafe import Markup

from controller.boards.components import ComponentBoard

SHAPES: Final[Mapping[str, str]] = {
    "ready": '<circle cx="8" cy="8" r="7" class="fill"/><path d="M4.8 8.2l2.2 2.2 4.2-4.6" class="cut"/>',
    "stalled": '<rect x="1.2" y="1.2" width="13.6" height="13.6" rx="2.6" class="fill"/>'
    '<path d="M8 4.4v4.4M8 11.4v.2" class="cut"/>',
    "failing": '<path d="M8 1.2l7 12.9H1z" class="fill join"/><path d="M8 6v3.4M8 11.8v.2" class="cut"/>',
    "waiting": '<circle cx="8" cy="8" r="6.2" class="ring"/><path d="M8 4.6V8l2.4 1.6" class="ring"/>',
    "progressing": '<circle cx="8" cy="8" r="6.2" class="ring"/><path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" class="fill"/>',
    "pending": '<circle cx="8" cy="8" r="6.2" class="ring dotted"/>',
    "paused": '<circle cx="8" cy="8" r="6.2" class="ring"/><path d="M6.2 5.6v4.8M9.8 5.6v4.8" class="ring"/>',
    "removing": '<circle cx="8" cy="8" r="6.2" class="ring"/><path d="M5 8h6" class="ring"/>',
    "expired": '<circle cx="8" cy="8" r="6.2" class="ring"/><path d="M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8" class="ring"/>',
    "unknown": '<circle cx="8" cy="8" r="6.2" class="ring dotted"/><path d="M8 8v.2" class="ring"/>',
}
"""By state, in a square of 16."""

ALIKE: Final[Mapping[str, str]] = {
    "done": "ready",
    "running": "waiting",
    "stuck": "stalled",
    "danger": "stalled",
    "notice": "failing",
    "before": "pending",
    "success": "ready",
    "failure": "stalled",
    "superseded": "expired",
    "warning": "failing",
    "well": "ready",
    "does not answer": "failing",
    "install failed": "stalled",
    "not there yet": "pending",
    "online": "ready",
    "offline": "stalled",
    "true": "ready",
    "false": "failing",
}
"""Other words → the state whose shape they have."""


def shape_of(word: str) -> str:
    """The state whose shape and colour stand for a word."""
    known = word.lower()
    known = ALIKE.get(known, known)
    return known if known in SHAPES else "unknown"


def icon(word: str) -> Markup:
    """The shape of a state; the word itself stands beside it."""
    shape = shape_of(word)
    return Markup(  # noqa: S704 - of our own table
        f'<svg class="icon {shape}" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{SHAPES[shape]}</svg>'
    )


def bar(*parts: tuple[str, float], total: float, label: str) -> Markup:
    """A bar of named parts (`used`, 12.0) of a total, told in words to who does not see it."""
    whole = max(total, sum(size for _, size in parts), 0.0) or 1.0
    drawn, at = [], 0.0
    for name, size in parts:
        width = 100 * size / whole
        drawn.append(f'<rect class="{name}" x="{at:.2f}" y="0" width="{width:.2f}" height="8"/>')
        at += width
    inside = Markup("").join(map(Markup, drawn))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="rest" x="0" y="0" width="100" height="8"/>{}</svg>'
    ).format(label, inside)


def strip(counts: Iterable[tuple[str, int]], label: str) -> Markup:
    """Counts by state as one bar; states take the colours of their shapes."""
    found = [(shape_of(name), float(count)) for name, count in counts]
    return bar(*found, total=sum(count for _, count in found), label=label)


def share(one: ComponentBoard) -> Markup:
    """How many run the newest version of a component, how many another one."""
    newest = sum(len(each.testers) for each in one.versions if each.newest)
    other = sum(len(each.testers) for each in one.versions if each.version and not each.newest)
    words = f"{newest} of {one.wanted} run the newest, {other} another version"
    return bar(("newest", newest), ("older", other), total=one.wanted, label=words)
