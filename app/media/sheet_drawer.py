"""Sheets of callers' pictures, drawn elsewhere: the pictures on them are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from app.core.types import Image, ImageRules, ImageSource
from app.media.decode_pool import Decoders, Undecodable
from app.media.image import rejected
from app.media.workbench import Shared


class SheetDrawer:
    """Draws sheets, equal ones at the same time once.

    Args:
        decoders: do it.
    """

    def __init__(self, decoders: Decoders) -> None:
        self._decoders = decoders
        self._drawing: Shared[Image] = Shared()

    async def draw(self, pictures: Sequence[Image], sources: Sequence[ImageSource], rules: ImageRules) -> Image:
        """Lays pictures out on one sheet within `rules`, numbered from 1 in their order.

        Args:
            pictures: fitted to `tile_rules`.
            sources: where each came from; errors name it.

        Raises:
            ImageRejected: the pixels of one cannot be had.
        """
        key = (tuple(picture.sha256 for picture in pictures), rules)
        try:
            return await self._drawing.do(key, partial(self._decoders.draw, pictures, rules))
        except Undecodable as error:
            raise rejected(error, sources[error.index].param) from error
