"""Keys whose questions and answers may be logged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("keys", sa.Column("log_content", sa.Boolean, nullable=False, server_default=sa.false()))
