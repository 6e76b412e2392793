"""Decode workers for tests: real processes, ended with the block."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.core.types import ImageRules
from app.media.containers.model import Container
from app.media.decode_pool import DecodePool
from app.media.decode_process import WORK, DecodeBounds
from app.media.image import PictureBounds

ODD = "tests.media.odd_decoders:obey"
SOON_S = 30.0


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


async def odd(pool: DecodePool, do: str, *, side_px: int = 1, **more: Any) -> Any:
    """What an odd worker says once it did as it was asked."""
    clean = json.dumps({"do": do, **more}).encode()
    container = Container(format="png", width_px=side_px, height_px=side_px, clean=clean)
    image = await pool.rewrite(container, ImageRules(), PictureBounds())
    return json.loads(image.data)


def counted(pool: DecodePool) -> dict[str, float]:
    """The pool's readings by name, those of outcomes by outcome; without what is nought."""
    return {
        dict(reading.labels).get("outcome", reading.name): reading.value for reading in pool.readings() if reading.value
    }


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet taken note of does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "that never came"
        await asyncio.sleep(0.01)


async def told(file: Path) -> int:
    """The process that an odd worker wrote down in this file, waiting for it."""
    await until(file.exists)
    return int(file.read_text(encoding="ascii"))
