"""`kind: Tester`: what an admin may write about one tester. Only the name and an e-mail address have no default.

Which fields a document sets itself is kept (`model_fields_set`), so that the Fleet's defaults can be merged under it
(specs.merging).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from specs.catalogue import ComponentName
from specs.frozen import Frozen
from specs.quantities import Date, Disk, Duration, Memory, parse_disk, parse_duration, parse_memory
from specs.references import SecretRef
from specs.ssh_keys import SshKey
from specs.text import (
    Channel,
    Email,
    Flag,
    ForgeName,
    GatewayName,
    Image,
    ItemName,
    NodeChoice,
    PublicPath,
    Sentence,
    SettingKey,
    SettingText,
    TesterName,
    Version,
    Whole,
)

API_VERSION = "hero.tester/v1"

WhenRemoved = Literal["keep", "disable", "delete", "purge"]
Updates = Literal["apply", "notify"]


def _is_text(value: Any) -> str:
    return "word" if isinstance(value, str) else "other"


def _is_mapping(value: Any) -> str:
    return "other" if isinstance(value, Mapping | Frozen) else "word"


class SecretValue(Frozen):
    """A value that is kept elsewhere."""

    secret: SecretRef
    """Where the value is kept: `env:NAME`, `file:path`, or a name in the sealed store."""


class Identity(Frozen):
    """Who the tester is."""

    email: Email
    """Where the welcome mail goes, and the address of a new account."""
    account: ForgeName | None = None
    """The name of the account at Forge, in its own spelling. Without it: the tester's name."""
    full_name: Sentence | None = None
    """The name that Forge shows for a new account."""
    existing: Flag = False
    """true: the account exists already and is only adopted; it is then never changed or deleted."""
    when_removed: WhenRemoved = "disable"
    """What happens to an account that we made when its tester is removed. `purge` also deletes all that it owns."""
    password_reset: Annotated[Whole, Field(ge=0, le=1_000_000)] = 0
    """Raise it by one to give the account a new one-time password. Not for existing accounts."""


ProviderWord = Literal["default", "own", "none"]
ProviderChoice = Annotated[
    Annotated[ProviderWord, Tag("word")] | Annotated[SecretValue, Tag("other")], Discriminator(_is_mapping)
]
"""`default`: the Fleet's key. `own`: the tester sets one, we never touch it. `none`: no key. Or `{secret: …}`."""

SshChoice = Annotated[
    Annotated[Literal["required"], Tag("word")] | Annotated[tuple[SshKey, ...], Tag("other")], Discriminator(_is_text)
]


class Keys(Frozen):
    """Which keys and tokens the tester's machine holds."""

    ssh: SshChoice = ()
    """Public SSH keys for a technical tester's command line; none by default. `required`: the account brings one."""
    providers: Mapping[ItemName, ProviderChoice] = {}
    """AI provider → `default`, `own`, `none`, or `{secret: reference}`."""
    rotate_engine_tokens: Annotated[Whole, Field(ge=0, le=1_000_000)] = 0
    """Raise it by one to give the machine new tokens for the shared engines."""


SettingValue = Annotated[
    Annotated[SettingText, Tag("word")] | Annotated[SecretValue, Tag("other")], Discriminator(_is_mapping)
]


class Components(Frozen):
    """Which components run on the machine, and how."""

    set: ItemName = "demo"
    """The component set to begin with, one of the Fleet's `componentSets`. Core components are always in it."""
    add: tuple[ComponentName, ...] = ()
    """Components besides those of the set."""
    remove: tuple[ComponentName, ...] = ()
    """Components of the set that this tester does not get. Core components cannot be taken out."""
    settings: Mapping[ComponentName, Mapping[SettingKey, SettingValue]] = {}
    """Component → setting → value. A value is text, or `{secret: reference}`."""
    public_paths: tuple[PublicPath, ...] = ()
    """Paths that strangers may open without signing in, each below one app, like `/hero_whiteboard/share/`."""


class VersionChoice(Frozen):
    """Which versions of the components."""

    channel: Channel = "latest"
    """The release channel from which components come."""
    updates: Updates = "apply"
    """`apply`: newer versions of the channel are installed. `notify`: the tester's status lists them."""
    pin: Mapping[ComponentName, Version] = {}
    """Component → the exact version that it stays at."""


class Machine(Frozen):
    """The virtual machine."""

    memory: Memory = parse_memory("8GiB")
    """Memory, like `8GiB`."""
    cpu: Annotated[Whole, Field(ge=1, le=64)] = 4
    """Virtual processors."""
    disk: Disk = parse_disk("50GiB")
    """The data disk, like `50GiB`."""
    rootfs: Disk = parse_disk("10GiB")
    """The root file system, like `10GiB`."""
    image: Image = "Ubuntu 24.04"
    """The image from which the machine is made."""
    node: NodeChoice = "auto"
    """`auto`, or a daemon's name and its own id of the node, like `gent/0001`."""
    rebuild: Annotated[Whole, Field(ge=0, le=1_000_000)] = 0
    """Raise it by one to have the machine built anew. What is on it is lost; the account stays."""
    keep_after_removal: Duration = parse_duration("24h")
    """How long machine and gateway stay, with the door shut, after their tester was removed."""


class WelcomeEmail(Frozen):
    """Whether and how often the welcome mail goes out."""

    send: Flag = True
    """Whether the mail is sent at all."""
    resend: Annotated[Whole, Field(ge=0, le=1000)] = 0
    """Raise it by one to have it sent once more."""


WelcomeChoice = Annotated[
    Annotated[Flag, Tag("word")] | Annotated[WelcomeEmail, Tag("other")], Discriminator(_is_mapping)
]


class Paused(Frozen):
    """Nothing is changed for this tester; the door is still watched."""

    reason: Sentence
    """Why."""
    by: Sentence
    """Who said so."""
    until: Date | None = None
    """The day on which work goes on by itself. Without it: when this block is taken out."""


class TesterDefaults(Frozen):
    """The part of a tester that the Fleet may give defaults for."""

    allowlist: tuple[ForgeName, ...] = ()
    """Accounts that may sign in besides the tester and the admins, who are always on the list."""
    keys: Keys = Keys()
    """SSH keys and AI provider keys."""
    components: Components = Components()
    """What runs on the machine."""
    version: VersionChoice = VersionChoice()
    """At which versions."""
    machine: Machine = Machine()
    """The virtual machine."""
    welcome_email: WelcomeChoice = True
    """true, false, or `{send: true, resend: 1}`."""


class TesterSpec(TesterDefaults):
    """What one tester should have."""

    identity: Identity
    """Who the tester is."""
    address: GatewayName = "auto"
    """`auto`, or the first label of the public address."""
    expires: Date | None = None
    """The last day; on the next one the tester is removed as if the file were gone."""
    paused: Paused | None = None
    """Leave this tester alone for now."""


class TesterMetadata(Frozen):
    """What the tester is called."""

    name: TesterName
    """The tester's name: 2 to 40 lowercase letters, digits and single dashes, a letter first. Never changes."""


class Tester(Frozen):
    """One tester of the fleet."""

    api_version: Literal["hero.tester/v1"]
    """The version of this language."""
    kind: Literal["Tester"]
    """This document describes a tester."""
    metadata: TesterMetadata
    """What the tester is called."""
    spec: TesterSpec
    """What the tester should have."""

    @property
    def name(self) -> str:
        """Short for `metadata.name`."""
        return self.metadata.name

    @property
    def account(self) -> str:
        """The account's name in its own spelling: `identity.account`, or the tester's name."""
        return self.spec.identity.account or self.metadata.name
