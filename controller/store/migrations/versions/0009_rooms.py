"""An index for the few testers who were let begin and have no machine yet: whoever chooses a place asks for their room."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    rooms = sa.text("step = 'room'")
    op.create_index("ix_facts_rooms", "facts", ["tester"], sqlite_where=rooms, postgresql_where=rooms)


def downgrade() -> None:
    op.drop_index("ix_facts_rooms", "facts")
