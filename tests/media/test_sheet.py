"""Sheets of several pictures, judged by their pixels: where each tile stands, whole and upright, under its number."""

from __future__ import annotations

import asyncio

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ImageRejected
from app.core.types import Image, ImageRules, ImageSource
from app.media.sheet import MAX_SHEET_PICTURES, blank_sheet, draw_sheet, laid_out, tile_rules
from app.media.sheet_drawer import SheetDrawer
from tests.media.decoders import decode_pool
from tests.media.pictures import BLUE, GREEN, RED, exif, file_of, fit, four_colours, noise, opened, stored_as

SPARK = ImageRules(formats=("jpeg", "png"), max_side_px=12_800, max_pixels=35_999_999, min_pixels=2501)
SIZES = st.lists(st.tuples(st.integers(1, 4096), st.integers(1, 4096)), min_size=1, max_size=MAX_SHEET_PICTURES)


def sources(count: int) -> list[ImageSource]:
    return [ImageSource("x", f"messages[0].content[{at}]") for at in range(count)]


def drawn(*pictures: PIL.Image.Image, rules: ImageRules = SPARK) -> Image:
    """A sheet of pictures that were files."""
    tiles = [fit(file_of(picture, "PNG"), tile_rules(len(pictures), rules)) for picture in pictures]
    return draw_sheet(tiles, sources(len(tiles)), rules)


def boxes(sheet: PIL.Image.Image) -> list[tuple[int, int, int, int]]:
    """For each tile the top left corner and the width and height of its red quarter, in reading order."""
    width, height = sheet.size
    pixels = sheet.load()
    assert pixels is not None

    def red(x: int, y: int) -> bool:
        found = pixels[x, y]
        assert isinstance(found, tuple)
        return all(abs(one - other) < 40 for one, other in zip(found, RED, strict=True))

    corners = [
        (x, y)
        for y in range(height)
        for x in range(width)
        if red(x, y) and (x == 0 or not red(x - 1, y)) and (y == 0 or not red(x, y - 1))
    ]
    found = []
    for x, y in corners:
        right = next(at for at in range(x, width) if not red(at, y))
        bottom = next(at for at in range(y, height) if not red(x, at))
        if right - x > 4 and bottom - y > 4:
            found.append((x, y, right - x, bottom - y))
    return found


def is_near(found: object, wanted: tuple[int, int, int]) -> bool:
    return isinstance(found, tuple) and all(abs(one - other) < 40 for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_every_picture_stands_whole_in_reading_order(count: int) -> None:
    sheet = opened(drawn(*[four_colours(160, 120)] * count))
    found = boxes(sheet)
    assert len(found) == count
    assert found == sorted(found, key=lambda box: (box[1], box[0]))
    for left, top, width, height in found:
        assert abs(width / height - 4 / 3) < 0.1
        assert is_near(sheet.getpixel((left + width + width // 2, top + height // 2)), GREEN)
        assert is_near(sheet.getpixel((left + width // 2, top + height + height // 2)), BLUE)


def test_numbers_stand_in_white_on_black_above_each_picture() -> None:
    sheet = opened(drawn(*[four_colours(400, 300)] * 4)).convert("L")
    tags = []
    for left, top, _, _ in boxes(opened(drawn(*[four_colours(400, 300)] * 4))):
        height = round(sheet.width * 0.03)
        tag = sheet.crop((left, top - height, left + height, top - 2))
        dark = sum(tag.histogram()[:64]) / (tag.width * tag.height)
        light = sum(tag.histogram()[192:]) / (tag.width * tag.height)
        assert dark > 0.5
        assert light > 0.03
        tags.append(tag.tobytes())
    assert len(set(tags)) == 4


def test_pictures_of_all_shapes_keep_theirs() -> None:
    found = boxes(opened(drawn(four_colours(150, 450), four_colours(450, 150), four_colours(600, 50))))
    shapes = [width / height for _, _, width, height in found]
    assert [pytest.approx(shape, rel=0.1) for shape in shapes] == [1 / 3, 3, 12]


def test_small_pictures_are_not_blown_up() -> None:
    assert [box[2:] for box in boxes(opened(drawn(four_colours(64, 48), four_colours(64, 48))))] == [(32, 24)] * 2


def test_what_lies_on_its_side_stands_upright() -> None:
    data = file_of(stored_as(6, four_colours(160, 120)), "JPEG", exif=exif(6), quality=95)
    tiles = [fit(data, tile_rules(2, SPARK))] * 2
    assert len(boxes(opened(draw_sheet(tiles, sources(2), SPARK)))) == 2


def test_detail_is_kept_where_the_rules_have_room() -> None:
    sheet = drawn(four_colours(600, 400), four_colours(600, 400))
    assert boxes(opened(sheet))[0][2:] == (300, 200)


@pytest.mark.parametrize(
    "rules",
    [
        ImageRules(max_side_px=500),
        ImageRules(max_pixels=90_000),
        ImageRules(formats=("jpeg",), max_image_bytes=12_000),
        ImageRules(formats=("png",), max_image_bytes=40_000),
        ImageRules(max_aspect_ratio=1.0),
        ImageRules(min_side_px=1500),
        ImageRules(min_pixels=2_000_000),
        ImageRules(max_side_px=None, max_pixels=None, max_image_bytes=None),
    ],
)
def test_a_sheet_keeps_all_rules(rules: ImageRules) -> None:
    sheet = drawn(noise(900, 700), noise(300, 900), noise(500, 500), rules=rules)
    width, height = opened(sheet).size
    assert max(width, height) <= min(rules.max_side_px or 4096, 4096)
    assert min(width, height) >= rules.min_side_px
    assert rules.min_pixels <= width * height <= min(rules.max_pixels or 8_000_000, 8_000_000)
    assert max(width, height) / min(width, height) <= (rules.max_aspect_ratio or 99)
    assert len(sheet.data) <= (rules.max_image_bytes or 99_000_000)
    assert sheet.media_type.removeprefix("image/") in rules.formats


@given(SIZES)
def test_tiles_of_any_sizes_lie_within_the_sheet_and_apart(sizes: list[tuple[int, int]]) -> None:
    layout = laid_out(sizes)
    assert len(layout.tiles) == len(sizes)
    for tile in layout.tiles:
        assert 0 < tile.left < tile.left + tile.width <= 1.000001
        assert 0.05 < tile.top < tile.top + tile.height < layout.height
    for one, other in zip(layout.tiles, layout.tiles[1:], strict=False):
        beside = other.top == one.top and other.left > one.left + one.width
        below = other.top > one.top + one.height + 0.04  # its number needs room
        assert beside or below


def test_more_pictures_get_less_detail_each() -> None:
    two, sixteen = (tile_rules(count, SPARK).max_pixels or 0 for count in (2, 16))
    assert (two, sixteen) == (6_000_000, 750_000)
    assert tile_rules(16, ImageRules(max_pixels=10_000)).max_pixels == 65_536


def test_a_picture_whose_pixels_are_damaged_is_named() -> None:
    good = fit(file_of(noise(64, 64), "JPEG"), tile_rules(2, SPARK))
    data = file_of(noise(64, 64), "PNG")
    damaged = fit(data, tile_rules(2, SPARK))
    broken = Image(data[:60] + bytes(40) + data[100:], "image/png", 64, 64, damaged.sha256)
    with pytest.raises(ImageRejected) as refused:
        draw_sheet([good, broken], sources(2), SPARK)
    assert refused.value.param == "messages[0].content[1]"


def test_a_picture_that_is_not_of_the_size_it_says_is_named() -> None:
    lying = Image(file_of(four_colours(64, 48), "PNG"), "image/png", 32, 24, "0")
    with pytest.raises(ImageRejected, match=r"^The picture in messages\[0\].content\[0\] cannot be decoded"):
        draw_sheet([lying, lying], sources(2), SPARK)


async def test_equal_sheets_asked_for_at_once_are_drawn_once() -> None:
    tiles = [fit(file_of(four_colours(160, 120), "PNG"), tile_rules(2, SPARK))] * 2
    async with decode_pool() as decoders:
        drawer = SheetDrawer(decoders)
        one, other = await asyncio.gather(*(drawer.draw(tiles, sources(2), SPARK) for _ in range(2)))
    assert one is other


@pytest.mark.parametrize(
    ("rules", "size", "media_type"),
    [
        (SPARK, (256, 256), "image/png"),
        (ImageRules(formats=("jpeg",)), (256, 256), "image/jpeg"),
        (ImageRules(max_side_px=100), (100, 100), "image/png"),
        (ImageRules(min_side_px=300), (300, 300), "image/png"),
        (ImageRules(min_pixels=90_000), (300, 300), "image/png"),
    ],
)
def test_a_blank_sheet_is_white_and_within_the_rules(rules: ImageRules, size: tuple[int, int], media_type: str) -> None:
    blank = blank_sheet(rules)
    assert (blank.width_px, blank.height_px, blank.media_type) == (*size, media_type)
    assert opened(blank).getcolors() == [(size[0] * size[1], (255, 255, 255))]
