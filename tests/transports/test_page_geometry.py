"""At what size and in which stripes a picture is searched, and how it is turned."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transports.page_geometry import (
    SEARCH_PIXELS,
    Band,
    bands,
    lies_on_its_side,
    search_scale,
    turned_back,
)
from app.transports.reading_order import Polygon

sides = st.integers(8, 16_384)


def box(x: float, y: float, width: float, height: float) -> Polygon:
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


@given(sides, sides)
def test_the_search_stays_within_its_bounds(width_px: int, height_px: int) -> None:
    for band in bands(width_px, height_px):
        scale = search_scale(width_px, band.bottom_px - band.top_px)
        assert scale <= 3
        assert width_px * scale * (band.bottom_px - band.top_px) * scale <= SEARCH_PIXELS * 1.001


@given(sides, sides)
def test_bands_cover_the_picture_and_overlap(width_px: int, height_px: int) -> None:
    cuts = bands(width_px, height_px)
    assert cuts[0].top_px == 0
    assert cuts[-1].bottom_px == height_px
    assert [cut.is_last for cut in cuts] == [False] * (len(cuts) - 1) + [True]
    for upper, lower in pairwise(cuts):
        assert upper.top_px < lower.top_px < upper.bottom_px < lower.bottom_px


@pytest.mark.parametrize(
    ("size_px", "scale"), [((1000, 1400), 1.0), ((4000, 3000), 0.41), ((400, 300), 2.45), ((40, 30), 3.0)]
)
def test_large_pictures_shrink_and_small_ones_grow(size_px: tuple[int, int], scale: float) -> None:
    assert search_scale(*size_px) == pytest.approx(scale, abs=0.01)


def test_a_long_screenshot_is_searched_at_full_size() -> None:
    cuts = bands(1080, 12_000)
    assert len(cuts) > 5
    assert {search_scale(1080, cut.bottom_px - cut.top_px) for cut in cuts[:-1]} == {1.0}


def test_a_line_cut_by_the_lower_edge_is_left_to_the_next_band() -> None:
    band = Band(1000, 2000, is_last=False)
    assert not band.keeps(box(0, 1980, 100, 20), above=[])
    assert band.keeps(box(0, 1960, 100, 20), above=[])
    assert Band(1000, 2000, is_last=True).keeps(box(0, 1980, 100, 20), above=[])


def test_what_the_band_above_has_is_not_taken_twice() -> None:
    above = [box(0, 950, 200, 30)]
    band = Band(940, 1900, is_last=True)
    assert not band.keeps(box(2, 951, 198, 29), above)
    assert band.keeps(box(0, 990, 200, 30), above)


def test_a_band_places_what_it_found_on_the_page() -> None:
    assert Band(500, 900, is_last=True).on_page(box(1, 2, 10, 5)) == box(1, 502, 10, 5)


def test_a_page_of_standing_lines_lies_on_its_side() -> None:
    assert lies_on_its_side([box(0, 0, 30, 400), box(50, 0, 30, 380), box(0, 500, 60, 30)])
    assert not lies_on_its_side([box(0, 0, 400, 30), box(0, 50, 20, 60)])
    assert not lies_on_its_side([box(0, 0, 30, 30)])
    assert not lies_on_its_side([])


@given(st.integers(0, 3), st.integers(1, 500), st.integers(1, 500), st.data())
def test_turning_back_undoes_the_turn(turns: int, width_px: int, height_px: int, data: st.DataObject) -> None:
    x_px, y_px = data.draw(st.integers(0, width_px)), data.draw(st.integers(0, height_px))
    at, size_px = (float(x_px), float(y_px)), (width_px, height_px)
    for _ in range(turns):  # a quarter counter-clockwise takes (x, y) to (y, width - x)
        at, size_px = (at[1], size_px[0] - at[0]), (size_px[1], size_px[0])
    assert turned_back((at, at, at, at), turns, size_px)[0] == (x_px, y_px)
