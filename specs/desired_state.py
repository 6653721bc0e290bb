"""The shape of a tester's desired state: everything resolved, nothing left to default. specs.desired makes it."""

import hashlib
from typing import Self

from pydantic import BaseModel, model_validator

from specs.fleet import NodeSid
from specs.frozen import Frozen
from specs.quantities import Date, Duration
from specs.references import SecretRef
from specs.tester import Paused, Updates, WhenRemoved


class DesiredAccount(Frozen):
    """The account at Forge."""

    name: str
    """In its own spelling."""
    email: str
    """Address of a new account, and of the welcome mail."""
    existing: bool
    """true: only adopted, never changed or deleted."""
    when_removed: WhenRemoved
    """What happens on removal; always `keep` for an adopted account."""
    full_name: str | None
    """The name to show, for a new account."""
    password_reset: int
    """A counter: a higher one asks for a new one-time password."""


class DesiredComponent(Frozen):
    """A component to install and keep running."""

    name: str
    """Its name, and its executable's."""
    version: str | None
    """The exact version that it is pinned to; None: the channel's newest."""
    services: tuple[str, ...]
    """What hero_proc supervises of it."""
    health: str | None
    """The service whose /<service>/health answers for it."""
    needs: tuple[str, ...]
    """Those of the tester's components that must run for this one to start."""
    sends: str | None = None
    """A path that must answer for it to count as functional."""
    assumed: bool = False
    """That path is an assumption (A): an app that does not know it says nothing about itself."""


class DesiredSetting(Frozen):
    """One of hero_proc's secrets that is ours. Either a value or a reference, never both."""

    context: str
    """The context in which it is kept."""
    key: str
    """Its key in that context."""
    value: str | None = None
    """The value, byte for byte."""
    secret: SecretRef | None = None
    """Where the value is kept."""
    readers: tuple[str, ...]
    """Services that read it at start, and must restart when it changes."""
    origin: str
    """What asked for it: `component hero_books`, `provider openrouter`, `engine embedder`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.value is None) == (self.secret is None):
            raise ValueError("a setting has either a value or a secret")
        return self


class DesiredEngine(Frozen):
    """A shared engine. Its address is among the settings; the tester's token for it is made by engine_access.

    Where the token is registered is the Fleet's business, and its client's (reconcilers.backends.engines).
    """

    name: str
    """The engine."""
    url: str
    """Where it is reached."""
    context: str
    """The context of its settings on the tester's machine."""
    token_setting: str
    """The key under which the token goes to the machine."""
    readers: tuple[str, ...]
    """Services that read the token at start."""


class DesiredMachine(Frozen):
    """The virtual machine."""

    memory_mb: int
    """Memory in MiB."""
    cpu: int
    """Virtual processors."""
    disk_gb: int
    """Data disk in GiB."""
    rootfs_gb: int
    """Root file system in GiB."""
    image: str
    """The image's name."""
    node: str
    """`auto`, or `daemon/sid`."""
    rebuild: int
    """A counter: a higher one asks for a new machine."""
    keep_after_removal: Duration
    """How long it stays after its tester was removed."""

    @property
    def placement(self) -> tuple[str, NodeSid] | None:
        """The daemon's name and the node's id there; None for `auto`."""
        if self.node == "auto":
            return None
        daemon, _, sid = self.node.partition("/")
        return daemon, NodeSid(sid)


class DesiredWelcome(Frozen):
    """The welcome mail."""

    send: bool
    """Whether it is sent; false also when the Fleet sends no mail to anybody."""
    resend: int
    """A counter: a higher one asks for another mail."""


class DesiredTester(Frozen):
    """All that one tester should have."""

    name: str
    """The tester's name."""
    account: DesiredAccount
    """The account at Forge."""
    allowlist: tuple[str, ...]
    """Who may sign in: the tester's account first, then the admins, then others; no name twice, whatever its case."""
    admins: tuple[str, ...]
    """The admins among them."""
    ssh_keys: tuple[str, ...]
    """Authorised keys: the admins' and the tester's. The installer's own is added by the step that knows it."""
    ssh_key_required: bool
    """The account must bring a key of its own, from Forge."""
    components: tuple[DesiredComponent, ...]
    """In the order in which they start."""
    settings: tuple[DesiredSetting, ...]
    """By context and key; never one that the sign-in gate keeps."""
    foreign_settings: tuple[tuple[str, str], ...]
    """Context and key of settings that the tester keeps; we never touch them."""
    engines: tuple[DesiredEngine, ...]
    """The shared engines."""
    engine_rotation: int = 0
    """A counter: a higher one asks for new tokens at the shared engines."""
    public_paths: tuple[str, ...]
    """Paths that strangers may open."""
    channel: str
    """The release channel."""
    updates: Updates
    """Whether newer versions are installed or only reported."""
    machine: DesiredMachine
    """The virtual machine."""
    address: str
    """`auto`, or the first label of the public address."""
    welcome: DesiredWelcome
    """The welcome mail."""
    expires: Date | None
    """The last day."""
    paused: Paused | None
    """Set: leave this tester alone for now."""


def digest(model: BaseModel) -> str:
    """A fingerprint of a model's content: equal exactly when the content is equal. 64 hex digits."""
    return hashlib.sha256(model.model_dump_json().encode()).hexdigest()


def needs_of_secret(desired: DesiredTester) -> tuple[SecretRef, ...]:
    """Every secret that the desired state refers to, once: each must be found before the first action (lesson 37)."""
    return tuple(dict.fromkeys(each.secret for each in desired.settings if each.secret is not None))
