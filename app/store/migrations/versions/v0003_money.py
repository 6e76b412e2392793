"""Budgets, holds, limits of keys, tiers by volume, kept answers, details that are dropped by age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

revision = "0003"
down_revision = "0002"

_NONE = sa.text("''")
_ZERO = sa.text("0")


def _sum(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, server_default=_ZERO)


def upgrade() -> None:
    _keys()
    _balances()
    _requests()
    _beside_the_ledger()


def _keys() -> None:
    for column in (
        sa.Column("owner", sa.String, nullable=False, server_default=_NONE),
        sa.Column("models", sa.String, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("tags", sa.String, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("expires_at", sa.Float),
        sa.Column("rpm", sa.Integer),
        sa.Column("tpm", sa.Integer),
        sa.Column("concurrency", sa.Integer),
        sa.Column("model_limits", sa.String, nullable=False, server_default=sa.text("'{}'")),
    ):
        op.add_column("keys", column)


def _balances() -> None:
    op.create_table(
        "balances",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("credit_micros", BIG),
        sa.Column("day_limit_micros", BIG),
        sa.Column("month_limit_micros", BIG),
        _sum("spent_micros"),
        _sum("held_micros"),
        sa.Column("day", sa.String, nullable=False, server_default=_NONE),
        _sum("day_micros"),
        _sum("month_micros"),
    )
    op.execute(
        "INSERT INTO balances (key_id, spent_micros) SELECT keys.id, COALESCE(SUM(ledger.cost_micros), 0) "
        "FROM keys LEFT JOIN ledger ON ledger.key_id = keys.id GROUP BY keys.id"
    )
    op.create_table(
        "top_ups",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        _sum("micros"),
        sa.Column("note", sa.String, nullable=False, server_default=_NONE),
    )
    op.create_index("top_ups_key", "top_ups", ["key_id", "at"])
    op.create_table(
        "volumes",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("month", sa.String, primary_key=True),
        sa.Column("units", BIG, nullable=False),
        sqlite_with_rowid=False,
    )


def _requests() -> None:
    for column in (
        sa.Column("state", sa.String, nullable=False, server_default=sa.text("'settled'")),
        _sum("hold_micros"),
        sa.Column("day", sa.String, nullable=False, server_default=_NONE),
        sa.Column("lease_until", sa.Float),
        sa.Column("queued_ms", sa.Integer, nullable=False, server_default=_ZERO),
    ):
        op.add_column("ledger", column)
    op.add_column("attempts", _sum("volume_before"))
    op.create_index("ledger_key", "ledger", ["key_id", "started_at"])
    still_open = sa.text("state IN ('held', 'dispatched')")
    op.create_index("ledger_open", "ledger", ["lease_until"], sqlite_where=still_open, postgresql_where=still_open)


def _beside_the_ledger() -> None:
    op.create_table(
        "answers",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("body_digest", sa.String, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_index("answers_until", "answers", ["until"])
    with_body = sa.text("size_bytes > 0")
    op.create_index(
        "answers_size", "answers", ["until", "size_bytes"], sqlite_where=with_body, postgresql_where=with_body
    )
    op.create_table(
        "details",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("error_code", sa.String),
        sa.Column("notices", sa.String, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("faults", sa.String, nullable=False, server_default=sa.text("'[]'")),
    )
    op.create_index("details_at", "details", ["at"])
