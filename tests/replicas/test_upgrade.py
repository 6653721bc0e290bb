"""Two different programs on one database: a newer one comes beside those that run, and they leave one by one.

The newer program is a copy of this one with what a release brings: another revision of the tables, a column and a table that it
writes to, another field of specs and of the Fleet, and a higher version.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from importlib.metadata import version
from itertools import count
from pathlib import Path

import psycopg
import pytest

from controller.news import Kind, Topic
from controller.replicas.shares import SHARDS, shard_of
from controller.replicas.words import Word, read
from controller.store import StoreError, migrations
from controller.store.roll import Member, roll_of
from tests.e2e.rig import FEW, save, tester_document
from tests.replicas.fleet import OURS, Replicas, replicas_of
from tests.replicas.server import FakeSession, Replica, Server
from tests.worlds.loop import run

AT_LEISURE = {"resync": "5s", "poll": "500ms", "lookAge": "1s"}
QUIET = {"welcomeEmail": False}
OLDER, NEWER = version("tester-controller"), "99.0"
PARTS = ("specs", "reconcilers", "controller")

REVISION = '''"""What a later release brings."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade():
    op.create_table("moods", sa.Column("name", sa.String(), primary_key=True))
    op.add_column("testers", sa.Column("mood", sa.String(), nullable=False, server_default="calm"))
    op.create_index("ix_testers_mood", "testers", ["mood"])


def downgrade():
    raise NotImplementedError
'''

CHANGES = (
    ("controller/store/tables.py", r"\Z", '\ntesters.append_column(Column("mood", String, server_default="calm"))\n'),
    (
        "controller/records.py",
        r'class TesterRecord:\n.*"""\n',
        '\n    mood: str = field(default="glad", kw_only=True)\n',
    ),
    ("specs/desired_state.py", r'class DesiredTester\(Frozen\):\n.*"""\n', '    mood: str = "of its spec"\n'),
    ("specs/fleet.py", r'class FleetSpec\(Frozen\):\n.*"""\n', '    mood: str = "of the Fleet"\n'),
)
"""File, after what, which words."""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The newer program."""
    folder = tmp_path / "newer"
    for part in PARTS:
        shutil.copytree(OURS / part, folder / part)
    for name, place, words in CHANGES:
        file = folder / name
        text, count = re.subn(f"({place})", lambda found, words=words: found[1] + words, file.read_text(), count=1)
        assert count == 1, name
        file.write_text(text)
    versions = folder / "controller" / "store" / "migrations" / "versions"
    (versions / "9999_moods.py").write_text(REVISION.format(head=migrations.revisions()[0]))
    told = folder / "tester_controller-99.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tester-controller\nVersion: {NEWER}\n")
    child = folder / "tests" / "replicas" / "child.py"
    child.parent.mkdir(parents=True)
    shutil.copy(OURS / "tests" / "replicas" / "child.py", child)
    return folder


async def working(fleet: Replicas) -> dict[str, list[Member]]:
    """By version, who holds any shards."""
    roll = await roll_of(fleet.places.url)
    assert roll is not None
    members = [one for one in roll.members if one.shards]
    return {one.version: [each for each in members if each.version == one.version] for one in members}


async def shared_by(fleet: Replicas, *wanted: str) -> None:
    """Until these programs, one replica of each, have told of themselves and share everything."""
    await fleet.shared_by(len(wanted))

    async def told() -> bool:
        return sorted(await working(fleet)) == sorted(wanted)

    await fleet.until(told, f"{wanted} in the roll")


async def add_for(fleet: Replicas, program: str) -> str:
    """A new tester, in a share of this program's."""
    shares: set[int] = set()

    async def known_to_work() -> bool:
        shares.update(shard for one in (await working(fleet)).get(program, []) for shard in one.shards)
        return bool(shares)

    await fleet.until(known_to_work, f"shares of {program}")
    known = {file.stem for file in fleet.places.folder.iterdir()}
    free = (name for name in (f"t{number}" for number in count()) if name not in known)
    name = next(name for name in free if shard_of(name) in shares)
    save(fleet.places.folder / f"{name}.yaml", tester_document(name, **QUIET))
    return name


def desires(fleet: Replicas) -> dict[str, str]:
    with psycopg.connect(fleet.places.url) as books:
        return dict(books.execute("SELECT name, desired FROM testers WHERE mood <> ''").fetchall())


@pytest.mark.long
async def test_a_newer_program_comes_and_the_old_ones_leave(
    tmp_path: Path, newer: Path, empty_postgres_url: str
) -> None:
    async with replicas_of(tmp_path, empty_postgres_url, {"t0": QUIET}, timing=AT_LEISURE, **FEW) as fleet:
        await fleet.begin()
        await shared_by(fleet, OLDER)

        await fleet.begin(program=newer)  # in the middle of its work
        await shared_by(fleet, OLDER, NEWER)
        names = ["t0", await add_for(fleet, NEWER)]  # read by the old one
        await fleet.ready(names)
        fleet.all[0].send(signal.SIGTERM)
        await shared_by(fleet, NEWER)

        await fleet.begin()  # an old one again, on what the newer one has written
        await shared_by(fleet, OLDER, NEWER)
        names.append(await add_for(fleet, OLDER))  # read by the newer one
        await fleet.ready(names)
        assert "of its spec" in desires(fleet)[names[-1]]
        fleet.all[2].send(signal.SIGTERM)
        await shared_by(fleet, NEWER)
        assert await fleet.looked_at_again() == set()

        assert await fleet.begun_too_late() == []
        books = fleet.world.books()
        assert sorted(books["made_accounts"]) == sorted(names)
        assert (books["vms"], books["gateways"], len(books["apps"]), books["violations"]) == (3, 3, 3, [])
        assert [line for each in fleet.all for line in each.log.splitlines() if " INFO " not in line] == []


def test_a_program_from_before_replicas_is_waited_for_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    gone: list[bool] = []

    class Beside(Replica):
        async def _open(self) -> FakeSession:
            if not gone:
                raise StoreError("somebody has it for itself alone")
            return await super()._open()

    async def life() -> None:
        replica = Beside(Server(), "one")
        await asyncio.sleep(60)
        ours = [each.message for each in caplog.records if each.name == "controller"]
        assert ours == ["somebody has it for itself alone"]
        gone.append(True)
        await asyncio.sleep(3)
        assert len(replica.shards) == SHARDS

    run(life())


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ('[["tester", "alice"]]', Word(frozenset({Topic(Kind.TESTER, "alice")}))),
        ('[["mood", "alice"], ["tester", "bob"], ["wake", "bob"]]', Word(None, frozenset({"bob"}))),
        ('[["tester", "alice"], {"of": "another kind"}, ["ring"]]', Word(None, ring=True)),
    ],
)
def test_a_word_of_a_newer_program_is_taken_for_a_change_of_everything(said: str, heard: Word) -> None:
    assert read(f'{{"of": "another", "said": {said}}}', "me") == heard
