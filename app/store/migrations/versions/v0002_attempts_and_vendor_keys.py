"""Each backend that was asked has a row of its own; credentials in the form of vendors can be renewed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("keys", sa.Column("vendor_version", sa.Integer, nullable=False, server_default=sa.text("1")))
    op.create_table(
        "attempts",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("backend_model", sa.String, nullable=False),
        sa.Column("backend_request_id", sa.String),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer, nullable=False),
        sa.Column("reasoning_tokens", sa.Integer, nullable=False),
        sa.Column("image_count", sa.Integer, nullable=False),
        sa.Column("usage_source", sa.String, nullable=False),
        sa.Column("tariff", sa.String, nullable=False),
        sa.Column("cost_micros", BIG, nullable=False),
        sa.Column("total_ms", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("error_code", sa.String),
        sqlite_with_rowid=False,
    )
