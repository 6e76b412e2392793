from __future__ import annotations

import struct

import PIL.Image
import pytest

from app.core.errors import ImageRejected
from app.core.types import ImageRules
from app.media.containers.webp import walk
from tests.media.pictures import (
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

LOSSY = file_of(four_colours(), "WEBP", quality=90)
LOSSLESS = file_of(four_colours(), "WEBP", lossless=True)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) & 1)


def bitstream(file: bytes) -> bytes:
    """The only chunk of a simple file."""
    return file[12:]


def canvas(flags: int, width_px: int = 64, height_px: int = 48) -> bytes:
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)


@pytest.mark.parametrize("data", [LOSSY, LOSSLESS])
def test_clean_webp_passes_as_the_very_same_bytes(data: bytes) -> None:
    assert fit(data).data is data


def test_webp_becomes_jpeg_where_the_backend_does_not_take_it() -> None:
    image = fit(LOSSY, ImageRules(min_side_px=1))
    assert image.media_type == "image/jpeg"
    assert_shows_four_colours(image)


def test_metadata_goes_and_the_pixels_stay_bit_for_bit() -> None:
    data = file_of(four_colours(), "WEBP", quality=90, exif=exif(), xmp=SECRET)
    assert SECRET in data
    assert fit(data).data == LOSSY


def test_chunks_and_bytes_after_the_picture_go() -> None:
    assert fit(riff(bitstream(LOSSY), chunk(b"junk", SECRET)) + SECRET).data == LOSSY


def test_exif_orientation_is_applied() -> None:
    image = fit(file_of(stored_as(8), "WEBP", quality=90, exif=exif(8)))
    assert (image.width_px, image.height_px) == (64, 48)
    assert_shows_four_colours(image)


@pytest.mark.parametrize("lossless", [True, False])
def test_transparency_is_flattened_on_white(lossless: bool) -> None:
    clear = PIL.Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    assert_shows(fit(file_of(clear, "WEBP", lossless=lossless, exact=True)), [(255, 127, 127)] * 4)


def test_first_frame_of_an_animation_is_used() -> None:
    data = file_of(four_colours(), "WEBP", lossless=True, save_all=True, append_images=[noise(64, 48)] * 3)
    clean = walk(data).clean
    assert clean.count(b"ANMF") == 1
    assert_shows_four_colours(fit(data))


def test_first_frame_smaller_than_its_canvas_lies_on_white() -> None:
    corner = PIL.Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    corner.paste((255, 0, 0, 255), (0, 0, 30, 20))
    data = file_of(corner, "WEBP", lossless=True, save_all=True, append_images=[four_colours(mode="RGBA")])
    assert_shows(fit(data), ((255, 0, 0), WHITE, WHITE, WHITE))


@pytest.mark.parametrize("end", [12, 19, 25, 40, len(LOSSY) - 2])
def test_truncated_webp_is_refused(end: int) -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(LOSSY[:end])


def test_truncated_webp_is_refused_though_its_outer_size_was_mended() -> None:
    data = file_of(noise(80, 80), "WEBP", quality=90)
    half = data[: len(data) // 4 * 2]
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(b"RIFF" + struct.pack("<I", len(half) - 8) + half[8:])


def test_webp_whose_first_partition_ends_outside_is_refused() -> None:
    payload = bitstream(LOSSY)[8:]
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(riff(chunk(b"VP8 ", payload[:14])))


FRAME = bytes(6) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little") + bytes(4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (riff(chunk(b"ICCP", SECRET)), "has no picture"),
        (riff(canvas(0)), "has no picture"),
        (riff(chunk(b"VP8X", bytes(4)), bitstream(LOSSY)), "no sound header"),
        (riff(canvas(0, 65, 48), bitstream(LOSSY)), "two sizes"),
        (riff(chunk(b"VP8L", b"\x2e" + bytes(20))), "no sound frame header"),
        (riff(chunk(b"VP8 ", bytes(20))), "no sound frame header"),
        (riff(chunk(b"VP8 ", bitstream(LOSSY)[8:14] + bytes(4) + bitstream(LOSSY)[18:])), "no width or no height"),
        (riff(canvas(2), chunk(b"ANMF", bytes(10))), "no sound frame"),
        (riff(canvas(2), chunk(b"ANMF", FRAME + chunk(b"junk", SECRET))), "no sound frame"),
        (riff(canvas(2, 32, 32), chunk(b"ANMF", FRAME + bitstream(LOSSY))), "no sound frame"),
        (
            riff(canvas(2, 99, 99), chunk(b"ANMF", b"\1" + bytes(5) + b"\1\0\0\1\0\0" + bytes(4) + bitstream(LOSSY))),
            "two sizes",
        ),
        (riff(bitstream(LOSSY), chunk(b"junk", b"") * 100_001), "too many chunks"),
    ],
)
def test_damaged_webp_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(data)


def test_webp_over_the_bounds_is_refused_from_its_header() -> None:
    start = LOSSY.find(b"\x9d\x01\x2a") + 3
    with pytest.raises(ImageRejected) as caught:
        fit(LOSSY[:start] + struct.pack("<HH", 16_383, 16_383) + LOSSY[start + 4 :])
    assert caught.value.code == "image_too_large"
