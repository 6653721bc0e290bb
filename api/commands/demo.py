"""`testerctl demo`: three testers come to life in a make-believe world."""

from __future__ import annotations


def command() -> None:
    """Show three testers come to life."""
