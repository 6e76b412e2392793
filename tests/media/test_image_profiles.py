from __future__ import annotations

import io
import struct

import PIL.Image
import pytest
from PIL import ImageCms

from app.media.containers.model import MAX_PROFILE_BYTES
from app.media.icc import needs_conversion
from tests.media.pictures import (
    assert_shows,
    assert_shows_four_colours,
    file_of,
    fit,
    four_colours,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_with,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GAMMA_1 = (1 << 8).to_bytes(2, "big")


def curve(*values: int) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def parametric(function: int, *parameters: float) -> bytes:
    numbers = [round(value * 65536) for value in parameters]
    return b"para\0\0\0\0" + struct.pack(f">HH{len(numbers)}i", function, 0, *numbers)


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
P3_TAGS = {
    b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
    b"gXYZ": xyz(0.2920, 0.6922, 0.0419),
    b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
    b"wtpt": xyz(0.9642, 1.0, 0.8249),
    b"rTRC": SRGB_CURVE,
    b"gTRC": SRGB_CURVE,
    b"bTRC": SRGB_CURVE,
}
SRGB_TAGS = {
    **P3_TAGS,
    b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
    b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
    b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
}


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2.4 display profile of these tags."""
    at = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", name, at + len(body), len(value))
        body += padded
    head = bytearray(128)
    head[0:4] = struct.pack(">I", at + len(body))
    head[8:12] = b"\2\x40\0\0"
    head[12:24] = b"mntr" + space + b"XYZ "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + struct.pack(">I", len(tags)) + table + body


P3 = profile(b"RGB ", P3_TAGS)


def saved(format_name: str, embedded: bytes, picture: PIL.Image.Image | None = None) -> bytes:
    options = {"lossless": True} if format_name == "WEBP" else {"quality": 95}
    return file_of(picture or four_colours(), format_name, icc_profile=embedded, **options)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_srgb_profile_goes_without_re_encoding(format_name: str) -> None:
    assert fit(saved(format_name, SRGB)).data == fit(saved(format_name, b"")).data


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_display_p3_is_converted_to_srgb(format_name: str) -> None:
    picture = PIL.Image.new("RGB", (64, 48), (200, 60, 60))
    red, green, _ = (round(value) for value in seen_by_lcms((200, 60, 60)))
    assert red > 212
    assert_shows(fit(saved(format_name, P3, picture)), [(red, green, 50)] * 4, within=14)


def seen_by_lcms(colour: tuple[int, int, int]) -> tuple[float, ...]:
    one = PIL.Image.new("RGB", (1, 1), colour)
    converted = ImageCms.profileToProfile(one, ImageCms.ImageCmsProfile(io.BytesIO(P3)), ImageCms.createProfile("sRGB"))
    assert converted is not None
    pixel = converted.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_profile_split_over_segments_is_joined() -> None:
    plain = file_of(four_colours(), "JPEG", quality=95)
    halves = [b"ICC_PROFILE\0\1\2" + P3[:200], b"ICC_PROFILE\0\2\2" + P3[200:]]
    data = jpeg_with(jpeg_with(plain, jpeg_segment(0xE2, halves[0])), jpeg_segment(0xE2, halves[1]))
    assert fit(data).data != plain


def test_profile_of_grey_gamma_is_converted() -> None:
    linear = profile(b"GRAY", {b"kTRC": curve(256), b"wtpt": P3_TAGS[b"wtpt"]})
    grey = PIL.Image.new("L", (32, 32), 128)
    assert_shows(fit(saved("PNG", linear, grey)), [(188, 188, 188)] * 4, within=3)
    assert_shows(fit(saved("PNG", linear, grey.convert("LA"))), [(188, 188, 188)] * 4, within=3)
    clear = png_with(saved("PNG", linear, grey), png_chunk(b"tRNS", b"\0\x07"))
    assert_shows(fit(clear), [(188, 188, 188)] * 4, within=3)


@pytest.mark.parametrize("embedded", [b"rubbish", P3[:200], profile(b"CMYK", {}), b"\0" * 132])
def test_profile_that_cannot_be_meant_is_ignored(embedded: bytes) -> None:
    assert_shows_four_colours(fit(saved("JPEG", embedded)))


def test_profile_lcms_cannot_use_is_ignored() -> None:
    broken = profile(b"RGB ", {**P3_TAGS, b"A2B0": b"mft2 broken"})
    assert needs_conversion(broken, "rgb")
    assert_shows_four_colours(fit(saved("PNG", broken[:140] + bytes(len(broken) - 140))))


def test_press_profile_of_a_cmyk_picture_that_is_broken_is_ignored() -> None:
    data = file_of(four_colours(mode="CMYK"), "JPEG", quality=95, icc_profile=profile(b"CMYK", {}))
    assert_shows_four_colours(fit(data), within=20)


def test_oversized_profile_is_ignored() -> None:
    data = saved("PNG", P3 + bytes(MAX_PROFILE_BYTES))
    assert fit(data).data == fit(saved("PNG", b"")).data


def test_deflated_profile_that_is_broken_is_ignored() -> None:
    plain = file_of(four_colours(), "PNG")
    assert fit(png_with(plain, png_chunk(b"iCCP", b"name\0\0no deflate stream"))).data == plain


@pytest.mark.parametrize("half", [curve(563), curve(*range(0, 65536, 64)), parametric(0, 2.2), SRGB_CURVE, curve()])
def test_curves_are_told_from_srgb_by_their_value_half_way(half: bytes) -> None:
    tags = {**SRGB_TAGS, b"rTRC": half, b"gTRC": half, b"bTRC": half}
    like_srgb = half not in (curve(), curve(*range(0, 65536, 64)))
    assert needs_conversion(profile(b"RGB ", tags), "rgb") is not like_srgb


@pytest.mark.parametrize(
    "broken", [b"", b"curv\0\0\0\0\0\0\xff\xff", parametric(9, 1.0), parametric(0, -1.0), b"text" * 9]
)
def test_curve_that_makes_no_sense_is_not_srgb(broken: bytes) -> None:
    assert needs_conversion(profile(b"RGB ", {**SRGB_TAGS, b"gTRC": broken}), "rgb")


def test_profile_without_colorants_is_not_srgb() -> None:
    assert needs_conversion(profile(b"RGB ", {}), "rgb")
    assert not needs_conversion(profile(b"RGB ", SRGB_TAGS), "rgb")
    assert not needs_conversion(SRGB, "palette")
