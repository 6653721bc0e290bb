"""Records for the store's tests: a tester of a given name, and short ways to the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.records import Condition, Event, JournalEntry, Status, TesterRecord
from reconcilers.facts import MachineFacts, ObjectState, OutsideObject
from specs.desired import DesiredAccount, DesiredMachine, DesiredTester, DesiredWelcome, digest

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def desired(name: str) -> DesiredTester:
    return DesiredTester(
        name=name,
        account=DesiredAccount(
            name=name.title(),
            email=f"{name}@example.org",
            existing=False,
            when_removed="keep",
            full_name=None,
            password_reset=0,
        ),
        allowlist=(name, "mik"),
        admins=("mik",),
        ssh_keys=(),
        ssh_key_required=False,
        components=(),
        settings=(),
        foreign_settings=(),
        engines=(),
        public_paths=("/hero_whiteboard/share/",),
        channel="latest",
        updates="apply",
        machine=DesiredMachine(
            memory_mb=8192,
            cpu=2,
            disk_gb=50,
            rootfs_gb=20,
            image="Ubuntu 24.04",
            node="auto",
            rebuild=0,
            keep_after_removal=timedelta(hours=24),
        ),
        address="auto",
        welcome=DesiredWelcome(send=True, resend=0),
        expires=None,
        paused=None,
    )


def a_tester(name: str = "alice", *, uid: str = "x7k2p9", removed_at: datetime | None = None) -> TesterRecord:
    wanted = desired(name)
    return TesterRecord(
        name=name,
        uid=uid,
        generation=1,
        desired=wanted,
        digest=digest(wanted),
        source_file=f"{name}.yaml",
        source_line=1,
        revision="r1",
        added_at=NOON,
        changed_at=NOON,
        removed_at=removed_at,
    )


def an_object(
    step: str = "machine",
    state: ObjectState = ObjectState.EXISTING,
    *,
    of: str = "alice",
    incarnation: int = 1,
    attempt: int = 1,
) -> OutsideObject:
    name = f"{of}_{step}_{incarnation}_{attempt}"
    return OutsideObject(of, step, incarnation, attempt, name, state, {"sid": "17", "daemon": "gent"}, NOON)


def a_condition(type: str = "Ready", *, of: str = "alice", reason: str = "AllInSync") -> Condition:
    return Condition(of, type, Status.TRUE, reason, "everything is as it should be", 1, NOON)


def an_event(message: str = "made", *, of: str = "alice", reason: str = "Created", at: datetime = NOON) -> Event:
    return Event(of, "machine", reason, message, at)


def an_entry(id: str = "e1", *, of: str = "alice", ended_at: datetime | None = None) -> JournalEntry:
    return JournalEntry(id, of, "machine", "deploy", f"{of}_vm", NOON, ended_at=ended_at, limit_at=NOON + 5 * MINUTE)


def machine_facts(vm_id: str = "17") -> MachineFacts:
    return MachineFacts(daemon="gent", vm_id=vm_id, vm_name="alice_vm", address="400::17")
