"""How long testers took until they were Ready, and what tells a first time from a repair."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INSTANT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("ready_at", INSTANT, nullable=False),
        sa.Column("ready", sa.Float(), nullable=False),
        sa.Column("milestones", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sqlite_autoincrement=True,
    )
    op.add_column("testers", sa.Column("ready_at", INSTANT))
    op.add_column("testers", sa.Column("interrupted_at", INSTANT))
    # Whether those of before were ever Ready is not written anywhere: a repair of them must not be taken for a first time.
    op.execute("UPDATE testers SET ready_at = (SELECT max(since) FROM conditions WHERE tester = testers.name)")


def downgrade() -> None:
    op.drop_column("testers", "interrupted_at")
    op.drop_column("testers", "ready_at")
    op.drop_table("runs")
