"""Whose the things are that the fleet makes at Forge.

Until now every tester knew that by itself, of its own OAuth app: what most of them say is so.
"""

import json
from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    identity = op.create_table(
        "fleet_identity",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("forge_owner", sa.Text(), nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_fleet_identity_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_identity")),
    )
    facts = sa.table("facts", sa.column("step", sa.String()), sa.column("body", sa.Text()), sa.column("at", INSTANT))
    known = op.get_bind().execute(sa.select(facts.c.body, facts.c.at).where(facts.c.step == "sign_in_app")).all()
    told = [(owner, at) for body, at in known if (owner := json.loads(body).get("owner"))]
    if told:
        owner, _ = Counter(owner for owner, _ in told).most_common(1)[0]
        since = min(at for each, at in told if each == owner)
        op.bulk_insert(identity, [{"id": 1, "forge_owner": owner, "since": since}])


def downgrade() -> None:
    op.drop_table("fleet_identity")
