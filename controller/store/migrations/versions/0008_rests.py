"""What testers at rest rest on, for the next start."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "rests",
        sa.Column("tester", sa.String(), nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tester"], ["testers.name"], name=op.f("fk_rests_tester_testers"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tester", name=op.f("pk_rests")),
    )


def downgrade() -> None:
    op.drop_table("rests")
