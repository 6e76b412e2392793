"""GIF, BMP, TIFF, HEIC, AVIF, and what is none of ours."""

from __future__ import annotations

import struct

import PIL.Image
import pytest

from app.core.errors import ImageRejected
from app.media.containers.sniff import walk
from tests.media.pictures import (
    BLUE,
    GREEN,
    RED,
    SECRET,
    WHITE,
    assert_shows,
    assert_shows_four_colours,
    exif,
    file_of,
    fit,
    four_colours,
    noise,
    stored_as,
)

ALL_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"]
GIF, BMP, TIFF = (file_of(four_colours(), name) for name in ("GIF", "BMP", "TIFF"))
HEIC = file_of(four_colours(), "HEIF", quality=95, exif=exif(6))
AVIF = file_of(four_colours(), "AVIF", quality=95, exif=exif())


@pytest.mark.parametrize("format_name", ALL_FORMATS)
def test_every_format_shows_its_colours(format_name: str) -> None:
    assert_shows_four_colours(fit(file_of(four_colours(), format_name, quality=95)), within=20)


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "GIF", "TIFF", "HEIF", "AVIF"])
def test_every_format_shows_transparency_on_white(format_name: str) -> None:
    assert_shows(fit(file_of(PIL.Image.new("RGBA", (64, 48), (255, 0, 0, 0)), format_name)), [WHITE] * 4)


@pytest.mark.parametrize("data", [GIF, BMP, TIFF, HEIC, AVIF])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated_file_is_refused(data: bytes, part: float) -> None:
    with pytest.raises(ImageRejected):
        fit(data[: int(len(data) * part)])


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"<!doctype html><img src=x>",
        b"%PDF-1.7\n%%EOF",
        b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n",
        b"\0\0\1\0\1\0\x10\x10" + bytes(40),
        b"8BPS\0\1" + bytes(60),
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(60),
        b"II+\0\x08\0\0\0" + bytes(60),
        b"just text",
    ],
)
def test_other_formats_are_refused_by_content(data: bytes) -> None:
    with pytest.raises(ImageRejected, match="in a format that is not taken; send JPEG, PNG") as caught:
        fit(data)
    assert caught.value.code == "unsupported_image_format"


def test_empty_file_is_refused() -> None:
    with pytest.raises(ImageRejected, match="is empty"):
        fit(b"")


# GIF


def test_gif_uses_its_first_frame_only() -> None:
    data = file_of(four_colours(), "GIF", save_all=True, append_images=[noise(64, 48)] * 3)
    assert walk(data).animated
    assert_shows_four_colours(fit(data))


def test_transparent_gif_is_shown_on_white() -> None:
    palette = four_colours().convert("P", palette=1, colors=4)
    assert_shows(fit(file_of(palette, "GIF", transparency=palette.getpixel((5, 5)))), (WHITE, GREEN, BLUE, WHITE))


def test_gif_frame_that_leaves_canvas_free_is_shown_on_white() -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0x80, 0, 0) + bytes((*RED, *BLUE))
    frame = b"\x2c" + struct.pack("<HHHHB", 32, 24, 1, 1, 0) + b"\2\2\x44\1\0"
    assert_shows(fit(head + frame + b";"), (WHITE,) * 4)


def test_gif_with_many_frames_costs_little() -> None:
    frame = b"\x21\xf9\4\4\1\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes((*RED, *BLUE))
    assert walk(head + frame * 20_000 + b";").animated
    with pytest.raises(ImageRejected, match="too many blocks"):
        fit(head + frame * 200_000 + b";")


def test_gif_of_one_byte_blocks_is_refused() -> None:
    with pytest.raises(ImageRejected, match="too many blocks"):
        fit(GIF[:-1] + b"\x21\xfe" + b"\1x" * 400_000 + b"\0;")


def test_gif_frame_outside_its_canvas_counts_to_the_size() -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes((*RED, *BLUE))
    data = head + b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\2\2\x44\1\0;"
    with pytest.raises(ImageRejected) as caught:
        fit(data)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", "has no picture"),
        (b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"\x99;", "unknown block"),
        (b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b"\x2c" + bytes(9) + b"\2\0;", "no width or no height"),
        (GIF[:-1], "is cut short"),
    ],
)
def test_damaged_gif_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(data)


# BMP


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_of_every_depth_is_read(mode: str) -> None:
    assert fit(file_of(four_colours(mode=mode), "BMP")).media_type == "image/jpeg"


def test_bmp_of_the_oldest_header_is_read() -> None:
    rows = bytes((30, 30, 220)) * 4 * 4
    data = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, 4, 4, 1, 24) + rows
    assert_shows(fit(data), [RED] * 4)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-5, 5)])
def test_bmp_of_no_size_is_refused(width: int, height: int) -> None:
    with pytest.raises(ImageRejected, match="no width or no height"):
        fit(BMP[:18] + struct.pack("<ii", width, height) + BMP[26:])


def test_run_length_bmp_is_read() -> None:
    palette = bytes((30, 30, 220, 0)) + bytes(1020)
    rows = (b"\x10\0\0\0" * 16) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 8, 1, len(rows), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + head + palette + rows
    assert_shows(fit(data), [RED] * 4)


def test_large_run_length_bmp_is_refused() -> None:
    assert struct.unpack_from("<I", BMP, 30) == (0,)
    data = BMP[:18] + struct.pack("<ii", 8000, 6000) + BMP[26:30] + struct.pack("<I", 1) + BMP[34:]
    with pytest.raises(ImageRejected, match="send it as PNG"):
        fit(data)


# TIFF


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_tiff_of_common_compressions_is_read(compression: str | None) -> None:
    assert_shows_four_colours(fit(file_of(four_colours(), "TIFF", compression=compression)))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "YCbCr", "1", "RGBX"])
def test_tiff_of_common_colour_models_is_read(mode: str) -> None:
    assert fit(file_of(four_colours(mode=mode), "TIFF")).width_px == 64


@pytest.mark.parametrize(
    ("mode", "factor", "seen"), [("I", 1, 100), ("I", 257, 100), ("F", 1 / 255, 100), ("F", 1.0, 100), ("I", 10**6, 0)]
)
def test_tiff_of_32_bits_is_scaled_sensibly(mode: str, factor: float, seen: int) -> None:
    grey = PIL.Image.new("F", (64, 64), 100 * factor)
    grey.putpixel((32, 32), 255 * factor)
    assert_shows(fit(file_of(grey.convert(mode), "TIFF")), [(seen,) * 3] * 4, within=4)


def test_tiff_of_samples_that_are_no_numbers_is_refused() -> None:
    with pytest.raises(ImageRejected, match="of a rare kind"):
        fit(file_of(PIL.Image.new("F", (16, 16), float("inf")), "TIFF"))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_tiff_orientation_is_applied(orientation: int) -> None:
    fields = PIL.Image.Exif()
    fields[0x0112] = orientation
    image = fit(file_of(stored_as(orientation), "TIFF", exif=fields))
    assert (image.width_px, image.height_px) == (64, 48)
    assert_shows_four_colours(image)


def test_tiff_uses_its_first_page() -> None:
    data = file_of(four_colours(), "TIFF", save_all=True, append_images=[noise(500, 500)])
    assert_shows_four_colours(fit(data))


def tiff(*fields: tuple[int, int, int, int], data: bytes = b"\x80" * 256) -> bytes:
    """A little-endian TIFF of (tag, type, count, value) fields; `data` starts at 8."""
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(fields)) + entries + bytes(4)


GREY = ((258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))


def test_tiff_made_by_hand_is_read() -> None:
    data = tiff((256, 4, 1, 16), (257, 4, 1, 16), *GREY, (273, 4, 1, 8), (278, 4, 1, 16), (279, 4, 1, 256))
    assert_shows(fit(data), [(128, 128, 128)] * 4)


@pytest.mark.parametrize(("depth", "light"), [(8, b"\x40"), (16, b"\x40\x40")])
def test_tiff_whose_zero_is_white_is_turned_over(depth: int, light: bytes) -> None:
    white_is_zero = ((258, 3, 1, depth), (259, 3, 1, 1), (262, 3, 1, 0), (277, 3, 1, 1))
    pixels = light * 256
    size = ((256, 4, 1, 16), (257, 4, 1, 16), (273, 4, 1, 8), (278, 4, 1, 16), (279, 4, 1, len(pixels)))
    assert_shows(fit(tiff(*size, *white_is_zero, data=pixels)), [(191, 191, 191)] * 4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000), *GREY, (273, 4, 1, 8), (279, 4, 1, 16)), "side of more than"),
        (tiff((256, 4, 1, 0), (257, 4, 1, 9), *GREY), "no width or no height"),
        (tiff((256, 4, 1, 16), (257, 4, 1, 16), *GREY, (273, 4, 1, 8), (279, 4, 1, 9999)), "is cut short"),
        (tiff((256, 4, 1, 16), (257, 4, 1, 16), *GREY, (273, 4, 1, 9999)), "is cut short"),
        (tiff((256, 4, 1, 16), (257, 4, 1, 16), *GREY, (278, 4, 1, 1), (273, 4, 1, 8)), "is cut short"),
        (tiff((256, 4, 1, 16), (257, 4, 1, 16), (284, 3, 1, 2), (277, 3, 1, 3), (273, 4, 1, 8)), "is cut short"),
        (tiff((256, 4, 9999, 16)), "is cut short"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), *GREY, (322, 3, 1, 0), (323, 3, 1, 16)), "tiles of no sound size"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), *GREY, (322, 3, 1, 9000), (323, 3, 1, 9000)), "tiles of no sound size"),
        (tiff((256, 4, 1, 9), (257, 4, 1, 9), *GREY, (322, 3, 1, 16), (323, 3, 1, 16)), "is cut short"),
        (tiff((256, 4, 1, 16), (257, 4, 1, 16), (273, 1, 300_000, 8), data=bytes(400_000)), "too many pieces"),
        (tiff((320, 3, 180, 8), (34675, 7, 360, 8), data=bytes(500)), "larger than the file"),
        (b"II*\0\xff\xff\0\0", "is cut short"),
    ],
)
def test_damaged_tiff_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(data)


def test_tiff_metadata_is_not_even_shown_to_the_decoder() -> None:
    data = file_of(four_colours(), "TIFF", tiffinfo={270: SECRET.decode(), 700: SECRET})
    clean = walk(data).clean
    directory_at = int.from_bytes(clean[4:8], "little")
    tags = [struct.unpack_from("<H", clean, at)[0] for at in range(directory_at + 2, len(clean) - 4, 12)]
    assert 256 in tags
    assert not {270, 700, 34665, 34853} & set(tags)


# HEIC and AVIF


@pytest.mark.parametrize("format_name", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_a_property_of_the_picture(format_name: str, orientation: int) -> None:
    data = file_of(stored_as(orientation), format_name, quality=95, exif=exif(orientation))
    image = fit(data)
    assert (image.width_px, image.height_px) == (64, 48)
    assert_shows_four_colours(image, within=20)


def test_metadata_of_avif_is_hidden_from_the_decoder() -> None:
    assert AVIF.count(b"Exif") > walk(AVIF).clean.count(b"Exif")


def test_heic_over_the_bounds_is_refused_from_its_header() -> None:
    at = HEIC.find(b"ispe") + 8
    with pytest.raises(ImageRejected) as caught:
        fit(HEIC[:at] + struct.pack(">II", 20_000, 20_000) + HEIC[at + 8 :])
    assert caught.value.code == "image_too_large"


def box(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


HEIC_HEAD = box(b"ftyp", b"heic\0\0\0\0mif1heic")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has no picture"),
        (box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", bytes(12))))), "has no picture"),
        (box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", b"\0")))), "no sound size"),
        (b"\0\0\0\3free", "box of no length"),
        (b"\0\0\0\1free" + struct.pack(">Q", 1 << 40), "is cut short"),
        (b"\0\0\0", "is cut short"),
        (box(b"free") * 20_001, "too many boxes"),
        (struct.pack(">I", 0) + b"free" + bytes(50), "has no picture"),
    ],
)
def test_damaged_heic_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(HEIC_HEAD + body)
