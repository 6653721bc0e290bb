"""Facts: what steps learnt and later steps use. Recorded by the engine, kept in the store, never secret.

A fact serves whatever its step's state is now (DESIGN, "needs"). Facts about what lives *on* a machine die with that
machine: the engine records which machine they speak of and forgets them when another takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from reconcilers.errors import Blocked, Transient
from reconcilers.secret import Secret
from specs.fleet import Fleet


class KnownAfter(str):
    """Stands in a preview for a value that only a later step will bring."""

    __slots__ = ()

    def __new__(cls, step: str) -> Self:
        return super().__new__(cls, f"(known after {step})")


class StepFacts(BaseModel):
    """Base of what one step records."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # no arbitrary types: a secret is none that it takes

    step: ClassVar[str]
    on_machine: ClassVar[bool] = False
    passing: ClassVar[frozenset[str]] = frozenset()  # fields that only tell when something was last seen to be as it is
    marks: ClassVar[frozenset[str]] = frozenset()  # fields that hold the marks of secrets: of use to nobody who reads

    def is_as(self, other: StepFacts) -> bool:
        """Whether both tell the same, whenever that was last seen."""
        if type(self) is not type(other):
            return False
        return all(
            _alike(getattr(self, name), getattr(other, name), name in self.passing) for name in type(self).model_fields
        )

    def shown(self) -> dict[str, Any]:
        """What windows show of it, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.marks))

    @classmethod
    def unknown(cls) -> Self:
        """Placeholders for a preview: every text says after which step it will be known."""
        later = KnownAfter(cls.step)
        blank: dict[str, Any] = {
            name: later if info.annotation is str else info.get_default() for name, info in cls.model_fields.items()
        }
        return cast(Self, cls.model_construct(None, **blank))


def _alike(one: object, other: object, passing: bool) -> bool:
    if not passing or one is None or other is None:
        return one == other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys()
    return True


class Double(BaseModel):
    """Another thing under the very name of the one in use. `ours`: it is proven that a call of ours made it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    where: str  # a daemon, or Forge
    name: str
    how: str  # it came about, as far as anybody can tell
    seen_at: datetime  # first
    made_at: datetime | None = None  # as it is told where it is
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.where}/{self.id}) beside it since {self.seen_at:%Y-%m-%d %H:%M} UTC: {self.how}"


class FactsOfOne(StepFacts):
    """Of a step that keeps one thing, beside which others may stand in quarantine."""

    doubles: tuple[Double, ...] = ()

    def shown(self) -> dict[str, Any]:
        return {**super().shown(), "doubles": [str(each) for each in self.doubles]}


class AccountFacts(StepFacts):
    step = "account"
    account: str  # in Forge's own spelling
    forge_id: int = 0
    made_by_us: bool = False
    password_reset: int = 0  # the spec's counter that the last one-time password was made for
    feedback: tuple[str, ...] = ()  # repositories that we gave it access to, or may have: written down before the call


class MachineFacts(FactsOfOne):
    step = "machine"
    daemon: str
    vm_id: str
    vm_name: str
    node_sid: str = ""
    grid_node: str = ""
    address: str  # Mycelium, 400::/7; recorded only once it is known
    unasked: tuple[str, ...] = ()  # daemons that have not yet told whether they have the same address

    @property
    def key(self) -> str:
        """A machine's identity is daemon *and* id (lesson 9)."""
        return f"{self.daemon}/{self.vm_id}"


class MachineAccessFacts(StepFacts):
    step = "machine_access"
    on_machine = True
    host_key: str  # in OpenSSH's public form, pinned at first contact


class GatewayFacts(StepFacts):
    step = "gateway"
    daemon: str
    gateway_id: str
    gateway_name: str
    fqdn: str
    computed: bool = False  # True: neither the daemon nor its listing told the address (lesson 13)
    backend: str = ""


class SignInAppFacts(FactsOfOne):
    step = "sign_in_app"
    app_id: int = 0
    client_id: str
    redirect_uri: str
    owner: str = ""  # the account that the app belongs to: the token's


class SupervisorFacts(StepFacts):
    step = "supervisor"
    on_machine = True
    version: str


class WatchedFacts(StepFacts):
    """Of a step that watches services: those that run but do not answer (lesson 34)."""

    on_machine = True
    unwell: Mapping[str, datetime] = {}  # service → since when
    restarted: Mapping[str, datetime] = {}  # service among them → when we restarted it
    updated: Mapping[str, str] = {}  # component → the published version for which an update was begun last


class FrontDoorFacts(WatchedFacts):
    step = "front_door"
    router: str
    proxy: str
    seen_shut_at: datetime | None = None  # when the listener was first seen to be off since the gateway was cut off


class SettingsFacts(StepFacts):
    step = "settings"
    on_machine = True
    marks = frozenset({"handed"})
    written: int = 0
    handed: Mapping[str, str] = {}  # "context/KEY" of a provider's key that we wrote → mark of the value


class ComponentsFacts(WatchedFacts):
    step = "components"
    versions: Mapping[str, str] = {}  # "unknown" for a component that does not tell (lesson 32)
    healthy: bool = False  # every component of the spec was well when it was last looked at


class KeptLog(BaseModel):
    """How an install job ended badly, and the end of what it printed, without secrets."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    machine: str  # MachineFacts.key of the one that it ran on
    state: str  # failed, died
    rc: int | None = None
    wanted: str = ""
    result: str = ""
    began: str = ""  # by the machine's own clock
    log: str = ""
    at: datetime  # when we first saw it so


class InstallLogsFacts(StepFacts):
    """Of no step of its own: every look at the machine may bring one. It outlives the machine (lesson 36)."""

    step = "install_logs"
    kept: Mapping[str, KeptLog] = {}  # job → how it last ended badly, until it is seen to end well

    def shown(self) -> dict[str, Any]:
        """What was printed is long, and shown as a log."""
        return {job: f"{log.state} on {log.machine}, began {log.began}" for job, log in self.kept.items()}


class SignInGateFacts(StepFacts):
    step = "sign_in_gate"
    on_machine = True
    passing = frozenset({"checked_at", "checked_path"})
    proven: str = ""  # digest of what was proven: address, client, paths; empty while the door is not proven
    checked_at: datetime | None = None  # when the door was last seen from outside
    checked_path: int = 0  # which path was looked at last, for the long round
    cut: bool = False  # the gateway was taken away because the door stood open and the machine could not be reached
    cut_at: datetime | None = None  # when it was: what was seen before says nothing of the door since
    listening: bool = False  # whether the listener was seen open, or set to open
    opened_at: datetime | None = None  # since when it has been open without being proven
    shut_at: datetime | None = None  # when it was last seen to have been shut
    shuts: int = 0  # how often in a row it was shut without having been proven in between
    public: bool | None = None  # whether the public address answered when it was last asked
    trouble: str = ""  # why the public address did not: "GridRouting", "NoAnswer"
    unrouted: str = ""  # the id of the gateway that leads nowhere though the machine answers
    unrouted_since: datetime | None = None
    let_in: str = ""  # where a stranger was let in, in words; remembered until the door is proven anew


def is_since_cut(at: datetime | None, gate: SignInGateFacts) -> bool:
    """Whether what was seen at a moment was seen after the door's gateway was cut off."""
    return at is not None and (gate.cut_at is None or at > gate.cut_at)


class EngineAccessFacts(StepFacts):
    step = "engine_access"
    passing = frozenset({"proven"})
    tenant: str
    engines: tuple[str, ...] = ()  # at which our token is registered, or may be: written down before the call
    rotation: int = 0  # the spec's counter that all present tokens were made for
    rotations: Mapping[str, int] = {}  # engine → the counter that its token was made for
    proven: Mapping[str, datetime] = {}  # engine → when strangers were last seen to be refused, and we let in
    restarted: Mapping[str, datetime] = {}  # engine → when we had it read its list anew, since it was last proven
    changed: Mapping[str, datetime] = {}  # engine → when a change of ours had it restart, until it is proven
    troubled: tuple[str, ...] = ()  # where the last registration failed: the others go first


class WelcomeFacts(StepFacts):
    step = "welcome"
    marks = frozenset({"password"})
    counter: int = 0  # the spec's `resend` that this speaks of
    state: str = ""  # "sending" (written down before the call), "sent", "logged" (there is no way to send), "off"
    kind: str = ""  # of the letter: "welcome", "address", "password"
    how: str = ""  # the way out that it took: "resend", "smtp", "none"
    key: str = ""  # idempotency key of the letter
    at: datetime | None = None
    link: str = ""  # the address that the letter told
    password: str = ""  # mark of the one-time password that went out last; not of one that was only logged
    password_reset: int = 0  # the account's counter that the letters have told of
    letter_id: str = ""  # as the provider calls it


class RoomFacts(StepFacts):
    """Of no step of its own: room on a node for a tester who was let begin, until the row of the machine tells where it is, or
    nothing has come of it for long (lesson 41)."""

    step = "room"
    daemon: str
    node_sid: str
    memory_mb: int
    disk_gb: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Promise:
    """Room on a node that is given away, whether or not the node's own readout shows it yet (lesson 41)."""

    tester: str
    daemon: str
    node_sid: str
    memory_mb: int
    disk_gb: int
    age: timedelta  # since the place was chosen
    making: bool = False  # the create has not been answered: it may still wait for its turn, however long
    foreseen: bool = False  # nothing is begun yet: room for whoever was let begin


FACTS: Mapping[str, type[StepFacts]] = {
    kind.step: kind
    for kind in (
        AccountFacts,
        MachineFacts,
        MachineAccessFacts,
        GatewayFacts,
        SignInAppFacts,
        SupervisorFacts,
        FrontDoorFacts,
        SettingsFacts,
        ComponentsFacts,
        InstallLogsFacts,
        SignInGateFacts,
        EngineAccessFacts,
        WelcomeFacts,
        RoomFacts,
    )
}


class ObjectState(StrEnum):
    """Where an outside object stands in our books (DESIGN, "Incarnations")."""

    INTENDED = "intended"  # a create was begun; its outcome is not settled
    EXISTING = "existing"
    RETIRING = "retiring"  # it must go; a delete was begun or is due
    GONE = "gone"  # seen to be gone, or never made
    LOST = "lost"  # its create was never seen to have an effect: watched, and deleted should it appear


@dataclass(frozen=True, slots=True)
class OutsideObject:
    """One row of our books: one outside object of one step of one tester. Its name derives from the row."""

    tester: str
    step: str
    incarnation: int
    attempt: int
    name: str
    state: ObjectState
    identity: Mapping[str, str] = field(
        default_factory=dict
    )  # what the outside calls it, told by `Reconciler.identity`
    since: datetime | None = None  # when it came into this state
    deadline: datetime | None = None  # until then the absence of an intended object proves nothing
    missing_since: datetime | None = None  # an existing one that looks do not show


F = TypeVar("F", bound=StepFacts)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything recorded that a plan may use. Immutable: a pass works on a snapshot and gets a new one as it learns."""

    tester: str
    uid: str
    fleet: Fleet
    steps: Mapping[str, StepFacts] = field(default_factory=dict)
    object: OutsideObject | None = None  # the row that is being looked at or planned for
    secrets: Mapping[str, Secret] = field(default_factory=dict)  # by reference (`env:…`) or sealed name (`alice/…`)
    leaving: bool = False  # the tester is being removed
    forge_owner: str = ""  # the fleet's: the account that what we made at Forge belongs to; "" while nothing was made
    earlier: tuple[OutsideObject, ...] = ()  # the step's rows before `object`, closed ones included, oldest first
    memory: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what was reckoned in this pass

    def get(self, kind: type[F]) -> F | None:
        """The facts of a step, None while it has recorded none."""
        found = self.steps.get(kind.step)
        return found if isinstance(found, kind) else None

    def need(self, kind: type[F]) -> F:
        """The facts of a step named in `needs`. The engine runs nobody before they are there.

        Raises Transient FactsForgotten when they went while the step was under way: their object is being made anew.
        """
        found = self.get(kind)
        if found is None:
            raise Transient(
                f"what {kind.step} knew of {self.tester} was forgotten meanwhile: its object is being made anew",
                system="controller",
                reason="FactsForgotten",
            )
        return found

    def sealed(self, name: str) -> Secret | None:
        """A secret of this tester's own, by its short name (`one_time_password`); None when it is void or was never made."""
        return self.secrets.get(f"{self.tester}/{name}")

    def secret(self, ref: str) -> Secret:
        """The value that a reference stands for. Raises Blocked, naming it, when nobody holds it (lesson 37)."""
        value = self.secrets.get(ref)
        if value is None:
            raise Blocked(
                f"the secret {ref!r} is not there: set it (an `env:` variable, a `file:`, or `testerctl secret set {ref}`)",
                system="secrets",
                reason="SecretMissing",
            )
        return value
