"""Fits a picture's bytes to what a backend takes: as it is, cleaned losslessly, or decoded and written anew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import PIL.Image

from app.core.errors import ImageRejected
from app.core.types import Image, ImageRules
from app.media.containers.model import BrokenContainer, Container
from app.media.containers.sniff import walk
from app.media.encode import encode
from app.media.geometry import Placement, place
from app.media.icc import needs_conversion
from app.media.pixels import Decoding

_TURNED = frozenset({5, 6, 7, 8})
_DRAWN = frozenset({"png", "gif", "bmp", "tiff"})


@dataclass(frozen=True, slots=True)
class PictureBounds:
    """What pictures are looked at at all.

    Args:
        max_image_bytes: of the file as sent.
    """

    max_image_bytes: int = 20_000_000
    max_side_px: int = 16_384
    max_pixels: int = 50_000_000


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of a picture before any decoding.

    Args:
        foreign_colours: its profile says that the pixels are not sRGB.
    """

    container: Container
    foreign_colours: bool

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """Width and height as seen, once the orientation is applied."""
        container = self.container
        if container.orientation in _TURNED:
            return container.height_px, container.width_px
        return container.width_px, container.height_px

    @property
    def passable(self) -> bool:
        """True where the cleaned file shows what the picture shows: upright, opaque, sRGB, 8 bits."""
        container = self.container
        return (
            container.passable and container.orientation == 1 and not container.transparent and not self.foreign_colours
        )


def inspect(data: bytes, bounds: PictureBounds, param: str) -> Inspection:
    """Reads a picture's headers and walks its container to the end; decodes nothing.

    Raises:
        ImageRejected: not a picture we take, cut short, damaged, or over a bound.
    """
    try:
        return inspect_bytes(data, bounds)
    except BrokenContainer as error:
        raise rejected(error, param) from error


def fit_picture(data: bytes, rules: ImageRules, bounds: PictureBounds, param: str) -> Image:
    """Makes the picture one that a backend of these rules takes, in this process. Slow where pixels must be decoded.

    Raises:
        ImageRejected: the picture cannot be used.
    """
    try:
        inspection = inspect_bytes(data, bounds)
        return passed(inspection, rules, data) or rewritten(inspection.container, rules, bounds)
    except BrokenContainer as error:
        raise rejected(error, param) from error


def passed(inspection: Inspection, rules: ImageRules, data: bytes, sha256: str | None = None) -> Image | None:
    """The picture without re-encoding; `None` where that would not do. Without copying where the file is clean."""
    container = inspection.container
    if not inspection.passable or container.format not in rules.formats:
        return None
    if rules.max_image_bytes is not None and len(container.clean) > rules.max_image_bytes:
        return None
    if not place(container.width_px, container.height_px, rules).keeps(container.width_px, container.height_px):
        return None
    known = sha256 if container.clean is data else None
    return _image(container.clean, container.format, container.width_px, container.height_px, sha256=known)


def inspect_bytes(data: bytes, bounds: PictureBounds) -> Inspection:
    """As `inspect`, for a picture whose place in the request is not known.

    Raises:
        BrokenContainer: the picture cannot be used.
    """
    if len(data) > bounds.max_image_bytes:
        raise BrokenContainer(
            f"has more than {bounds.max_image_bytes // 1_000_000} MB; send a smaller one", code="image_too_large"
        )
    container = walk(data)
    _check_size(container.width_px, container.height_px, bounds)
    foreign = container.profile is not None and needs_conversion(container.profile, container.colour)
    return Inspection(container, foreign)


def _check_size(width_px: int, height_px: int, bounds: PictureBounds) -> None:
    if max(width_px, height_px) > bounds.max_side_px:
        raise BrokenContainer(
            f"has a side of more than {bounds.max_side_px} pixels; send a smaller one", code="image_too_large"
        )
    if width_px * height_px > bounds.max_pixels:
        raise BrokenContainer(
            f"has more than {bounds.max_pixels // 1_000_000} million pixels; send a smaller one", code="image_too_large"
        )


def rewritten(container: Container, rules: ImageRules, bounds: PictureBounds) -> Image:
    """The picture decoded and written anew. Slow, and in native code that a hostile file may crash.

    Raises:
        BrokenContainer: the picture cannot be used.
    """
    decoding = Decoding(container)
    source_width, source_height = decoding.upright_size_px
    _check_size(source_width, source_height, bounds)  # headers may lie to one reader and not to the other
    placement = place(source_width, source_height, rules)
    if placement.scale < 1:
        decoding.shrink_on_load(placement.width_px, placement.height_px)
    canvas = _placed(decoding.finish(), placement)
    encoded = encode(canvas, rules, drawn=container.format in _DRAWN)
    if placement.padded:  # the region of the source that the canvas would show, so that places scale back truly
        source_width = max(1, round(placement.canvas_width_px / placement.scale))
        source_height = max(1, round(placement.canvas_height_px / placement.scale))
    same = (source_width, source_height) == (encoded.width_px, encoded.height_px)
    return _image(
        encoded.data,
        encoded.format,
        encoded.width_px,
        encoded.height_px,
        source_size_px=(0, 0) if same else (source_width, source_height),
    )


def _placed(picture: PIL.Image.Image, placement: Placement) -> PIL.Image.Image:
    size = (placement.width_px, placement.height_px)
    if picture.size != size:
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=2.0)
    if not placement.padded:
        return picture
    canvas = PIL.Image.new(picture.mode, (placement.canvas_width_px, placement.canvas_height_px), "white")
    canvas.paste(picture, (0, 0))
    return canvas


def _image(
    data: bytes,
    format_name: str,
    width_px: int,
    height_px: int,
    *,
    source_size_px: tuple[int, int] = (0, 0),
    sha256: str | None = None,
) -> Image:
    return Image(
        data=data,
        media_type=f"image/{format_name}",
        width_px=width_px,
        height_px=height_px,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        source_width_px=source_size_px[0],
        source_height_px=source_size_px[1],
    )


def rejected(error: BrokenContainer, param: str) -> ImageRejected:
    """The error for the caller whose picture stands at `param`."""
    return ImageRejected(f"The picture in {param} {error.reason}.", param=param, code=error.code)
