"""The tables, the same for SQLite and Postgres.

Rule of change: a change of a table comes with a step in `app/store/migrations/versions`, and with a database of the
version before in the tests. Rows of the ledger are bills: columns are added, with a default for the rows there are, and
none is renamed or reused. A database of a newer program is refused, never guessed at.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    false,
    text,
)

metadata = MetaData()

_NONE = text("''")
_ZERO = text("0")
# 32 bits would end at 2 147 yuan; SQLite's INTEGER has 64
_BIG = BigInteger().with_variant(Integer, "sqlite")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _micros(name: str, *, nullable: bool = False) -> Column[int]:
    """An amount in micro-yuan."""
    return Column(name, _BIG, nullable=nullable, server_default=None if nullable else _ZERO)


keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Column("admin", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("vendor_version", Integer, nullable=False, server_default=text("1")),
    Column("owner", String, nullable=False, server_default=_NONE),
    Column("models", String, nullable=False, server_default=text("'[]'")),  # JSON: a list of ids
    Column("tags", String, nullable=False, server_default=text("'[]'")),  # JSON: a list of words
    Column("expires_at", Float),
    Column("rpm", Integer),
    Column("tpm", Integer),
    Column("concurrency", Integer),
    Column("model_limits", String, nullable=False, server_default=text("'{}'")),  # JSON: id → rpm, tpm, concurrency
    Column("log_content", Boolean, nullable=False, server_default=false()),
)

# What a key may spend, and has: one row per key, so that one statement can decide. `credit_micros` is all that was ever
# credited; `day` the last day it was used on, whose sum, and that of its month, stand beside it.
balances = Table(
    "balances",
    metadata,
    Column("key_id", String, primary_key=True),
    _micros("credit_micros", nullable=True),
    _micros("day_limit_micros", nullable=True),
    _micros("month_limit_micros", nullable=True),
    _micros("spent_micros"),
    _micros("held_micros"),
    Column("day", String, nullable=False, server_default=_NONE),
    _micros("day_micros"),
    _micros("month_micros"),
)

top_ups = Table(
    "top_ups",
    metadata,
    Column("id", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("at", Float, nullable=False),
    _micros("micros"),
    Column("note", String, nullable=False, server_default=_NONE),
    Index("top_ups_key", "key_id", "at"),
)

# What a key used of a model in a calendar month, in the unit of the model's tariff; kept where a tariff has tiers.
volumes = Table(
    "volumes",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("month", String, primary_key=True),
    Column("units", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

# One column per field of `accounts.interfaces.LedgerRow`, in its order, but for its attempts.
ledger = Table(
    "ledger",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("backend_model", String, nullable=False),
    Column("backend_request_id", String),
    Column("stream", Boolean, nullable=False),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cached_tokens"),
    _count("reasoning_tokens"),
    _count("image_count"),
    Column("usage_source", String, nullable=False),
    Column("tariff", String, nullable=False),
    Column("cost_micros", _BIG, nullable=False),
    Column("first_event_ms", Integer),
    Column("total_ms", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error_code", String),
    Column("state", String, nullable=False, server_default=text("'settled'")),
    _micros("hold_micros"),
    Column("day", String, nullable=False, server_default=_NONE),
    Column("lease_until", Float),
    Column("queued_ms", Integer, nullable=False, server_default=_ZERO),
    Index("ledger_started_at", "started_at"),
    Index("ledger_key", "key_id", "started_at"),
    # the sweeper's: holds no row that is closed
    Index(
        "ledger_open",
        "lease_until",
        sqlite_where=text("state IN ('held', 'dispatched')"),
        postgresql_where=text("state IN ('held', 'dispatched')"),
    ),
)

# The request, then one column per field of `accounts.interfaces.AttemptRow`, in its order. Without a rowid: an attempt
# is only ever looked up by its request, so the key's tree can hold it.
attempts = Table(
    "attempts",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("backend_model", String, nullable=False),
    Column("backend_request_id", String),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cached_tokens"),
    _count("reasoning_tokens"),
    _count("image_count"),
    Column("usage_source", String, nullable=False),
    Column("tariff", String, nullable=False),
    Column("cost_micros", _BIG, nullable=False),
    Column("total_ms", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error_code", String),
    Column("volume_before", _BIG, nullable=False, server_default=_ZERO),
    sqlite_with_rowid=False,
)

# Answers kept for an Idempotency-Key. `request_id` is that of the request that made it. Without a `body` it still runs;
# an empty one says that it ended and its answer is not kept. With a rowid: its rows are too large for the key's tree.
answers = Table(
    "answers",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("digest", String, primary_key=True),  # keyed, of the Idempotency-Key
    Column("body_digest", String, nullable=False),  # keyed, of the request's body
    Column("request_id", String, nullable=False),
    Column("until", Float, nullable=False),  # Unix time: forgotten from then on
    Column("size_bytes", Integer, nullable=False, server_default=_ZERO),  # of the body
    Column("body", LargeBinary),  # encrypted, its headers with it
    Index("answers_until", "until"),
    # holds all that adding up the bodies needs, and nothing that has none
    Index(
        "answers_size",
        "until",
        "size_bytes",
        sqlite_where=text("size_bytes > 0"),
        postgresql_where=text("size_bytes > 0"),
    ),
)

# What is worth knowing of a request for a while and nobody is billed by: refusals, notices, what backends said. Dropped
# by age; a lost row harms nobody.
details = Table(
    "details",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("key_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("status", String, nullable=False),  # an outcome, or `refused`
    Column("error_code", String),
    Column("notices", String, nullable=False, server_default=text("'[]'")),  # JSON: a list of texts
    Column("faults", String, nullable=False, server_default=text("'[]'")),  # JSON: attempt, class, code, detail
    Index("details_at", "at"),
)
