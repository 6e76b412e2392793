"""Decodes a picture to opaque, upright sRGB: mode L or RGB, 8 bits a channel, origin top left.

Pillow and its plugins see only files whose containers were walked and whose size is within bounds.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

import PIL.Image
import pillow_heif
from PIL import (  # noqa: F401 - the plugins register themselves with Pillow
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageChops,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from app.media.containers.model import MAX_PROFILE_BYTES, BrokenContainer, ColourModel, Container
from app.media.exif import orientation_of
from app.media.icc import needs_conversion

_DAMAGED = "cannot be decoded: its pixel data is damaged; export it again"
TOO_LARGE = ("is too large to decode; send a smaller one", "image_too_large")
"""What a caller is told of a picture that takes more memory than a decoder may have."""
_RARE = "is of a rare kind that is not taken; send it as JPEG or PNG"

PILLOW_ERRORS: dict[type[BaseException], tuple[str, str]] = {
    UnidentifiedImageError: (_DAMAGED, "invalid_image"),
    PIL.Image.DecompressionBombError: TOO_LARGE,
    PIL.Image.DecompressionBombWarning: TOO_LARGE,
    MemoryError: TOO_LARGE,
    OverflowError: TOO_LARGE,
    NotImplementedError: (_RARE, "unsupported_image_format"),
    KeyError: (_RARE, "unsupported_image_format"),  # a combination of header fields a plugin has no row for
    AttributeError: (_DAMAGED, "invalid_image"),
    EOFError: (_DAMAGED, "invalid_image"),
    IndexError: (_DAMAGED, "invalid_image"),
    OSError: (_DAMAGED, "invalid_image"),
    RuntimeError: (_DAMAGED, "invalid_image"),  # libheif's and libavif's
    SyntaxError: (_DAMAGED, "invalid_image"),  # Pillow's own word for a broken file
    TypeError: (_DAMAGED, "invalid_image"),
    ValueError: (_DAMAGED, "invalid_image"),
    ZeroDivisionError: (_DAMAGED, "invalid_image"),
    struct.error: (_DAMAGED, "invalid_image"),
    zlib.error: (_DAMAGED, "invalid_image"),
}
"""What Pillow and its plugins raise on bad files, and what the caller is told. The nearest class in a row wins."""

_TRANSPOSE = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_COLOURS: dict[str, ColourModel] = {"CMYK": "cmyk", "L": "grey", "RGB": "rgb"}
_TURNED = frozenset({5, 6, 7, 8})
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 8
_TO_8_BITS = [(value * 255 + 32767) // 65535 for value in range(65536)]


def prepare_pillow() -> None:
    """Lets Pillow read HEIC, and keeps its warnings about odd files out of the logs. May be called again."""
    pillow_heif.register_heif_opener(thumbnails=False)
    warnings.filterwarnings("ignore", module=r"PIL\..*")


@contextmanager
def pillow_errors() -> Iterator[None]:
    """Turns what Pillow raises into `BrokenContainer`."""
    try:
        yield
    except tuple(PILLOW_ERRORS) as error:
        kind = next(kind for kind in type(error).__mro__ if kind in PILLOW_ERRORS)
        reason, code = PILLOW_ERRORS[kind]
        raise BrokenContainer(reason, code=code) from error


class Decoding:
    """A picture on its way from file to pixels.

    Raises (everywhere):
        BrokenContainer: the pixels cannot be had.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        with pillow_errors():
            opened = PIL.Image.open(io.BytesIO(container.clean), formats=(container.format,))
        self._image: PIL.Image.Image = opened
        self._frame_px = opened.tile[0].extents if container.format == "gif" and opened.tile else None
        self._orientation = container.orientation
        if container.format == "avif":
            self._orientation = orientation_of(self._image.info.get("exif") or b"")

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        width, height = self._image.size
        return (height, width) if self._orientation in _TURNED else (width, height)

    def shrink_on_load(self, width_px: int, height_px: int) -> None:
        """Lets the decoder skip detail that a picture of this upright size cannot show. Only JPEG can."""
        if self._container.format == "jpeg":
            size = (height_px, width_px) if self._orientation in _TURNED else (width_px, height_px)
            with pillow_errors():
                self._image.draft(None, size)

    def finish(self) -> PIL.Image.Image:
        """Decodes; gives mode L or RGB, opaque, upright, sRGB."""
        with pillow_errors():
            self._image.load()
            profile = self._profile()
            if self._container.format == "png":
                _scale_clear(self._image, self._container.bit_depth)
            picture = _opaque(self._image)
            if _is_negative(self._image):
                picture = ImageChops.invert(picture)
            if self._frame_px is not None:
                picture = _framed(picture, self._frame_px)
            picture = _to_srgb(picture, profile)
            if self._orientation in _TRANSPOSE:
                picture = picture.transpose(_TRANSPOSE[self._orientation])
            picture.info = {}  # Pillow writes some of it into what it saves
            return picture

    def _profile(self) -> bytes | None:
        if self._container.profile is not None:
            return self._container.profile
        found = self._image.info.get("icc_profile")  # of the formats whose walk does not look for it
        return found if isinstance(found, bytes) and len(found) <= MAX_PROFILE_BYTES else None


def _scale_clear(image: PIL.Image.Image, bit_depth: int) -> None:
    """Brings the colour that a PNG declares transparent to the 8 bits that Pillow makes of the samples, not of it.
    Bits beyond the depth mean nothing (PNG third edition, 11.3.1.1)."""
    clear = image.info.get("transparency")
    most = (1 << bit_depth) - 1
    if isinstance(clear, tuple):
        image.info["transparency"] = tuple((sample & most) >> max(bit_depth - 8, 0) for sample in clear)
    elif isinstance(clear, int) and image.mode == "L":
        image.info["transparency"] = (clear & most) * 255 // most


def _is_negative(image: PIL.Image.Image) -> bool:
    """A TIFF whose zero is white, of more than 8 bits: only up to them Pillow turns such samples over."""
    return (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.mode.startswith(("I", "F"))
        and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    )


def _opaque(image: PIL.Image.Image) -> PIL.Image.Image:
    """Mode L, RGB or CMYK, transparency shown on white."""
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image)
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _framed(picture: PIL.Image.Image, frame_px: tuple[int, int, int, int]) -> PIL.Image.Image:
    """A GIF whose frame leaves some of the canvas free: what Pillow fills with a colour, browsers show transparent."""
    if frame_px == (0, 0, *picture.size):
        return picture
    canvas = PIL.Image.new(picture.mode, picture.size, "white")
    canvas.paste(picture.crop(frame_px), frame_px[:2])
    return canvas


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    grey = image.mode in ("1", "L", "LA")  # stays so: its profile, if it has one, is for grey
    layered = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    canvas = PIL.Image.new("L" if grey else "RGB", layered.size, "white")
    canvas.paste(layered.convert(canvas.mode), mask=layered.getchannel("A"))
    return canvas


def _from_16_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """16 bits of grey scaled to 8: plain conversion would clip them to white."""
    wide = image.convert("I")
    grey = wide.point(_TO_8_BITS, "L")
    clear = image.info.get("transparency")
    if isinstance(clear, int) and 0 <= clear <= 0xFFFF:
        table = [0] * 65536
        table[clear] = 255
        grey.paste(255, mask=wide.point(table, "L"))
    return grey


def _stretched(image: PIL.Image.Image) -> PIL.Image.Image:
    """32-bit grey has no agreed white: what fits 8 or 16 bits is read so, all else is stretched."""
    low, high = image.getextrema()
    if not isinstance(low, int | float) or not isinstance(high, int | float) or not (isfinite(low) and isfinite(high)):
        raise NotImplementedError("samples that are no numbers")
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    elif low >= 0 and high <= 65535:
        low, high = 0, 65535
    scale = 255 / ((high - low) or 1)
    return image.convert("F").point(lambda sample: sample * scale - low * scale).convert("L")


def _to_srgb(picture: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    if profile is not None and needs_conversion(profile, _COLOURS[picture.mode]):
        try:
            converted = ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None  # a profile nobody can use is ignored, as browsers do
        if converted is not None:
            return converted
    return picture.convert("RGB") if picture.mode == "CMYK" else picture
