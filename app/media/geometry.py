"""How large a picture may be on a route: scale it, and where scaling cannot do it, pad it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, inf, sqrt

from app.core.types import ImageRules

_MAX_STEPS = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """A picture scaled to `width_px` × `height_px`, at the top left of a white canvas.

    Args:
        scale: fitted pixels per source pixel.
    """

    width_px: int
    height_px: int
    canvas_width_px: int
    canvas_height_px: int
    scale: float

    @property
    def padded(self) -> bool:
        return (self.width_px, self.height_px) != (self.canvas_width_px, self.canvas_height_px)

    def keeps(self, width_px: int, height_px: int) -> bool:
        """True where a picture of this size may stay as it is."""
        return (self.canvas_width_px, self.canvas_height_px) == (width_px, height_px) and not self.padded


def place(width_px: int, height_px: int, rules: ImageRules) -> Placement:
    """Finds the size nearest to the picture's own that the rules allow.

    Upper bounds win over lower ones. A picture too narrow for the rules even at its largest is padded, never stretched.
    """
    scale = _scale(width_px, height_px, rules)
    placement = _at_scale(width_px, height_px, scale, rules)
    for _ in range(_MAX_STEPS):
        area = placement.canvas_width_px * placement.canvas_height_px
        if rules.max_pixels is None or area <= rules.max_pixels:
            break
        scale *= 0.98 * sqrt(rules.max_pixels / area)  # the padding took more room than there is
        placement = _at_scale(width_px, height_px, scale, rules)
    return placement


def _scale(width_px: int, height_px: int, rules: ImageRules) -> float:
    pixels = width_px * height_px
    largest = min(
        rules.max_side_px / max(width_px, height_px) if rules.max_side_px else inf,
        sqrt(rules.max_pixels / pixels) if rules.max_pixels else inf,
    )
    smallest = max(1.0, rules.min_side_px / min(width_px, height_px), sqrt(rules.min_pixels / pixels))
    return min(smallest, largest)


def _at_scale(width_px: int, height_px: int, scale: float, rules: ImageRules) -> Placement:
    whole = floor if scale < 1 else ceil
    bound = rules.max_side_px or inf
    width = int(min(max(1, whole(round(width_px * scale, 6))), bound))
    height = int(min(max(1, whole(round(height_px * scale, 6))), bound))
    shortest = rules.min_side_px
    if rules.max_aspect_ratio:
        shortest = max(shortest, ceil(max(width, height) / rules.max_aspect_ratio))
    canvas_width, canvas_height = max(width, shortest), max(height, shortest)
    if canvas_width * canvas_height < rules.min_pixels:
        if canvas_width <= canvas_height:
            canvas_width = int(min(ceil(rules.min_pixels / canvas_height), max(bound, canvas_width)))
        else:
            canvas_height = int(min(ceil(rules.min_pixels / canvas_width), max(bound, canvas_height)))
    return Placement(width, height, canvas_width, canvas_height, scale)
