"""The first tables.

The column types are written out as databases know them, not imported from `tables`: a revision must stay what it was.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INSTANT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNFINISHED = sa.text("ended_at IS NULL")


def upgrade() -> None:
    _testers()
    _objects()
    _facts_and_conditions()
    _events()
    _journal()
    _sealed()
    _source_and_fleet()


def _testers() -> None:
    op.create_table(
        "testers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("source_file", sa.Text(), nullable=False),
        sa.Column("source_line", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("removed_at", INSTANT),
        sa.Column("source_error", sa.Text(), nullable=False),
        sa.Column("observed_generation", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("current", sa.Text(), nullable=False),
        sa.Column("next_look_at", INSTANT),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_testers")),
    )


def _objects() -> None:
    op.create_table(
        "objects",
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("incarnation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("since", INSTANT),
        sa.Column("deadline", INSTANT),
        sa.Column("missing_since", INSTANT),
        sa.PrimaryKeyConstraint("tester", "step", "incarnation", "attempt", name=op.f("pk_objects")),
    )
    op.create_index("ix_objects_step_state", "objects", ["step", "state"])
    op.create_index("ix_objects_state", "objects", ["state"])


def _facts_and_conditions() -> None:
    op.create_table(
        "facts",
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("machine", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["tester"], ["testers.name"], name=op.f("fk_facts_tester_testers"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tester", "step", name=op.f("pk_facts")),
    )
    op.create_table(
        "conditions",
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("until", INSTANT),
        sa.Column("blames", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at", INSTANT),
        sa.PrimaryKeyConstraint("tester", "type", name=op.f("pk_conditions")),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_tester_id", "events", ["tester", "id"])
    op.create_index("ix_events_last_at", "events", ["last_at"])


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("began_at", INSTANT, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("limit_at", INSTANT),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
    )
    op.create_index("ix_journal_tester_began_at", "journal", ["tester", "began_at"])
    op.create_index("ix_journal_began_at", "journal", ["began_at"])
    op.create_index("ix_journal_ended_at", "journal", ["ended_at"])
    op.create_index(
        "ix_journal_unfinished", "journal", ["tester"], sqlite_where=UNFINISHED, postgresql_where=UNFINISHED
    )


def _sealed() -> None:
    op.create_table(
        "sealed",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("void", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sealed")),
    )
    op.create_index("ix_sealed_owner", "sealed", ["owner"])
    op.create_index("ix_sealed_key_id", "sealed", ["key_id"])


def _source_and_fleet() -> None:
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("read_at", INSTANT, nullable=False),
        sa.Column("readable", sa.Boolean(), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.Column("held", sa.JSON(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_source_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
    )
    op.create_table(
        "fleet",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_fleet_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet")),
    )


def downgrade() -> None:
    for table in ("fleet", "source", "sealed", "journal", "events", "conditions", "facts", "objects", "testers"):
        op.drop_table(table)
