"""Indexes for what is asked of thousands of testers at once: whose steps fail, who is behind, one condition of everybody."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    failing, behind = sa.text("failures > 0"), sa.text("observed_generation < generation")
    op.create_index("ix_conditions_type", "conditions", ["type"])
    op.create_index("ix_conditions_failing", "conditions", ["tester"], sqlite_where=failing, postgresql_where=failing)
    op.create_index("ix_testers_behind", "testers", ["name"], sqlite_where=behind, postgresql_where=behind)


def downgrade() -> None:
    op.drop_index("ix_testers_behind", "testers")
    op.drop_index("ix_conditions_failing", "conditions")
    op.drop_index("ix_conditions_type", "conditions")
