"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "camera_health",
        sa.Column("health_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("camera", sa.String(length=32), nullable=False),
        sa.Column("sampled_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("frames_per_s", sa.Float(), nullable=True),
        sa.Column("last_frame_age_s", sa.Float(), nullable=True),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Float(), nullable=True),
        sa.Column("focus", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("health_id"),
    )
    op.create_index("camera_health_by_time", "camera_health", ["station", "camera", "sampled_utc_us"], unique=False)
    op.create_table(
        "chain_checkpoint",
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("chain_index", sa.BigInteger(), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.Column("removed_rows", sa.BigInteger(), nullable=False),
        sa.Column("verdict_counts", sa.JSON(), nullable=False),
        sa.Column("cut_utc_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("station"),
    )
    op.create_table(
        "command",
        sa.Column("command_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("response_topic", sa.Text(), nullable=True),
        sa.Column("correlation", sa.Text(), nullable=True),
        sa.Column("received_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("answered_utc_us", sa.BigInteger(), nullable=True),
        sa.Column("answer_topic", sa.Text(), nullable=True),
        sa.Column("answer_payload", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("command_id"),
        sa.UniqueConstraint("station", "request_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "command_open",
        "command",
        ["station", "command_id"],
        unique=False,
        sqlite_where=sa.text("answered_utc_us IS NULL"),
    )
    op.create_table(
        "outbox",
        sa.Column("outbox_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.Column("retain", sa.Boolean(), nullable=False),
        sa.Column("created_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("sent_utc_us", sa.BigInteger(), nullable=True),
        sa.Column("inspection_id", sa.String(length=36), nullable=True),
        sa.Column("correlation", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("outbox_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_unsent", "outbox", ["outbox_id"], unique=False, sqlite_where=sa.text("sent_utc_us IS NULL"))
    op.create_index(
        "outbox_unsent_inspection",
        "outbox",
        ["inspection_id"],
        unique=False,
        sqlite_where=sa.text("sent_utc_us IS NULL"),
    )
    op.create_table(
        "process",
        sa.Column("process", sa.String(length=160), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("beat_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("process"),
    )
    op.create_table(
        "retired_source",
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("accepted_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("camera", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("station", "source_sha256"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "station",
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_sequence", sa.BigInteger(), nullable=False),
        sa.Column("recipe_name", sa.String(length=32), nullable=True),
        sa.Column("recipe_version", sa.Integer(), nullable=True),
        sa.Column("lot", sa.String(length=128), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("chain_index", sa.BigInteger(), nullable=False),
        sa.Column("chain_hash", sa.String(length=64), nullable=False),
        sa.Column("accepted", sa.JSON(), nullable=False),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("station"),
    )
    op.create_table(
        "trigger",
        sa.Column("trigger_id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("accepted_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("cameras", sa.JSON(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=True),
        sa.Column("part_id_source", sa.String(length=16), nullable=False),
        sa.Column("lot", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("source_identity", sa.Text(), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["station"],
            ["station.station"],
        ),
        sa.PrimaryKeyConstraint("trigger_id"),
        sa.UniqueConstraint("station", "epoch", "sequence"),
    )
    op.create_index(
        "trigger_by_part", "trigger", ["station", "part_id"], unique=False, sqlite_where=sa.text("part_id IS NOT NULL")
    )
    op.create_index(
        "trigger_by_request",
        "trigger",
        ["station", "request_id"],
        unique=True,
        sqlite_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_index(
        "trigger_by_source",
        "trigger",
        ["station", "source_identity"],
        unique=True,
        sqlite_where=sa.text("source_identity IS NOT NULL"),
    )
    op.create_index("trigger_by_time", "trigger", ["station", "accepted_utc_us"], unique=False)
    op.create_index(
        "trigger_open", "trigger", ["station", "sequence"], unique=False, sqlite_where=sa.text("closed IS 0")
    )
    op.create_table(
        "disposition",
        sa.Column("position", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("disposition_id", sa.String(length=36), nullable=False),
        sa.Column("trigger_id", sa.String(length=36), nullable=False),
        sa.Column("disposition", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("cause_id", sa.String(length=36), nullable=False),
        sa.Column("decided_utc_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trigger_id"],
            ["trigger.trigger_id"],
        ),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("disposition_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("disposition_by_trigger", "disposition", ["trigger_id", "position"], unique=False)
    op.create_table(
        "inspection",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("trigger_id", sa.String(length=36), nullable=False),
        sa.Column("station", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("camera", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("instance", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("review_threshold", sa.Float(), nullable=True),
        sa.Column("ng_threshold", sa.Float(), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("captured_utc_us", sa.BigInteger(), nullable=True),
        sa.Column("decided_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("recipe_name", sa.String(length=32), nullable=True),
        sa.Column("recipe_version", sa.Integer(), nullable=True),
        sa.Column("recipe_sha256", sa.String(length=64), nullable=True),
        sa.Column("frame_sha256", sa.String(length=64), nullable=True),
        sa.Column("frame_key", sa.Text(), nullable=True),
        sa.Column("frame_width_px", sa.Integer(), nullable=True),
        sa.Column("frame_height_px", sa.Integer(), nullable=True),
        sa.Column("mm_per_px", sa.Float(), nullable=True),
        sa.Column("calibration_id", sa.String(length=64), nullable=True),
        sa.Column("registration_confidence", sa.Float(), nullable=True),
        sa.Column("timings_ms", sa.JSON(), nullable=False),
        sa.Column("truth", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("software_version", sa.String(length=32), nullable=False),
        sa.Column("config_sha256", sa.String(length=64), nullable=False),
        sa.Column("chain_index", sa.BigInteger(), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["trigger_id"],
            ["trigger.trigger_id"],
        ),
        sa.PrimaryKeyConstraint("inspection_id"),
        sa.UniqueConstraint("station", "chain_index"),
        sa.UniqueConstraint("station", "sequence", "camera", "view", "instance"),
    )
    op.create_index("inspection_by_time", "inspection", ["station", "decided_utc_us"], unique=False)
    op.create_index("inspection_by_trigger", "inspection", ["trigger_id"], unique=False)
    op.create_index(
        "inspection_suspicious",
        "inspection",
        ["station", "decided_utc_us"],
        unique=False,
        sqlite_where=sa.text("verdict != 'OK'"),
    )
    op.create_table(
        "detection",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("x0_px", sa.Integer(), nullable=False),
        sa.Column("y0_px", sa.Integer(), nullable=False),
        sa.Column("x1_px", sa.Integer(), nullable=False),
        sa.Column("y1_px", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("area_px", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspection.inspection_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inspection_id", "rank"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evidence",
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("handed_out", sa.Integer(), nullable=False),
        sa.Column("visual_key", sa.Text(), nullable=True),
        sa.Column("twin_key", sa.Text(), nullable=True),
        sa.Column("thumbnail_key", sa.Text(), nullable=True),
        sa.Column("twin_method", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("queued_utc_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_utc_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspection.inspection_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("inspection_id"),
    )
    op.create_index("evidence_by_state", "evidence", ["state", "queued_utc_us"], unique=False)
    op.create_table(
        "opinion",
        sa.Column("opinion_id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("received_utc_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspection.inspection_id"],
        ),
        sa.PrimaryKeyConstraint("opinion_id"),
    )
    op.create_index(op.f("ix_opinion_inspection_id"), "opinion", ["inspection_id"], unique=False)
    op.create_table(
        "review",
        sa.Column("review_id", sa.String(length=36), nullable=False),
        sa.Column("inspection_id", sa.String(length=36), nullable=False),
        sa.Column("reviewer", sa.String(length=80), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("defect_name", sa.String(length=64), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("reviewed_utc_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["inspection.inspection_id"],
        ),
        sa.PrimaryKeyConstraint("review_id"),
    )
    op.create_index(op.f("ix_review_inspection_id"), "review", ["inspection_id"], unique=False)


def downgrade() -> None:
    op.drop_table("review")
    op.drop_table("opinion")
    op.drop_table("evidence")
    op.drop_table("detection")
    op.drop_table("inspection")
    op.drop_table("disposition")
    op.drop_table("trigger")
    op.drop_table("station")
    op.drop_table("retired_source")
    op.drop_table("process")
    op.drop_table("outbox")
    op.drop_table("command")
    op.drop_table("chain_checkpoint")
    op.drop_table("camera_health")
