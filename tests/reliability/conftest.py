"""Proofs that the gateway bears what backends, callers and machines do to it, on real processes. Each ends in one line
with its figures; `make reliability` shows them all."""

from __future__ import annotations

from tests.support.proofs import (
    Shown,
    pytest_configure,
    pytest_terminal_summary,
    shown,
)
from tests.support.services import postgres, postgres_url, redis, redis_url

__all__ = [
    "Shown",
    "postgres",
    "postgres_url",
    "pytest_configure",
    "pytest_terminal_summary",
    "redis",
    "redis_url",
    "shown",
]
