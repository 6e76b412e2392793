"""The tables, and the version of the file that holds them.

Rule of change: `SCHEMA_VERSION` goes up with every change of a table; `prepare` then learns the step from each older
version, and a file of a newer program is refused, never guessed at. Rows of the ledger are bills: columns are added,
with a default for the rows there are, and none is renamed or reused.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Connection, Float, Index, Integer, MetaData, String, Table

from app.store.errors import StoreUnusable

SCHEMA_VERSION = 1

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
)

# One column per field of `accounts.interfaces.LedgerRow`, in its order.
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


def prepare(connection: Connection) -> None:
    """Brings a new file to the tables of this program. The caller holds the write lock, and commits.

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
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
