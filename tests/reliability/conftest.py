"""Proofs that the gateway bears what backends, callers and machines do to it, on real processes. Each ends in one line
with its figures; `make reliability` shows them all."""

from __future__ import annotations

import pytest

from tests.support.proofs import (
    Shown,
    is_alone,
    pytest_configure,
    pytest_terminal_summary,
    quiet_machine,
    shown,
)
from tests.support.services import postgres, postgres_url, redis, redis_url

__all__ = [
    "Shown",
    "postgres",
    "postgres_url",
    "pytest_configure",
    "pytest_terminal_summary",
    "quiet_machine",
    "redis",
    "redis_url",
    "shown",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait for an empty machine come last."""
    items.sort(key=is_alone)
