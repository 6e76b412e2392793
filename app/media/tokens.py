"""Estimates of input tokens, for backends that do not say what they counted.

Sources: qwen-vl-utils `vision_process.py` (smart_resize); help.aliyun.com Model Studio, vision page (pixel bounds);
DeepSeek-VL2 `processing_deepseek_vl_v2.py`; Volcengine Ark, 图片理解 (2025-12-19); bigmodel.cn, GLM-4V page;
xfyun.cn, 图片理解 (273 tokens a picture, 1.5 Chinese characters or 0.8 words a token). Read in November 2026.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import ceil, floor, sqrt
from typing import assert_never

from app.core.types import Detail

QWEN25_MAX_PIXELS = 1_003_520
"""What Alibaba's service scales pictures down to for Qwen2.5-VL; the open models take up to 12 845 056."""

_QWEN25_MIN_PIXELS = 3136
_QWEN3_MIN_PIXELS, _QWEN3_MAX_PIXELS = 65_536, 2_621_440
_SPARK_GENERAL_TOKENS = 273
_GLM_4V_TOKENS = 1030
_ARK_LOW_TOKENS, _ARK_HIGH_TOKENS = 1312, 5120

_TILE_PX = 384
_TILE_TOKENS = 14  # along each side of a tile
_MAX_TILES = 9
_ALL_TILED_IMAGES = 2  # with more pictures in a request none is tiled

_WIDE = re.compile(  # Hangul, kana, Han and their punctuation, full-width forms, emoji, rare Han
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001f300-\U0003ffff]"
)
_WIDE_PER_TOKEN = 1.5
_NARROW_PER_TOKEN = 4.0


def image_tokens(
    family: str,
    width_px: int,
    height_px: int,
    detail: Detail = "auto",
    *,
    max_pixels: int | None = None,
    image_count: int = 1,
) -> int:
    """Estimates what a picture costs.

    Args:
        family: `qwen2.5-vl`, `qwen3-vl`, `deepseek-vl2`, `ark`, `glm-4v` or `spark-general`; all else counts as
            `qwen2.5-vl`.
        detail: only `ark` looks at it, and takes `auto` for `low`.
        max_pixels: what the backend scales down to, where it is not the family's usual; the Qwen families look at it.
        image_count: pictures in the request; only `deepseek-vl2` looks at it.
    """
    match family:
        case "qwen3-vl":
            return _qwen_tokens(width_px, height_px, 32, _QWEN3_MIN_PIXELS, max_pixels or _QWEN3_MAX_PIXELS)
        case "deepseek-vl2":
            return _deepseek_tokens(width_px, height_px, tiled=image_count <= _ALL_TILED_IMAGES)
        case "ark":
            return _ark_tokens(width_px, height_px, detail)
        case "glm-4v":
            return _GLM_4V_TOKENS
        case "spark-general":
            return _SPARK_GENERAL_TOKENS
        case _:
            return _qwen_tokens(width_px, height_px, 28, _QWEN25_MIN_PIXELS, max_pixels or QWEN25_MAX_PIXELS)


def _qwen_tokens(width_px: int, height_px: int, factor: int, min_pixels: int, max_pixels: int) -> int:
    """Tokens by `smart_resize`: one for each square of `factor` pixels, once the sides are rounded to whole ones."""
    width, height = (max(factor, round(side / factor) * factor) for side in (width_px, height_px))
    if width * height > max_pixels:
        shrink = sqrt(width_px * height_px / max_pixels)
        width, height = (max(factor, floor(side / shrink / factor) * factor) for side in (width_px, height_px))
    elif width * height < min_pixels:
        grow = sqrt(min_pixels / (width_px * height_px))
        width, height = (ceil(side * grow / factor) * factor for side in (width_px, height_px))
    return width * height // factor**2


def _deepseek_tokens(width_px: int, height_px: int, *, tiled: bool) -> int:
    columns, rows = _deepseek_tiles(width_px, height_px) if tiled else (1, 1)
    thumbnail = _TILE_TOKENS * (_TILE_TOKENS + 1)
    return thumbnail + 1 + rows * _TILE_TOKENS * (columns * _TILE_TOKENS + 1)


@lru_cache(maxsize=1024)
def _deepseek_tiles(width_px: int, height_px: int) -> tuple[int, int]:
    """Columns and rows of the grid that shows most of the picture's detail, and of these wastes least."""

    def fitness(grid: tuple[int, int]) -> tuple[int, int]:
        width, height = grid[0] * _TILE_PX, grid[1] * _TILE_PX
        scale = min(width / width_px, height / height_px)
        effective = min(int(width_px * scale) * int(height_px * scale), width_px * height_px)
        return effective, effective - width * height

    grids = [
        (columns, rows)
        for columns in range(1, _MAX_TILES + 1)
        for rows in range(1, _MAX_TILES + 1)
        if columns * rows <= _MAX_TILES
    ]
    return max(grids, key=fitness)


def _ark_tokens(width_px: int, height_px: int, detail: Detail) -> int:
    match detail:
        case "low" | "auto":
            most = _ARK_LOW_TOKENS
        case "high":
            most = _ARK_HIGH_TOKENS
        case _:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(detail)
    return max(1, min(width_px * height_px // 784, most))


class TextTokens:
    """Estimates the tokens of a text that comes in pieces, which are not kept: 1.5 Chinese, Japanese or Korean
    characters, or 4 others, make one."""

    __slots__ = ("_narrow_chars", "_wide_chars")

    def __init__(self) -> None:
        self._narrow_chars = 0
        self._wide_chars = 0

    def add(self, piece: str) -> None:
        """Counts a piece of the text."""
        narrow = len(piece) if piece.isascii() else len(_WIDE.sub("", piece))
        self._narrow_chars += narrow
        self._wide_chars += len(piece) - narrow

    @property
    def tokens(self) -> int:
        """How many all pieces together make."""
        return ceil(self._wide_chars / _WIDE_PER_TOKEN + self._narrow_chars / _NARROW_PER_TOKEN)


def text_tokens(text: str) -> int:
    """The same of a text that is whole."""
    counted = TextTokens()
    counted.add(text)
    return counted.tokens
