"""Who is told when something happens to a tester, besides everybody who looks: by mail, or by a webhook of their own."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field

from specs.frozen import Frozen
from specs.quantities import Span
from specs.references import SecretRef
from specs.text import Email, ItemName

NoticeKind = Literal["ready", "failing", "door", "update", "expiring"]
KINDS: Final[tuple[NoticeKind, ...]] = ("ready", "failing", "door", "update", "expiring")


class NoticeHook(Frozen):
    """A webhook that takes notices: JSON with `text`, as chat servers take it, and `notices` for programs."""

    name: ItemName
    """What it is called here."""
    url: SecretRef
    """Where its address is kept: whoever knows it may write there, so it is a secret."""
    secret: SecretRef | None = None
    """Where the secret is kept under which deliveries are signed (`X-Hub-Signature-256`). Without it they are not."""


class Notify(Frozen):
    """Notices. Each thing is told once; that it is over only after it has stayed so."""

    mail: tuple[Email, ...] = ()
    """Who gets a letter. It goes out as `spec.mail` says."""
    hooks: tuple[NoticeHook, ...] = ()
    """Which webhooks are called."""
    about: Annotated[tuple[NoticeKind, ...], Field(min_length=1)] = KINDS
    """ready: somebody is Ready for the first time; failing: and since when, and that it is over; door: one was found open, and
    that it is proven again; update: something newer is published; expiring: a last day is near."""
    failing_for: Span = timedelta(minutes=15)
    """How long something fails before it is told. What waits for a person is told at once."""
    recovered_for: Span = timedelta(minutes=10)
    """How long it must be well again before that is told."""

    def secrets(self) -> tuple[SecretRef, ...]:
        """Every secret that it refers to."""
        found = [ref for hook in self.hooks for ref in (hook.url, hook.secret)]
        return tuple(ref for ref in found if ref is not None)
