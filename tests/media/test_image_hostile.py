"""Broken files of every format: whatever the damage, the answer is quick and is either a picture or a refusal."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import ImageRejected
from app.media.containers.model import BrokenContainer
from app.media.exif import orientation_of
from app.media.image import PictureBounds
from app.media.pixels import PILLOW_ERRORS, pillow_errors
from tests.media.pictures import exif, file_of, fit, four_colours, noise, opened

_MAX_S = 1.0
_BOUNDS = PictureBounds(max_pixels=4_000_000)  # damage may enlarge a picture up to them, at an honest price
_CODES = ("invalid_image", "image_too_large", "unsupported_image_format")
_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\x40\0\0\0WEBP",
    b"\0\0\0\x18ftypheic",
)


def _sound_files() -> list[bytes]:
    drawn = four_colours(40, 30)
    rgba = drawn.convert("RGBA")
    rgba.putalpha(128)
    plain = [file_of(drawn, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")]
    return [
        *plain,
        file_of(drawn, "JPEG", progressive=True, exif=exif(6)),
        file_of(drawn.convert("CMYK"), "JPEG"),
        file_of(drawn.convert("P"), "PNG", transparency=0),
        file_of(rgba, "PNG"),
        file_of(rgba, "WEBP"),
        file_of(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(90)]),
        file_of(drawn, "GIF", save_all=True, append_images=[noise(40, 30)]),
        file_of(drawn.convert("1"), "BMP"),
        file_of(drawn, "TIFF", compression="tiff_lzw"),
        file_of(drawn, "TIFF", compression="jpeg"),
    ]


SOUND = _sound_files()
quick = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _judge(data: bytes) -> None:
    started = time.perf_counter()
    try:
        image = fit(data, bounds=_BOUNDS)
    except ImageRejected as error:
        refusal: ImageRejected | None = error
    else:
        refusal = None
        assert image.data
    assert time.perf_counter() - started < _MAX_S
    assert refusal is None or refusal.code in _CODES
    assert "\n" not in str(refusal)


@pytest.mark.parametrize("data", SOUND, ids=range(len(SOUND)))
def test_sound_files_are_sound(data: bytes) -> None:
    opened(fit(data))


@quick
@given(data=st.sampled_from(SOUND), part=st.floats(0, 1))
def test_truncated_file_is_refused(data: bytes, part: float) -> None:
    cut = data[: int(len(data) * part * 0.999)]
    with pytest.raises(ImageRejected):
        fit(cut)


@quick
@given(
    data=st.sampled_from(SOUND),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=8),
)
def test_flipped_bytes_raise_nothing_but_a_refusal(data: bytes, flips: list[tuple[int, int]]) -> None:
    broken = bytearray(data)
    for at, mask in flips:
        broken[at % len(broken)] ^= mask
    _judge(bytes(broken))


@quick
@given(data=st.sampled_from(SOUND), at=st.integers(0, 1 << 20), header=st.binary(min_size=1, max_size=12))
def test_overwritten_headers_raise_nothing_but_a_refusal(data: bytes, at: int, header: bytes) -> None:
    start = at % min(len(data), 400)
    _judge(data[:start] + header + data[start + len(header) :])


@quick
@given(
    data=st.sampled_from(SOUND), at=st.integers(0, 1 << 20), other=st.sampled_from(SOUND), length=st.integers(0, 300)
)
def test_spliced_files_raise_nothing_but_a_refusal(data: bytes, at: int, other: bytes, length: int) -> None:
    start = at % len(data)
    _judge(data[:start] + other[start : start + length] + data[start:])


@quick
@given(
    head=st.sampled_from(
        [
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"RIFF\x40\0\0\0WEBP",
            b"\0\0\0\x18ftypheic",
            b"",
        ]
    ),
    rest=st.binary(max_size=400),
)
def test_rubbish_behind_a_signature_is_refused(head: bytes, rest: bytes) -> None:
    _judge(head + rest)


@given(st.binary(max_size=200))
def test_exif_of_any_bytes_gives_an_orientation(data: bytes) -> None:
    assert 1 <= orientation_of(b"Exif\0\0II*\0" + data) <= 8
    assert 1 <= orientation_of(b"MM\0*" + data) <= 8


@pytest.mark.parametrize(
    ("kind", "value", "orientation"),
    [(3, struct.pack("<H", 6), 6), (4, struct.pack("<I", 3), 3), (3, struct.pack("<H", 9), 1), (5, bytes(4), 1)],
)
def test_exif_orientation_is_read_where_it_makes_sense(kind: int, value: bytes, orientation: int) -> None:
    entry = struct.pack("<HHI", 0x0112, kind, 1) + value.ljust(4, b"\0")
    data = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    assert orientation_of(data) == orientation
    assert orientation_of(b"no tiff") == 1


@pytest.mark.parametrize("error", PILLOW_ERRORS)
def test_every_error_of_pillow_becomes_a_refusal(error: type[BaseException]) -> None:
    reason, code = PILLOW_ERRORS[error]
    with pytest.raises(BrokenContainer) as caught, pillow_errors():
        raise error("unsafe\ntext /tmp/x")
    assert (caught.value.reason, caught.value.code) == (reason, code)
