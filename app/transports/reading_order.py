"""In which order a reader takes the pieces of text a detector found on a page.

Pure geometry: corners in, indices out. The detector gives pieces, not lines: a receipt's item and its price are two.
Pieces that stand on one line, however the camera tilted it, become one row. Coordinates are pixels, origin top left;
a polygon's corners run clockwise from the start of its text.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from statistics import median
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Polygon: TypeAlias = tuple[Point, Point, Point, Point]

_ELONGATED = 3.0
"""A piece this many times as wide as high has a slope worth trusting."""

_SLOPE_SPREAD = 0.15
"""Slopes further from the median than this are no lines of the page: a stamp, a logo."""

_PROSE_LINES = 4
_PROSE_FILL = 0.8
_PROSE_ELONGATION = 8.0
"""A column of prose: at least so many lines, most of them filling it, each so long. Cells of a table fill nothing."""

_GUTTERS_TRIED = 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of text, levelled: `middle_px` is where its line would cross the middle of the page."""

    index: int
    left_px: float
    right_px: float
    middle_px: float
    height_px: float

    @property
    def width_px(self) -> float:
        return self.right_px - self.left_px


@dataclass(frozen=True, slots=True)
class _Tilt:
    """How lines slope: `slope + change · (y - origin)`. Perspective makes the slope change down the page."""

    slope: float = 0.0
    change: float = 0.0
    origin_px: float = 0.0

    def at(self, y_px: float) -> float:
        return self.slope + self.change * (y_px - self.origin_px)


def reading_rows(polygons: Sequence[Polygon]) -> list[list[int]]:
    """Orders pieces of text.

    Returns:
        Rows from the top down, each the indices of its pieces from left to right. Columns of prose are read one after
        the other.
    """
    if not polygons:
        return []
    tilt = _tilt(polygons)
    xs = [x for polygon in polygons for x, _ in polygon]
    page_middle_px = (min(xs) + max(xs)) / 2
    pieces = [_levelled(index, polygon, tilt, page_middle_px) for index, polygon in enumerate(polygons)]
    return [[piece.index for piece in row] for row in _rows_by_column(sorted(pieces, key=lambda p: p.middle_px))]


def _height_px(polygon: Polygon) -> float:
    top_left, top_right, bottom_right, bottom_left = polygon
    return (_distance(top_left, bottom_left) + _distance(top_right, bottom_right)) / 2


def _distance(a: Point, b: Point) -> float:
    return hypot(a[0] - b[0], a[1] - b[1])


def _centre(polygon: Polygon) -> Point:
    return sum(x for x, _ in polygon) / 4, sum(y for _, y in polygon) / 4


def _levelled(index: int, polygon: Polygon, tilt: _Tilt, page_middle_px: float) -> _Piece:
    x_px, y_px = _centre(polygon)
    xs = [x for x, _ in polygon]
    return _Piece(
        index=index,
        left_px=min(xs),
        right_px=max(xs),
        middle_px=y_px - tilt.at(y_px) * (x_px - page_middle_px),
        height_px=_height_px(polygon),
    )


def _tilt(polygons: Sequence[Polygon]) -> _Tilt:
    """Fits a straight line through the slopes of the long pieces, the longer the weightier."""
    samples = []
    for polygon in polygons:
        top_left, top_right, bottom_right, bottom_left = polygon
        run_px = (top_right[0] - top_left[0] + bottom_right[0] - bottom_left[0]) / 2
        rise_px = (top_right[1] - top_left[1] + bottom_right[1] - bottom_left[1]) / 2
        if run_px > _ELONGATED * _height_px(polygon):
            samples.append((rise_px / run_px, _centre(polygon)[1], run_px * run_px))
    if not samples:
        return _Tilt()
    usual = median(slope for slope, _, _ in samples)
    samples = [sample for sample in samples if abs(sample[0] - usual) <= _SLOPE_SPREAD]
    total = sum(weight for _, _, weight in samples)
    origin_px = sum(y * weight for _, y, weight in samples) / total
    mean = sum(slope * weight for slope, _, weight in samples) / total
    spread = sum(weight * (y - origin_px) ** 2 for _, y, weight in samples)
    drift = sum(weight * (y - origin_px) * (slope - mean) for slope, y, weight in samples)
    return _Tilt(mean, drift / spread if spread else 0.0, origin_px)


def _rows_by_column(pieces: list[_Piece]) -> list[list[_Piece]]:
    """`pieces` from the top down. What crosses the gutter, as a headline, parts the page into blocks."""
    gutter_px = _gutter_px(pieces)
    if gutter_px is None:
        return _rows(pieces)
    rows: list[list[_Piece]] = []
    left: list[_Piece] = []
    right: list[_Piece] = []
    for piece in pieces:
        if piece.right_px <= gutter_px:
            left.append(piece)
        elif piece.left_px >= gutter_px:
            right.append(piece)
        else:
            rows += [*_rows_by_column(left), *_rows_by_column(right), [piece]]
            left, right = [], []
    return [*rows, *_rows_by_column(left), *_rows_by_column(right)]


def _gutter_px(pieces: Sequence[_Piece]) -> float | None:
    """Where the leftmost column of prose ends and others begin, or `None`. The fewest lines cross it."""
    long_lines = [piece for piece in pieces if piece.width_px >= _PROSE_ELONGATION * piece.height_px]
    lefts, rights = sorted(piece.left_px for piece in pieces), sorted(piece.right_px for piece in pieces)
    gutters = []
    for gutter_px in {piece.right_px for piece in long_lines}:
        before, after = bisect_right(rights, gutter_px), len(lefts) - bisect_left(lefts, gutter_px)
        crossing = len(pieces) - before - after
        if min(before, after) >= _PROSE_LINES and crossing < min(before, after):
            gutters.append((crossing, gutter_px))
    for _, gutter_px in sorted(gutters)[:_GUTTERS_TRIED]:
        right = [piece for piece in pieces if piece.left_px >= gutter_px]
        if _is_prose([piece for piece in pieces if piece.right_px <= gutter_px]) and (
            _is_prose(right) or _gutter_px(right) is not None
        ):
            return gutter_px
    return None


def _is_prose(column: Sequence[_Piece]) -> bool:
    """Most lines fill the column, and each is long."""
    width_px = max(piece.right_px for piece in column) - min(piece.left_px for piece in column)
    usual_px = median(piece.width_px for piece in column)
    height_px = median(piece.height_px for piece in column)
    return usual_px >= _PROSE_FILL * width_px and usual_px >= _PROSE_ELONGATION * height_px


def _rows(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """`pieces` from the top down; one joins the row above where their middles nearly meet."""
    rows: list[list[_Piece]] = []
    for piece in pieces:
        if rows and _on_one_line(rows[-1], piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda p: p.left_px) for row in rows]


def _on_one_line(row: Sequence[_Piece], piece: _Piece) -> bool:
    middle_px = sum(p.middle_px for p in row) / len(row)
    height_px = min(piece.height_px, median(p.height_px for p in row))
    return piece.middle_px - middle_px < height_px / 2
