from __future__ import annotations

import struct

import pytest

from app.core.errors import ImageRejected
from app.core.types import Image
from app.media.containers.jpeg import walk
from tests.media.pictures import (
    SECRET,
    assert_shows_four_colours,
    exif,
    file_of,
    fit,
    four_colours,
    jpeg_of_size,
    jpeg_segment,
    jpeg_with,
    noise,
)

PLAIN = file_of(four_colours(), "JPEG", quality=92)


def test_clean_jpeg_passes_as_the_very_same_bytes() -> None:
    assert walk(PLAIN).clean is PLAIN
    assert fit(PLAIN).data is PLAIN


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"optimize": True}, {"keep_rgb": True}, {"restart_marker_rows": 1}]
)
def test_common_kinds_of_jpeg_pass_untouched(options: dict[str, bool]) -> None:
    data = file_of(four_colours(), "JPEG", quality=92, **options)
    assert fit(data).data is data


def test_grey_jpeg_passes_untouched() -> None:
    data = file_of(four_colours(mode="L"), "JPEG")
    assert walk(data).colour == "grey"
    assert fit(data).data is data


@pytest.mark.parametrize(
    "segment",
    [
        jpeg_segment(0xE1, exif()),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET),
        jpeg_segment(0xE2, b"MPF\0" + SECRET),
        jpeg_segment(0xED, b"Photoshop 3.0\0" + SECRET),
        jpeg_segment(0xFE, SECRET),
        jpeg_segment(0xFE, b"") + b"junk that is no segment " + SECRET,
    ],
)
def test_metadata_goes_and_the_pixels_stay_bit_for_bit(segment: bytes) -> None:
    assert fit(jpeg_with(PLAIN, segment)).data == PLAIN


def test_comment_between_scans_goes() -> None:
    data = file_of(four_colours(), "JPEG", progressive=True)
    second_scan = data.find(b"\xff\xda", data.find(b"\xff\xda") + 2)
    second_table = data.rfind(b"\xff\xc4", 0, second_scan)
    assert fit(data[:second_table] + jpeg_segment(0xFE, SECRET) + data[second_table:]).data == data


def test_bytes_after_the_end_go() -> None:
    assert fit(PLAIN + b"PK\3\4" + SECRET).data == PLAIN


def test_preview_inside_the_jfif_header_goes() -> None:
    head = PLAIN.find(b"JFIF") - 4
    fat = jpeg_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\5\5" + SECRET * 3)
    image = fit(PLAIN[:head] + fat + PLAIN[head + 18 :])
    assert SECRET not in image.data
    assert_shows_four_colours(image)


def test_adobe_header_stays_because_it_tells_the_channels_apart() -> None:
    adobe = jpeg_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    rgb = file_of(four_colours(), "JPEG", keep_rgb=True, quality=95)
    data = rgb if b"Adobe" in rgb else jpeg_with(rgb, adobe)
    longer = data.replace(adobe, jpeg_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0) + SECRET))
    assert len(longer) > len(data)
    assert fit(longer).data == data


@pytest.mark.parametrize("end", [3, 10, 25, 170, 700, len(PLAIN) - 2, len(PLAIN) - 1])
def test_truncated_jpeg_is_refused(end: int) -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(PLAIN[:end])


def test_jpeg_that_ends_before_its_pixels_is_refused() -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(PLAIN[: PLAIN.find(b"\xff\xda")] + b"\xff\xd9")


def test_jpeg_that_claims_far_more_pixels_than_it_holds_is_refused() -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(jpeg_of_size(PLAIN, 5000, 5000))


@pytest.mark.parametrize(("width_px", "height_px"), [(65_500, 65_500), (20_000, 100), (10_000, 10_000)])
def test_jpeg_over_the_bounds_is_refused_from_its_header(width_px: int, height_px: int) -> None:
    data = file_of(noise(400, 400), "JPEG", quality=95)
    filler = b"\0" * 4_000_000
    with pytest.raises(ImageRejected) as caught:
        fit(jpeg_of_size(data[:-2] + filler + data[-2:], width_px, height_px))
    assert caught.value.code in ("image_too_large", "invalid_image")


def test_scan_bomb_is_refused() -> None:
    data = file_of(four_colours(), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    assert fit(data[:-2] + scan * 50 + data[-2:]).media_type == "image/jpeg"
    with pytest.raises(ImageRejected, match="too many scans"):
        fit(data[:-2] + scan * 100 + data[-2:])


def test_fewer_scans_are_allowed_of_a_large_picture() -> None:
    data = file_of(noise(400, 300), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    large = jpeg_of_size(data[:-2] + scan * 60 + data[-2:], 7000, 7000)
    with pytest.raises(ImageRejected, match="too many scans"):
        fit(large)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 6000, "thousands of segments"),
        (b"\xff\xd8\xff\xfe", "is cut short"),
        (b"\xff\xd8\xff\xfe\0\1\xff\xd9", "segment of no length"),
        (jpeg_with(PLAIN, b"\xff\x02\0\4ab"), "unknown marker"),
        (jpeg_with(PLAIN, jpeg_segment(0xC0, b"\x08\0\x10\0\x10\3" + bytes(9))), "frame header"),
        (jpeg_with(PLAIN, jpeg_segment(0xDA, bytes(10))), "before their size"),
        (jpeg_of_size(PLAIN, 64, 0), "frame header"),
        (jpeg_with(PLAIN, jpeg_segment(0xC0, b"\x08\0\1")), "frame header"),
        (PLAIN.replace(b"\xff\xdb", b"\xff\xfe"), "lacks its tables"),
    ],
)
def test_damaged_jpeg_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(data)


@pytest.mark.parametrize(("depth", "channels"), [(12, 3), (8, 2), (16, 1)])
def test_rare_kind_of_jpeg_is_refused_with_a_remedy(depth: int, channels: int) -> None:
    frame = struct.pack(">BHHB", depth, 16, 16, channels) + bytes(3 * channels)
    with pytest.raises(ImageRejected, match="export it again as a plain JPEG or PNG") as caught:
        fit(b"\xff\xd8" + jpeg_segment(0xC1, frame) + b"\xff\xd9")
    assert caught.value.code == "unsupported_image_format"


def test_cmyk_jpeg_becomes_rgb() -> None:
    image: Image = fit(file_of(four_colours(mode="CMYK"), "JPEG", quality=95))
    assert_shows_four_colours(image, within=20)


@pytest.mark.parametrize("flood", [b"\xff" * 3_000_000, b"\xff\0" * 1_500_000, b"\0" * 3_000_000])
def test_endless_scan_data_is_walked_quickly_and_refused(flood: bytes) -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(PLAIN[:-2] + flood)
