"""Draws the pictures that the tests of this folder send, sound and hostile."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw

from app.core.types import Image, ImageRules
from app.media.image import PictureBounds, fit_picture
from app.media.pixels import prepare_pillow

RED, GREEN, BLUE, WHITE = (220, 30, 30), (20, 160, 60), (30, 60, 200), (255, 255, 255)
SECRET = b"GPS 31.2304 N, 121.4737 E"
PARAM = "messages[0].content[1].image_url.url"
ANY_SIZE = ImageRules(formats=("jpeg", "png", "webp"), min_side_px=1)

_STORED_AS = {  # how an upright picture is stored under each EXIF orientation
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_90,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_270,
}


def four_colours(width_px: int = 64, height_px: int = 48, mode: str = "RGB") -> PIL.Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    picture = PIL.Image.new("RGB", (width_px, height_px), WHITE)
    draw = PIL.ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width_px // 2 - 1, height_px // 2 - 1), fill=RED)
    draw.rectangle((width_px // 2, 0, width_px, height_px // 2 - 1), fill=GREEN)
    draw.rectangle((0, height_px // 2, width_px // 2 - 1, height_px), fill=BLUE)
    return picture.convert(mode)


def noise(width_px: int, height_px: int) -> PIL.Image.Image:
    return PIL.Image.frombytes("RGB", (width_px, height_px), random.Random(5).randbytes(3 * width_px * height_px))


def file_of(picture: PIL.Image.Image, format_name: str, **options: object) -> bytes:
    prepare_pillow()
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> bytes:
    fields = PIL.Image.Exif()
    fields[0x0112] = orientation
    fields[0x010E] = SECRET.decode()
    return fields.tobytes()


def stored_as(orientation: int, picture: PIL.Image.Image | None = None) -> PIL.Image.Image:
    """A picture whose upright view, under this EXIF orientation, is `four_colours()`."""
    upright = picture or four_colours()
    return upright.transpose(_STORED_AS[orientation]) if orientation in _STORED_AS else upright


def fit(data: bytes, rules: ImageRules = ANY_SIZE, bounds: PictureBounds | None = None) -> Image:
    prepare_pillow()
    return fit_picture(data, rules, bounds or PictureBounds(), PARAM)


def opened(image: Image) -> PIL.Image.Image:
    """What a backend sees; the file must be what its media type says, and tell nothing besides the pixels."""
    picture = PIL.Image.open(io.BytesIO(image.data))
    picture.load()
    assert image.media_type == f"image/{str(picture.format).lower()}"
    assert picture.size == (image.width_px, image.height_px)
    assert not {"exif", "xmp", "comment", "icc_profile", "transparency"} & picture.info.keys()
    assert picture.mode in ("L", "RGB", "P", "1")
    assert SECRET not in image.data
    return picture.convert("RGB")


def assert_shows(image: Image, colours: Sequence[tuple[int, int, int]], *, within: int = 12) -> None:
    """Asserts the colours at top left, top right, bottom left and bottom right."""
    picture = opened(image)
    places = [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]
    for (x, y), wanted in zip(places, colours, strict=True):
        found = picture.getpixel((int(x * picture.width), int(y * picture.height)))
        assert isinstance(found, tuple)
        assert all(abs(one - other) <= within for one, other in zip(found, wanted, strict=True)), (x, y, found, wanted)


def assert_shows_four_colours(image: Image, *, within: int = 12) -> None:
    assert_shows(image, (RED, GREEN, BLUE, WHITE), within=within)


def png_chunk(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(
    width_px: int,
    height_px: int,
    depth: int,
    colour_type: int,
    pixels: bytes,
    *,
    before: bytes = b"",
    after: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """A PNG made by hand. `pixels` are the IDAT's bytes; other chunks go `before` and `after` it."""
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, colour_type, 0, 0, interlace)
    chunks = [png_chunk(b"IHDR", header), before, png_chunk(b"IDAT", pixels), after, png_chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_with(file: bytes, chunk: bytes) -> bytes:
    """The PNG with one more chunk after its header."""
    return file[:33] + chunk + file[33:]


def flat_png(side_px: int, depth: int, colour_type: int, samples: Sequence[int], *, before: bytes = b"") -> bytes:
    """A square PNG of one colour, given by its samples of 8 or 16 bits."""
    pixel = b"".join(sample.to_bytes(depth // 8, "big") for sample in samples)
    rows = (b"\0" + pixel * side_px) * side_px
    return png(side_px, side_px, depth, colour_type, zlib.compress(rows), before=before)


def zeros_deflated(count: int) -> bytes:
    """A zlib stream of zeros, made without ever holding them."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    pieces = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*pieces, packer.compress(bytes(count & 0xFFFFF)), packer.flush()])


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def jpeg_with(file: bytes, segment: bytes) -> bytes:
    """The JPEG with one more segment after its start."""
    return file[:2] + segment + file[2:]


def jpeg_of_size(file: bytes, width_px: int, height_px: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = next(at for at in (file.find(b"\xff\xc0"), file.find(b"\xff\xc2")) if at > 0)
    return file[: at + 5] + struct.pack(">HH", height_px, width_px) + file[at + 9 :]
