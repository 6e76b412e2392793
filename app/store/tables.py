"""The tables, and the version of the file that holds them.

Rule of change: `SCHEMA_VERSION` goes up with every change of a table; `prepare` then learns the step from each older
version, and a file of a newer program is refused, never guessed at. Rows of the ledger are bills: columns are added,
with a default for the rows there are, and none is renamed or reused.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Connection, Float, Index, Integer, MetaData, String, Table, text

from app.store.errors import StoreUnusable

SCHEMA_VERSION = 2

metadata = MetaData()

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
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("usage_source", String, nullable=False),
    Column("tariff", String, nullable=False),
    Column("cost_micros", Integer, nullable=False),
    Column("first_event_ms", Integer),
    Column("total_ms", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error_code", String),
    Index("ledger_started_at", "started_at"),
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
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("usage_source", String, nullable=False),
    Column("tariff", String, nullable=False),
    Column("cost_micros", Integer, nullable=False),
    Column("total_ms", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error_code", String),
    sqlite_with_rowid=False,
)

# How a file goes on from each older version. Written out, for the tables above will change and a step never does.
_STEPS = {
    1: (
        "ALTER TABLE keys ADD COLUMN vendor_version INTEGER NOT NULL DEFAULT 1",
        """CREATE TABLE attempts (
            request_id VARCHAR NOT NULL, number INTEGER NOT NULL, model VARCHAR NOT NULL, backend VARCHAR NOT NULL,
            backend_model VARCHAR NOT NULL, backend_request_id VARCHAR, input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
            image_count INTEGER NOT NULL, usage_source VARCHAR NOT NULL, tariff VARCHAR NOT NULL,
            cost_micros INTEGER NOT NULL, total_ms INTEGER NOT NULL, outcome VARCHAR NOT NULL, error_code VARCHAR,
            PRIMARY KEY (request_id, number)
        ) WITHOUT ROWID""",
    ),
}


def prepare(connection: Connection) -> None:
    """Brings a new or older file to the tables of this program. The caller holds the write lock, and commits.

    Raises:
        StoreUnusable: a newer program wrote the file.
    """
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{connection.engine.url.database} was written by a newer version of tuwen (its format is {version}, "
            f"this program knows {SCHEMA_VERSION}): start that version, or choose another TUWEN_DATA_DIR."
        )
    if version == 0:
        metadata.create_all(connection)
    else:
        for older in range(version, SCHEMA_VERSION):
            for statement in _STEPS[older]:
                connection.exec_driver_sql(statement)
    if version < SCHEMA_VERSION:
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
