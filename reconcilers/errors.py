"""What can go wrong outside, and what each kind means for the next try.

    OutsideError
    ├── Rejected          the spec is wrong: stop until it changes
    │   └── NameTaken     the name is held by somebody: the engine goes on to the next attempt's name
    ├── Blocked           somebody must act: the message says who, and what
    ├── Throttled         the whole bucket waits for `retry_after`
    ├── Transient         try again, with backoff and jitter
    │   └── Unreachable   nothing was sent: there is nobody at the other end
    └── OutcomeUnknown    the call may have had its effect: look again before acting

Backends raise, the engine decides (law 5).
"""

from __future__ import annotations

from datetime import timedelta


class OutsideError(Exception):
    """An outside system did not do what was asked.

    `system` names it for people ("Forge", "compute main", "machine of alice"), `reason` is a stable CamelCase word
    that conditions and events share, `message` is one readable sentence without secrets.
    """

    default_reason = "OutsideError"

    def __init__(self, message: str, *, system: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.system = system
        self.reason = reason or self.default_reason

    def __str__(self) -> str:
        return f"{self.system}: {self.message}"


class Rejected(OutsideError):
    """A definite no that will be the same no until the spec changes."""

    default_reason = "Rejected"


class NameTaken(Rejected):
    """The name is held already, by a stranger or by a leftover of ours."""

    default_reason = "NameTaken"


class Blocked(OutsideError):
    """Nothing that we can do helps until a person acts; the message says who and what."""

    default_reason = "Blocked"


class Throttled(OutsideError):
    """The other side asks us to slow down; `retry_after` is how long, None when it did not say."""

    default_reason = "Throttled"

    def __init__(self, message: str, *, system: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message, system=system)
        self.retry_after = retry_after


class Transient(OutsideError):
    """A failure that had no effect and may pass by itself."""

    default_reason = "Transient"


class Unreachable(Transient):
    """Nothing was sent: no connection could be made."""

    default_reason = "Unreachable"


class OutcomeUnknown(OutsideError):
    """The call may or may not have had its effect (lesson 11): never a failure, never a success."""

    default_reason = "OutcomeUnknown"
