"""What a command says when it cannot do what was asked."""

from __future__ import annotations


class Complaint(Exception):
    """The message is one readable paragraph for the person at the terminal: what, where, and what to do."""
