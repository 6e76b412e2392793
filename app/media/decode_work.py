"""What a decode worker does with an order. Nothing else of the gateway lets a decoder see a caller's bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, assert_never

from app.core.types import Image
from app.media.decode_wire import Draw, Order, Rewrite
from app.media.image import rewritten
from app.media.sheet import drawn

Tell: TypeAlias = Callable[[int], None]
"""Says which picture of the order is worked on, so that a crash can be laid at its door."""
Work: TypeAlias = Callable[[Order, bytes, Tell], Image]


def carry_out(order: Order, body: bytes, tell: Tell) -> Image:
    """The picture that was ordered. Slow.

    Raises:
        BrokenContainer: the picture told of last cannot be used.
        MemoryError: it takes more memory than there is.
    """
    match order:
        case Rewrite(container, rules, bounds):
            return rewritten(replace(container, clean=body), rules, bounds)
        case Draw(pictures, sizes_bytes, rules):
            return drawn(_with_bytes(pictures, sizes_bytes, body), rules, tell)
        case never:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(never)


def _with_bytes(pictures: tuple[Image, ...], sizes_bytes: tuple[int, ...], body: bytes) -> list[Image]:
    start = 0
    whole: list[Image] = []
    for picture, size_bytes in zip(pictures, sizes_bytes, strict=True):
        whole.append(replace(picture, data=body[start : start + size_bytes]))
        start += size_bytes
    return whole
