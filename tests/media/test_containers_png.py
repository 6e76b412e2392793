from __future__ import annotations

import struct
import zlib

import pytest

from app.core.errors import ImageRejected
from app.media.containers.png import walk
from tests.media.pictures import (
    SECRET,
    WHITE,
    assert_shows,
    assert_shows_four_colours,
    exif,
    file_of,
    fit,
    flat_png,
    four_colours,
    noise,
    opened,
    png,
    png_chunk,
    png_with,
    stored_as,
    zeros_deflated,
)

PLAIN = file_of(four_colours(), "PNG")
BLACK_ROWS = zlib.compress((b"\0" + b"\0" * 8) * 8)  # 8 × 8, grey or palette, 8 bits


def test_clean_png_passes_as_the_very_same_bytes() -> None:
    assert walk(PLAIN).clean is PLAIN
    assert fit(PLAIN).data is PLAIN


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_plain_colour_models_pass_untouched(mode: str) -> None:
    data = file_of(four_colours(mode=mode), "PNG")
    assert fit(data).data is data


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"gAMA", b"sRGB", b"bKGD", b"prVt"])
def test_metadata_goes_and_the_pixels_stay_bit_for_bit(kind: bytes) -> None:
    assert fit(png_with(PLAIN, png_chunk(kind, SECRET))).data == PLAIN


def test_bytes_after_the_end_go() -> None:
    assert fit(PLAIN + b"PK\3\4" + SECRET).data == PLAIN


def test_exif_orientation_is_applied() -> None:
    data = file_of(stored_as(6), "PNG", exif=exif(6))
    image = fit(data)
    assert (image.width_px, image.height_px) == (64, 48)
    assert_shows_four_colours(image)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_chunk_is_never_inflated_without_bound(kind: bytes) -> None:
    bomb = png_with(PLAIN, png_chunk(kind, b"name\0\0" + zeros_deflated(64 << 20)))
    assert fit(bomb).data == PLAIN


def test_animation_is_reduced_to_its_first_frame_without_decoding() -> None:
    data = file_of(four_colours(), "PNG", save_all=True, append_images=[noise(64, 48)], duration=50)
    assert b"acTL" in data
    image = fit(data)
    assert not any(kind in image.data for kind in (b"acTL", b"fcTL", b"fdAT"))
    assert_shows_four_colours(image, within=0)


def test_interlaced_png_passes_untouched() -> None:
    rows = b"".join(
        b"\0" + bytes(3 * columns)
        for columns, count in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
        for _ in range(count)
    )
    data = png(8, 8, 8, 2, zlib.compress(rows), interlace=1)
    assert fit(data).data is data
    assert opened(fit(data)).getpixel((7, 7)) == (0, 0, 0)


@pytest.mark.parametrize("size_px", [1, 2, 3, 5])
def test_interlaced_png_too_small_for_all_passes_is_whole(size_px: int) -> None:
    expected = walk(png(size_px, size_px, 8, 0, zlib.compress(bytes(500)), interlace=1))
    assert (expected.width_px, expected.height_px) == (size_px, size_px)


def test_opaque_transparency_chunk_does_not_cost_a_re_encoding() -> None:
    data = file_of(four_colours(mode="P"), "PNG")
    at = data.find(b"IDAT") - 4
    assert fit(data[:at] + png_chunk(b"tRNS", b"\xff" * 8) + data[at:]).data == data


def test_transparency_chunk_where_it_means_nothing_goes() -> None:
    opaque = flat_png(8, 8, 6, (1, 2, 3, 255), before=png_chunk(b"tRNS", bytes(6)))
    assert b"tRNS" not in walk(opaque).clean


@pytest.mark.parametrize("end", [9, 20, 33, 40, 60, len(PLAIN) - 13, len(PLAIN) - 1])
def test_truncated_png_is_refused(end: int) -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(PLAIN[:end])


def test_png_whose_pixels_end_early_is_refused_though_its_chunks_are_sound() -> None:
    packed = zlib.compress(b"".join(b"\0" + noise(40, 1).tobytes() for _ in range(40)), level=0)
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(png(40, 40, 8, 2, packed[: len(packed) // 2]))


def test_png_that_claims_more_pixels_than_deflate_can_hold_is_refused() -> None:
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(png(7000, 7000, 8, 2, zlib.compress(bytes(1000))))


@pytest.mark.parametrize(
    "pixels",
    [
        zlib.compress(bytes(9) * 8) + SECRET,
        zlib.compress(bytes(9) * 8 + SECRET, level=0),
    ],
)
def test_small_png_with_more_than_its_rows_is_written_anew(pixels: bytes) -> None:
    data = png(8, 8, 8, 0, pixels)
    image = fit(data)
    assert image.data != data
    assert_shows(image, [(0, 0, 0)] * 4)


def test_small_png_of_many_pieces_passes_untouched() -> None:
    packed = zlib.compress(bytes(9) * 8)
    pieces = b"".join(png_chunk(b"IDAT", packed[at : at + 1]) for at in range(1, len(packed)))
    data = png(8, 8, 8, 0, packed[:1], after=pieces + png_chunk(b"IDAT"))
    assert fit(data).data is data


def test_png_of_rows_that_no_filter_made_is_not_passed_on() -> None:
    with pytest.raises(ImageRejected, match="pixel data is damaged"):
        fit(png(8, 8, 8, 0, zlib.compress(bytes([9] * 9) * 8)))


def test_large_png_is_not_inflated_whole() -> None:
    side = 2000
    data = png(side, side, 8, 0, zlib.compress(bytes(side * (side + 1))))
    assert fit(data).data is data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(8, 8, 8, 0, b"no deflate stream"), "does not inflate"),
        (png(8, 8, 8, 0, b""), "has no pixels"),
        (png(0, 8, 8, 0, BLACK_ROWS), "no width or no height"),
        (png(8, 8, 3, 0, BLACK_ROWS), "makes no sense"),
        (png(8, 8, 8, 5, BLACK_ROWS), "makes no sense"),
        (png(8, 8, 8, 0, BLACK_ROWS, interlace=2), "makes no sense"),
        (png(8, 8, 8, 3, BLACK_ROWS), "has no palette"),
        (png(8, 8, 8, 3, BLACK_ROWS, before=png_chunk(b"PLTE", bytes(4))), "palette that makes no sense"),
        (png(8, 8, 8, 3, BLACK_ROWS, after=png_chunk(b"PLTE", bytes(3))), "palette that makes no sense"),
        (png(8, 8, 8, 0, BLACK_ROWS, before=png_chunk(b"tRNS", bytes(3))), "transparency chunk"),
        (png(8, 8, 8, 0, BLACK_ROWS, before=png_chunk(b"CgBI", bytes(4))), "unknown critical chunk"),
        (png(8, 8, 8, 0, BLACK_ROWS, after=png_chunk(b"tEXt") + png_chunk(b"IDAT", b"x")), "torn apart"),
        (png(8, 8, 8, 0, BLACK_ROWS, after=png_chunk(b"IHDR", bytes(13))), "does not begin with one header"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(12)), "header of the wrong size"),
        (PLAIN[:-40] + bytes([PLAIN[-40] ^ 1]) + PLAIN[-39:], "pixel data is damaged"),
        (png_with(PLAIN, png_chunk(b"teXt") * 100_001), "too many chunks"),
    ],
)
def test_damaged_png_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason):
        fit(data)


def test_wrong_checksum_alone_costs_the_file_but_not_the_picture() -> None:
    checksum_at = PLAIN.index(b"IEND") - 8
    data = PLAIN[:checksum_at] + b"oops" + PLAIN[checksum_at + 4 :]
    image = fit(data)
    assert image.data != data
    assert_shows_four_colours(image)


def test_wrong_checksum_of_a_file_without_an_end_is_refused() -> None:
    checksum_at = PLAIN.index(b"IEND") - 8
    with pytest.raises(ImageRejected, match="is cut short"):
        fit(PLAIN[:checksum_at] + b"oops" + png_chunk(b"tEXt", b"no end"))


def test_wrong_checksum_does_not_excuse_a_missing_palette() -> None:
    data = png(8, 8, 8, 3, BLACK_ROWS)
    checksum_at = data.index(b"IEND") - 8
    with pytest.raises(ImageRejected, match="has no palette"):
        fit(data[:checksum_at] + b"oops" + data[checksum_at + 4 :])


@pytest.mark.parametrize(("side_px", "depth"), [(50_000, 1), (30_000, 8), (9_000, 8)])
def test_bomb_is_refused_from_its_header(side_px: int, depth: int) -> None:
    row = 1 + side_px * depth // 8
    with pytest.raises(ImageRejected) as caught:
        fit(png(side_px, side_px, depth, 0, zeros_deflated(row * side_px // 64)[:-4] + bytes(1_000_000)))
    assert caught.value.code == "image_too_large"


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    assert_shows(fit(flat_png(16, 16, 0, [0x8000])), [(128, 128, 128)] * 4, within=3)


def test_16_bit_rgb_keeps_its_colour() -> None:
    assert_shows(fit(flat_png(16, 16, 2, [0xC000, 0x4000, 0x1000])), [(192, 64, 16)] * 4, within=4)


@pytest.mark.parametrize(
    ("depth", "colour_type", "samples"),
    [(8, 0, [7]), (16, 0, [0x0700]), (8, 2, [220, 30, 30]), (16, 2, [0xC000, 0x4000, 0x1000])],
)
def test_colour_declared_transparent_is_shown_white(depth: int, colour_type: int, samples: list[int]) -> None:
    clear = b"".join(struct.pack(">H", sample) for sample in samples)
    assert_shows(fit(flat_png(16, depth, colour_type, samples, before=png_chunk(b"tRNS", clear))), [WHITE] * 4)


@pytest.mark.parametrize(("depth", "bits_beyond"), [(1, 0), (2, 0), (4, 0), (2, 0x0100), (4, 0x0100)])
@pytest.mark.parametrize("clear", [0, 1])
def test_grey_of_few_bits_declared_transparent_is_shown_white(depth: int, bits_beyond: int, clear: int) -> None:
    of_zero, of_one = bytes(2 * depth), bytes([sum(1 << at for at in range(0, 8, depth))]) * (2 * depth)
    data = png(
        16,
        16,
        depth,
        0,
        zlib.compress((b"\0" + of_zero) * 8 + (b"\0" + of_one) * 8),
        before=png_chunk(b"tRNS", struct.pack(">H", clear | bits_beyond)),
    )
    grey_of_one = 255 // ((1 << depth) - 1)
    top, bottom = (WHITE, (grey_of_one,) * 3) if clear == 0 else ((0, 0, 0), WHITE)
    assert_shows(fit(data), [top, top, bottom, bottom])


@pytest.mark.parametrize(
    ("depth", "colour_type", "samples", "seen"),
    [
        (8, 6, [255, 0, 0, 0], WHITE),
        (8, 6, [255, 0, 0, 128], (255, 127, 127)),
        (8, 4, [0, 128], (127, 127, 127)),
        (16, 4, [0, 0x8000], (127, 127, 127)),
        (16, 6, [0xFFFF, 0, 0, 0x8000], (255, 127, 127)),
    ],
)
def test_transparency_is_flattened_on_white(
    depth: int, colour_type: int, samples: list[int], seen: tuple[int, int, int]
) -> None:
    assert_shows(fit(flat_png(16, depth, colour_type, samples)), [seen] * 4, within=3)


@pytest.mark.parametrize(("depth", "samples"), [(8, [7]), (8, [220, 30, 30])])
def test_bits_beyond_the_depth_of_a_transparent_colour_mean_nothing(depth: int, samples: list[int]) -> None:
    clear = b"".join(struct.pack(">H", 0x100 | sample) for sample in samples)
    colour_type = 0 if len(samples) == 1 else 2
    assert_shows(fit(flat_png(16, depth, colour_type, samples, before=png_chunk(b"tRNS", clear))), [WHITE] * 4)


def test_transparent_palette_index_is_shown_white() -> None:
    palette = four_colours().convert("P", palette=1, colors=4)
    index = palette.getpixel((5, 5))
    image = fit(file_of(palette, "PNG", transparency=index))
    assert_shows(image, (WHITE, (20, 160, 60), (30, 60, 200), WHITE))
