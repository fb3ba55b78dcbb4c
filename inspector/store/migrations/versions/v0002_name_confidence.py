"""How sure a recipe was of a detection's name."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("detection", sa.Column("name_confidence", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("detection", "name_confidence")
