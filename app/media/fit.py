"""From what the caller wrote to the picture a backend takes, with as little work as the picture allows."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from functools import partial
from typing import Protocol, TypeAlias

from app.core.errors import ImageRejected
from app.core.types import Image, ImageRules, ImageSource
from app.media.containers.model import BrokenContainer
from app.media.decode_pool import Decoders
from app.media.image import Inspection, PictureBounds, inspect_bytes, passed, rejected
from app.media.workbench import Shared, Workbench

_SMALL_BYTES = 64 * 1024  # walking so little takes less than a change of thread
_ENTRY_BYTES = 512  # of a cached picture besides its data

_Key: TypeAlias = tuple[str, ImageRules]


class SourceReader(Protocol):
    """Gets a picture's bytes."""

    async def read(self, source: ImageSource) -> bytes:
        """The bytes a source stands for: decoded, or fetched.

        Raises:
            ImageRejected: there are none to be had.
        """
        ...


class PictureCache:
    """Fitted pictures, the least recently used dropped first.

    Args:
        max_bytes: of all pictures together; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._images: OrderedDict[_Key, Image] = OrderedDict()

    def get(self, key: _Key) -> Image | None:
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
        return image

    def put(self, key: _Key, image: Image) -> None:
        """Keeps a picture, unless it is larger than the whole cache."""
        size = len(image.data) + _ENTRY_BYTES
        if key in self._images or size > self._max_bytes:
            return
        self._images[key] = image
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, dropped = self._images.popitem(last=False)
            self._bytes -= len(dropped.data) + _ENTRY_BYTES


class PictureFitter:
    """Fits pictures to routes. A picture seen before, as in the next turn of a chat, is not worked on again.

    Args:
        read: gets the bytes.
        bounds: over these a picture is refused before it is decoded.
        decoders: write anew what cannot be passed on.
        cache_bytes: of fitted pictures kept.
    """

    def __init__(
        self, read: SourceReader, bounds: PictureBounds, decoders: Decoders, cache_bytes: int = 64 * 1024 * 1024
    ) -> None:
        self._reader = read
        self._bounds = bounds
        self._decoders = decoders
        self._cache = PictureCache(cache_bytes)
        self._inspecting: Workbench[Inspection] = Workbench(os.cpu_count() or 1)
        self._rewriting: Shared[Image] = Shared()

    async def fit(self, source: ImageSource, rules: ImageRules) -> Image:
        """Reads a picture and makes it one that a backend of these rules takes.

        Raises:
            ImageRejected: it cannot be had, is broken, too large, or of a kind we do not take.
        """
        data = await self._reader.read(source)
        try:
            image = await self._fit(data, rules)
        except BrokenContainer as error:
            raise rejected(error, source.param) from error
        if min(image.source_width_px or image.width_px, image.source_height_px or image.height_px) < source.min_side_px:
            least = source.min_side_px
            raise ImageRejected(f"The picture is smaller than {least} × {least} pixels.", param=source.param)
        return image

    async def _fit(self, data: bytes, rules: ImageRules) -> Image:
        small = len(data) < _SMALL_BYTES
        digest = _digest(data) if small else await asyncio.to_thread(_digest, data)
        key = (digest, rules)
        image = self._cache.get(key)
        if image is None:
            image = await self._made(data, key, small=small)
            self._cache.put(key, image)
        return image

    async def _made(self, data: bytes, key: _Key, *, small: bool) -> Image:
        """Passed on where its container can be, here and at once; decoded and written anew elsewhere where not."""
        digest, rules = key
        inspect = partial(inspect_bytes, data, self._bounds)
        inspection = inspect() if small else await self._inspecting.do(digest, inspect)
        image = passed(inspection, rules, data, digest)
        if image is not None:
            return image
        return await self._rewriting.do(key, partial(self._decoders.rewrite, inspection.container, rules, self._bounds))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
