"""From an error to the paragraph that a person at the terminal can act on."""

from __future__ import annotations

from collections.abc import Callable

from api.complaint import Complaint
from controller.store import StoreError
from reconcilers.errors import OutsideError


def paragraph(error: BaseException) -> str | None:
    """The paragraph for an error that people can act on; None for one that is our own mistake."""
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words(error)
    return None


def _of_system(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return str(error)
    what = error.strerror or str(error)
    return f"{error.filename}: {what}." if error.filename else f"{what}."


_WORDS: dict[type[BaseException], Callable[[BaseException], str]] = {
    Complaint: str,
    StoreError: str,
    OutsideError: str,
    OSError: _of_system,
}
