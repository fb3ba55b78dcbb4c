"""The measured size of a detection, and the region of the recipe it lies in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("detection", sa.Column("size_px", sa.Float(), nullable=True))
    op.add_column("detection", sa.Column("region", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("detection", "region")
    op.drop_column("detection", "size_px")
