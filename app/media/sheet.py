"""Pictures laid out on one numbered sheet, and the blank sheet: for models that take one picture, and always one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from app.core.types import Image, ImageRules, ImageSource
from app.media.containers.model import BrokenContainer
from app.media.containers.sniff import walk
from app.media.encode import Encoded, encode
from app.media.geometry import place
from app.media.image import rejected
from app.media.pixels import Decoding

MAX_SHEET_PICTURES = 16
"""With more, each would be too small to be read."""

_BLANK_SIDE_PX = 256
_MAX_SHEET_PIXELS = 8_000_000
_MAX_SHEET_SIDE_PX = 4096
_MIN_SHEET_WIDTH_PX = 512
_MIN_TILE_PIXELS = 65_536
_SPARE_DETAIL = 1.5  # tiles differ in size: what a tile may hold more than its even share of the sheet

# in widths of the sheet, so that a label stays readable when a model looks at the sheet scaled down
_GUTTER = 0.012
_BAND = 0.045
_NARROWEST, _WIDEST = 1 / 3, 3.0  # a tile's width over its height; what is longer than that stands smaller in its tile


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a picture stands on a sheet one unit wide; its label stands in the band above."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A sheet one unit wide.

    Args:
        tiles: in reading order.
    """

    height: float
    tiles: tuple[Tile, ...]

    @property
    def smallest(self) -> float:
        """Area of the smallest tile, on a sheet whose longer side is one."""
        return min(tile.width * tile.height for tile in self.tiles) / max(1.0, self.height) ** 2


def laid_out(sizes_px: Sequence[tuple[int, int]]) -> Layout:
    """The layout in rows that shows the smallest picture largest, for pictures of these widths and heights."""
    shapes = [min(max(width / height, _NARROWEST), _WIDEST) for width, height in sizes_px]
    layouts = [_in_columns(shapes, columns) for columns in range(1, len(shapes) + 1)]
    return max(layouts, key=lambda layout: layout.smallest)


def _in_columns(shapes: Sequence[float], columns: int) -> Layout:
    tiles: list[Tile] = []
    top = _GUTTER
    tallest = 1.0
    for start in range(0, len(shapes), columns):
        row = shapes[start : start + columns]
        height = min((1 - _GUTTER * (len(row) + 1)) / sum(row), tallest)
        tallest = height if not start else max(tallest, height)  # so that a short last row does not outgrow the others
        top += _BAND
        left = _GUTTER
        for shape in row:
            tiles.append(Tile(left, top, shape * height, height))
            left += shape * height + _GUTTER
        top += height + _GUTTER
    return Layout(top, tuple(tiles))


def tile_rules(count: int, rules: ImageRules) -> ImageRules:
    """What each of `count` pictures is fitted to before it is placed: as much detail as the sheet can show of it."""
    pixels = max(int(_SPARE_DETAIL * (_bounded(rules).max_pixels or 0)) // count, _MIN_TILE_PIXELS)
    return ImageRules(formats=("jpeg", "png", "webp"), max_side_px=_MAX_SHEET_SIDE_PX, min_side_px=1, max_pixels=pixels)


def draw_sheet(pictures: Sequence[Image], sources: Sequence[ImageSource], rules: ImageRules) -> Image:
    """Lays pictures out on one sheet within `rules`, numbered from 1 in their order, in this process. Slow.

    Args:
        pictures: fitted to `tile_rules`.
        sources: where each came from; errors name it.

    Raises:
        ImageRejected: the pixels of one cannot be had.
    """
    at = 0

    def tell(index: int) -> None:
        nonlocal at
        at = index

    try:
        return drawn(pictures, rules, tell)
    except BrokenContainer as error:
        raise rejected(error, sources[at].param) from error


def drawn(pictures: Sequence[Image], rules: ImageRules, tell: Callable[[int], None]) -> Image:
    """As `draw_sheet`, for pictures whose place in the request is not known.

    Args:
        tell: is called with the index of each picture before it is decoded.

    Raises:
        BrokenContainer: the pixels of the picture told of last cannot be had.
    """
    layout = laid_out([(picture.width_px, picture.height_px) for picture in pictures])
    width_px = _worthwhile_width_px(layout, pictures)
    placement = place(width_px, max(1, round(width_px * layout.height)), _bounded(rules))
    canvas = PIL.Image.new("RGB", (placement.canvas_width_px, placement.canvas_height_px), "white")
    # the floor of both: rounding must not push a tile over the edge
    unit_px = min(placement.width_px, placement.height_px / layout.height)
    pen = PIL.ImageDraw.Draw(canvas)
    for index, (tile, picture) in enumerate(zip(layout.tiles, pictures, strict=True)):
        tell(index)
        _label(pen, index + 1, tile, unit_px)
        _paste(canvas, picture, tile, unit_px)
    return _image(encode(canvas, rules, drawn=True))


@lru_cache(maxsize=32)
def blank_sheet(rules: ImageRules) -> Image:
    """A white picture within `rules`, and no larger than they ask for."""
    placement = place(_BLANK_SIDE_PX, _BLANK_SIDE_PX, rules)
    canvas = PIL.Image.new("RGB", (placement.canvas_width_px, placement.canvas_height_px), "white")
    formats = sorted(rules.formats, key=lambda format_: format_ != "png")  # a PNG of one colour is smallest
    return _image(encode(canvas, replace(rules, formats=tuple(formats)), drawn=True))


def _bounded(rules: ImageRules) -> ImageRules:
    """The rules with our own bounds on a sheet, which keep memory bounded where a backend takes any size."""
    return replace(
        rules,
        max_side_px=min(rules.max_side_px or _MAX_SHEET_SIDE_PX, _MAX_SHEET_SIDE_PX),
        max_pixels=min(rules.max_pixels or _MAX_SHEET_PIXELS, _MAX_SHEET_PIXELS),
    )


def _worthwhile_width_px(layout: Layout, pictures: Sequence[Image]) -> int:
    """The width at which every picture is shown in full detail; the rules may allow less."""
    widths = [
        max(picture.width_px / tile.width, picture.height_px / tile.height)
        for tile, picture in zip(layout.tiles, pictures, strict=True)
    ]
    return max(_MIN_SHEET_WIDTH_PX, round(max(widths)))


def _label(pen: PIL.ImageDraw.ImageDraw, number: int, tile: Tile, unit_px: float) -> None:
    """White digits on a black tag in the band above the tile, at its left."""
    height = max(1, int(_BAND * unit_px * 0.9))
    font = PIL.ImageFont.load_default(height * 0.85)
    left, bottom = int(tile.left * unit_px), int(tile.top * unit_px)
    width = round(pen.textlength(str(number), font=font) + height * 0.6)
    pen.rectangle((left, bottom - height, left + width - 1, bottom - 1), fill="black")
    pen.text((left + width / 2, bottom - height / 2), str(number), fill="white", font=font, anchor="mm")


def _paste(canvas: PIL.Image.Image, picture: Image, tile: Tile, unit_px: float) -> None:
    """The picture at the top left of its tile, scaled down to it where it is larger, never stretched."""
    scale = min(1.0, tile.width * unit_px / picture.width_px, tile.height * unit_px / picture.height_px)
    size = (max(1, int(picture.width_px * scale)), max(1, int(picture.height_px * scale)))
    decoding = Decoding(walk(picture.data))
    if decoding.upright_size_px != (picture.width_px, picture.height_px):  # headers may lie to one reader and not to us
        raise BrokenContainer("cannot be decoded: its headers disagree; export it again")
    decoding.shrink_on_load(*size)
    pixels = decoding.finish()
    if pixels.size != size:
        pixels = pixels.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=2.0)
    canvas.paste(pixels, (int(tile.left * unit_px), int(tile.top * unit_px)))


def _image(encoded: Encoded) -> Image:
    digest = hashlib.sha256(encoded.data).hexdigest()
    return Image(encoded.data, f"image/{encoded.format}", encoded.width_px, encoded.height_px, digest)
