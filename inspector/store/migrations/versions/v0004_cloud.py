"""Questions to the cloud, what they cost, and the log of what left the plant."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cloud_audit",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("escalation_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.String(length=16), nullable=False),
        sa.Column("send", sa.String(length=8), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("payload_key", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("recorded_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index("cloud_audit_by_inspection", "cloud_audit", ["inspection_id"], unique=False)
    op.create_table(
        "cloud_cursor",
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("chain_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station"),
    )
    op.create_table(
        "cloud_spend",
        sa.Column("escalation_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("debited_steady_us", sa.BigInteger(), nullable=False),
        sa.Column("debited_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_micro", sa.BigInteger(), nullable=False),
        sa.Column("money_micro", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("escalation_id", "attempt"),
    )
    op.create_index("cloud_spend_by_time", "cloud_spend", ["station", "debited_steady_us"], unique=False)
    op.create_table(
        "cloud_state",
        sa.Column("state_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("steady_us", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.String(length=64), nullable=False),
        sa.Column("boot_us", sa.BigInteger(), nullable=False),
        sa.Column("wall_us", sa.BigInteger(), nullable=False),
        sa.Column("audit_rows", sa.BigInteger(), nullable=False),
        sa.Column("audit_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("state_id"),
    )
    op.create_table(
        "escalation",
        sa.Column("escalation_id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("camera", sa.String(length=32), nullable=False),
        sa.Column("recipe_name", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("same_as", sa.String(length=36), nullable=True),
        sa.Column("looks", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("kills", sa.Integer(), nullable=False),
        sa.Column("queued_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("queued_steady_us", sa.BigInteger(), nullable=False),
        sa.Column("waited_us", sa.BigInteger(), nullable=False),
        sa.Column("due_steady_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_utc_us", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspection.inspection_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("escalation_id"),
        sa.UniqueConstraint("inspection_id"),
    )
    op.create_index("escalation_by_look", "escalation", ["station", "queued_utc_us"], unique=False)
    op.create_index(
        "escalation_by_same", "escalation", ["same_as"], unique=False, sqlite_where=sa.text("same_as IS NOT NULL")
    )
    op.create_index(
        "escalation_open",
        "escalation",
        ["state", "due_steady_us"],
        unique=False,
        sqlite_where=sa.text("finished_utc_us IS NULL"),
    )


def downgrade() -> None:
    for table in ("escalation", "cloud_state", "cloud_spend", "cloud_cursor", "cloud_audit"):
        op.drop_table(table)
