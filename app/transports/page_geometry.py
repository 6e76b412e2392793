"""How a picture is searched for text: at what size, in which bands, turned how.

Pure geometry. Sizes are (width_px, height_px), coordinates pixels with the origin top left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import dist, sqrt

from app.transports.reading_order import Point, Polygon

SEARCH_PIXELS = 2_000_000
"""The search takes about a third of a second for so many pixels on two cores; more find smaller print, in more time."""

_SEARCH_SIDE_PX = 2880
_SMALL_SIDE_PX = 736
_MAX_ENLARGEMENT = 3.0
_LONG = 2.5
_ELONGATED = 1.5


def search_scale(width_px: int, height_px: int) -> float:
    """By how much to scale a picture before the search: large ones shrink to the bound, small ones grow."""
    shrink = min(sqrt(SEARCH_PIXELS / (width_px * height_px)), _SEARCH_SIDE_PX / max(width_px, height_px))
    grow = min(max(1.0, _SMALL_SIDE_PX / min(width_px, height_px)), _MAX_ENLARGEMENT)
    return min(grow, shrink)


@dataclass(frozen=True, slots=True)
class Band:
    """A stripe of a long picture. Neighbours overlap, so that a line cut by one stands whole in the other."""

    top_px: int
    bottom_px: int
    is_last: bool

    def on_page(self, polygon: Polygon) -> Polygon:
        a, b, c, d = ((x, y + self.top_px) for x, y in polygon)
        return a, b, c, d

    def keeps(self, polygon: Polygon, above: Sequence[Polygon]) -> bool:
        """False for what the lower edge may have cut, and for what the band above has already."""
        if not self.is_last and max(y for _, y in polygon) >= self.bottom_px - 2:
            return False
        x_px, y_px = sum(x for x, _ in polygon) / 4, sum(y for _, y in polygon) / 4
        return not any(_holds(other, x_px, y_px) for other in above)


def _holds(polygon: Polygon, x_px: float, y_px: float) -> bool:
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs) <= x_px <= max(xs) and min(ys) <= y_px <= max(ys)


def bands(width_px: int, height_px: int) -> list[Band]:
    """The stripes a picture is searched in; one, unless it is long and larger than the bound."""
    if height_px <= _LONG * width_px or width_px * height_px <= SEARCH_PIXELS:
        return [Band(0, height_px, is_last=True)]
    stripe_px = max(width_px, SEARCH_PIXELS // width_px)
    overlap_px = stripe_px // 10
    cuts, top_px = [], 0
    while top_px + stripe_px < height_px:
        cuts.append(Band(top_px, top_px + stripe_px, is_last=False))
        top_px += stripe_px - overlap_px
    return [*cuts, Band(top_px, height_px, is_last=True)]


def lies_on_its_side(polygons: Sequence[Polygon]) -> bool:
    """True when most lines of a page run from top to bottom."""
    upright = lying = 0.0
    for top_left, top_right, _, bottom_left in polygons:
        width_px, height_px = dist(top_left, top_right), dist(top_left, bottom_left)
        if height_px > _ELONGATED * width_px:
            upright += height_px
        elif width_px > _ELONGATED * height_px:
            lying += width_px
    return upright > lying


def turned_back(polygon: Polygon, quarter_turns: int, size_px: tuple[int, int]) -> Polygon:
    """Where a polygon lies in the picture before it was turned counter-clockwise.

    Args:
        size_px: of the picture as turned.
    """
    width_px, height_px = size_px

    def back(point: Point) -> Point:
        x_px, y_px = point
        match quarter_turns:
            case 1:
                return height_px - y_px, x_px
            case 2:
                return width_px - x_px, height_px - y_px
            case 3:
                return y_px, width_px - x_px
            case _:
                return point

    a, b, c, d = (back(point) for point in polygon)
    return a, b, c, d
