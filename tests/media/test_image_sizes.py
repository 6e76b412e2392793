from __future__ import annotations

import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.errors import ImageRejected
from app.core.types import ImageRules
from app.media.geometry import place
from app.media.image import PictureBounds, inspect
from tests.media.pictures import (
    PARAM,
    RED,
    WHITE,
    assert_shows,
    assert_shows_four_colours,
    exif,
    file_of,
    fit,
    four_colours,
    noise,
    opened,
    stored_as,
)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_one_pixel_is_enlarged_never_refused(format_name: str) -> None:
    image = fit(file_of(PIL.Image.new("RGB", (1, 1), RED), format_name), ImageRules())
    assert (image.width_px, image.height_px) == (28, 28)
    assert (image.source_width_px, image.source_height_px) == (1, 1)
    assert_shows(image, [RED] * 4)


def test_picture_of_a_wanted_size_has_no_other_source_size() -> None:
    image = fit(file_of(four_colours(), "BMP"))
    assert (image.source_width_px, image.source_height_px) == (0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_photo_is_shrunk_upright(orientation: int) -> None:
    photo = stored_as(orientation, four_colours(1600, 1200))
    data = file_of(photo, "JPEG", quality=90, exif=exif(orientation))
    image = fit(data, ImageRules(max_side_px=500))
    assert (image.width_px, image.height_px) == (500, 375)
    assert (image.source_width_px, image.source_height_px) == (1600, 1200)
    assert_shows_four_colours(image)


def test_picture_of_too_many_pixels_is_shrunk() -> None:
    image = fit(file_of(four_colours(1000, 500), "PNG"), ImageRules(max_pixels=50_000))
    assert 45_000 < image.width_px * image.height_px <= 50_000


def test_narrow_picture_is_padded_so_that_places_still_scale_back() -> None:
    image = fit(file_of(PIL.Image.new("RGB", (1000, 10), RED), "PNG"), ImageRules(max_aspect_ratio=4, max_side_px=1000))
    assert (image.width_px, image.height_px) == (1000, 250)
    assert (image.source_width_px, image.source_height_px) == (0, 0)
    picture = opened(image)
    assert max(abs(one - other) for one, other in zip(picture.getpixel((500, 4)), RED, strict=True)) < 12
    assert picture.getpixel((500, 200)) == WHITE


@given(
    width=st.integers(1, 16_384),
    height=st.integers(1, 16_384),
    max_side=st.sampled_from([None, 500, 4096, 8192]),
    min_side=st.sampled_from([0, 10, 28, 64]),
    max_pixels=st.sampled_from([None, 200_000, 12_000_000]),
    min_pixels=st.sampled_from([0, 196, 3136]),
    ratio=st.sampled_from([None, 2.5, 4, 200]),
)
@example(width=1, height=16_384, max_side=500, min_side=0, max_pixels=None, min_pixels=3136, ratio=None)
@example(width=16_384, height=1, max_side=500, min_side=0, max_pixels=None, min_pixels=3136, ratio=None)
def test_placement_keeps_every_rule(  # noqa: PLR0917 - one argument for each rule drawn
    width: int,
    height: int,
    max_side: int | None,
    min_side: int,
    max_pixels: int | None,
    min_pixels: int,
    ratio: float | None,
) -> None:
    rules = ImageRules(
        max_side_px=max_side,
        min_side_px=min_side,
        max_pixels=max_pixels,
        min_pixels=min_pixels,
        max_aspect_ratio=ratio,
    )
    placement = place(width, height, rules)
    long, short = sorted((placement.canvas_width_px, placement.canvas_height_px), reverse=True)
    assert max_side is None or long <= max_side
    assert short >= min_side
    assert max_pixels is None or long * short <= max_pixels
    assert long * short >= min_pixels
    assert ratio is None or long <= short * ratio
    assert placement.width_px <= placement.canvas_width_px
    assert placement.height_px <= placement.canvas_height_px


def test_narrow_picture_shrunk_and_padded_tells_the_source_region_it_shows() -> None:
    image = fit(file_of(PIL.Image.new("RGB", (2000, 10), RED), "PNG"), ImageRules(max_aspect_ratio=4, max_side_px=1000))
    assert (image.width_px, image.height_px) == (1000, 250)
    assert (image.source_width_px, image.source_height_px) == (2000, 500)


def test_rules_that_contradict_themselves_still_give_a_picture() -> None:
    placement = place(100, 100, ImageRules(min_side_px=500, max_pixels=1000))
    assert placement.canvas_width_px == placement.canvas_height_px == 500


def test_heavy_picture_loses_quality_first_and_size_only_then() -> None:
    data = file_of(noise(400, 400), "PNG")
    full = fit(data, ImageRules(max_image_bytes=200_000))
    assert (full.width_px, full.height_px) == (400, 400)
    small = fit(data, ImageRules(max_image_bytes=20_000))
    assert len(small.data) <= 20_000
    assert small.width_px < 400
    assert (small.source_width_px, small.source_height_px) == (400, 400)


def test_picture_that_cannot_be_small_enough_is_refused() -> None:
    with pytest.raises(ImageRejected, match="cannot be made small enough") as caught:
        fit(file_of(noise(400, 400), "PNG"), ImageRules(max_image_bytes=200))
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize(
    ("formats", "media_type"),
    [
        (("jpeg", "png"), "image/jpeg"),
        (("png", "jpeg"), "image/png"),
        (("webp",), "image/webp"),
        (("bmp",), "image/bmp"),
        (("gif",), "image/gif"),
    ],
)
def test_re_encoding_is_to_the_first_format_of_the_backend(formats: tuple[str, ...], media_type: str) -> None:
    rules = ImageRules(formats=formats, min_side_px=1, max_image_bytes=None)  # type: ignore[arg-type]  # names of formats
    image = fit(file_of(four_colours(), "TIFF"), rules)
    assert image.media_type == media_type
    assert_shows_four_colours(image)


def test_png_too_heavy_becomes_jpeg_where_the_backend_takes_both() -> None:
    image = fit(file_of(noise(300, 300), "TIFF"), ImageRules(formats=("png", "jpeg"), max_image_bytes=150_000))
    assert image.media_type == "image/jpeg"
    assert image.width_px == 300


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (PictureBounds(max_image_bytes=100), "has more than"),
        (PictureBounds(max_side_px=63), "has a side of more than 63 pixels"),
        (PictureBounds(max_pixels=3000), "million pixels"),
    ],
)
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
def test_bounds_hold_for_every_format_before_decoding(format_name: str, bounds: PictureBounds, reason: str) -> None:
    with pytest.raises(ImageRejected, match=reason) as caught:
        inspect(file_of(four_colours(), format_name), bounds, PARAM)
    assert caught.value.code == "image_too_large"
    assert caught.value.param == PARAM
    assert PARAM in str(caught.value)


def test_inspection_tells_the_upright_size() -> None:
    data = file_of(stored_as(6), "JPEG", exif=exif(6))
    inspection = inspect(data, PictureBounds(), PARAM)
    assert inspection.upright_size_px == (64, 48)
    assert (inspection.container.width_px, inspection.container.height_px) == (48, 64)
    assert inspect(file_of(four_colours(), "PNG"), PictureBounds(), PARAM).upright_size_px == (64, 48)
