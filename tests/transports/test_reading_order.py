"""Pieces of text are put in the order a reader takes them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transports.reading_order import Polygon, reading_rows


def box(x: float, y: float, width: float, height: float = 30) -> Polygon:
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


RECEIPT = [
    [box(200, 0, 240)],
    *([box(40, 60 + 45 * row, 180), box(300, 62 + 45 * row, 20), box(500, 58 + 45 * row, 90)] for row in range(8)),
    [box(40, 420, 120), box(480, 418, 110)],
]


def photographed(polygon: Polygon) -> Polygon:
    """Seen from the lower left, the camera turned: lines slope, and slope more the lower they stand."""

    def seen(x: float, y: float) -> tuple[float, float]:
        return x + 0.08 * y, y + x * (0.03 + 0.00012 * y)

    a, b, c, d = (seen(x, y) for x, y in polygon)
    return a, b, c, d


def order_of(rows: list[list[Polygon]], pages: list[Polygon]) -> list[list[int]]:
    return [[pages.index(piece) for piece in row] for row in rows]


def test_nothing_has_no_rows() -> None:
    assert reading_rows([]) == []


def test_an_item_and_its_price_stand_on_one_row() -> None:
    pieces = [piece for row in RECEIPT for piece in row]
    random.Random(1).shuffle(pieces)
    assert reading_rows(pieces) == order_of(RECEIPT, pieces)


def test_rows_hold_under_a_tilt_that_grows_down_the_page() -> None:
    rows = [[photographed(piece) for piece in row] for row in RECEIPT]
    pieces = [piece for row in rows for piece in row]
    random.Random(2).shuffle(pieces)
    assert reading_rows(pieces) == order_of(rows, pieces)


def test_a_steep_stamp_does_not_tilt_the_page() -> None:
    stamp = ((420.0, -120.0), (520.0, -40.0), (505.0, -22.0), (405.0, -102.0))
    rows = [[box(0, 40 * n, 150), box(300, 40 * n, 80)] for n in range(1, 7)]
    pieces = [stamp, *(piece for row in rows for piece in row)]
    assert [row for row in reading_rows(pieces) if 0 not in row] == order_of(rows, pieces)


def test_pieces_too_short_to_show_a_slope_are_taken_as_level() -> None:
    assert reading_rows([box(100, 0, 30), box(0, 2, 30), box(0, 60, 30)]) == [[1, 0], [2]]


def column(x: float, lines: int, y: float = 100) -> list[Polygon]:
    return [box(x, y + 40 * line, 380 if line % 5 else 300) for line in range(lines)]


def test_columns_of_prose_are_read_one_after_the_other() -> None:
    left, right = column(0, 10), column(420, 8)
    pieces = [*left, *right]
    random.Random(3).shuffle(pieces)
    assert reading_rows(pieces) == [[pieces.index(piece)] for piece in (*left, *right)]


def test_ragged_columns_part_where_no_line_crosses() -> None:
    left = [box(0, 40 * line, 330 + 5 * line) for line in range(11)]
    right = [box(420, 40 * line, 380 - 4 * line) for line in range(11)]
    assert reading_rows([*left, *right]) == [[index] for index in range(22)]


def test_a_headline_across_columns_parts_them_into_blocks() -> None:
    upper_left, upper_right = column(0, 5), column(420, 5)
    headline = box(0, 310, 700)
    lower_left, lower_right = column(0, 5, 360), column(420, 5, 360)
    reading = [*upper_left, *upper_right, headline, *lower_left, *lower_right]
    pieces = sorted(reading, key=lambda piece: (piece[0][1], piece[0][0]))
    assert reading_rows(pieces) == [[pieces.index(piece)] for piece in reading]


def test_three_columns_are_read_in_turn() -> None:
    columns = [column(x, 6) for x in (0, 420, 840)]
    pieces = sorted((piece for part in columns for piece in part), key=lambda piece: piece[0][1])
    assert reading_rows(pieces) == [[pieces.index(piece)] for part in columns for piece in part]


def test_a_table_of_wide_and_narrow_cells_is_read_row_by_row() -> None:
    rows = [[box(0, 40 * n, 250 + 13 * (n % 3)), box(400, 40 * n, 60 + 50 * (n % 4))] for n in range(8)]
    pieces = [piece for row in rows for piece in row]
    assert reading_rows(pieces) == order_of(rows, pieces)


coordinates = st.floats(0, 4000, allow_nan=False, width=32)


@given(
    st.lists(
        st.builds(box, coordinates, coordinates, st.floats(0, 3000, width=32), st.floats(0, 400, width=32)),
        max_size=40,
    )
)
def test_every_piece_is_read_exactly_once(pieces: list[Polygon]) -> None:
    assert sorted(index for row in reading_rows(pieces) for index in row) == list(range(len(pieces)))


@pytest.mark.parametrize("count", [1000])
def test_as_many_pieces_as_a_detector_gives_are_ordered(count: int) -> None:
    pieces = [box(x, y, 300, 8) for y in range(0, count * 2, 10) for x in (0, 310, 620, 930, 1240)][:count]
    assert sum(len(row) for row in reading_rows(pieces)) == count
