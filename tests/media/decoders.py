"""Decode workers for tests: real processes, ended with the block."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.media.decode_pool import DecodePool
from app.media.decode_process import WORK, DecodeBounds


@asynccontextmanager
async def decode_pool(
    bounds: DecodeBounds | None = None, *, workers: int = 2, idle_s: float = 300.0, work: str = WORK
) -> AsyncIterator[DecodePool]:
    """A pool, which does `work` (MODULE:FUNCTION)."""
    pool = DecodePool(bounds, workers=workers, idle_s=idle_s, work=work)
    try:
        yield pool
    finally:
        await pool.aclose()
