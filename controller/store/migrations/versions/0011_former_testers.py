"""Testers that are no more: a gateway or a token that turns up after its tester has gone is known as ours."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "former_testers",
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_former_testers")),
    )
    op.create_index("ix_former_testers_removed_at", "former_testers", ["removed_at"])


def downgrade() -> None:
    op.drop_table("former_testers")
