"""A photo as a phone of today takes it: twelve million pixels, each with noise, and nothing that packs small."""

from __future__ import annotations

import functools
import io

from PIL import Image, ImageStat

SIZE_PX = (4000, 3000)
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 200), "grey": (128, 128, 128)}
"""Of its quarters, row by row from the top left."""


@functools.cache
def noisy_photo() -> bytes:
    """A JPEG of more than 4 MiB."""
    noise = Image.effect_noise((1000, 750), 90).convert("L")
    canvas = Image.new("L", SIZE_PX)
    for left in range(0, SIZE_PX[0], 1000):
        for top in range(0, SIZE_PX[1], 750):
            canvas.paste(noise.rotate(180) if (left + top) % 500 else noise, (left, top))
    quarters = Image.new("RGB", SIZE_PX)
    for at, colour in enumerate(COLOURS.values()):
        corner = (at % 2 * SIZE_PX[0] // 2, at // 2 * SIZE_PX[1] // 2)
        quarters.paste(colour, (*corner, corner[0] + SIZE_PX[0] // 2, corner[1] + SIZE_PX[1] // 2))
    out = io.BytesIO()
    Image.blend(quarters, Image.merge("RGB", (canvas, canvas, canvas)), 0.3).save(out, "JPEG", quality=92)
    data = out.getvalue()
    assert len(data) > 4 * 1024 * 1024, len(data)
    return data


def judge_photo(data: bytes, *, max_bytes: int, max_side_px: int, min_side_px: int = 1500) -> None:
    """Fails unless this is that photo still: whole, upright, in its colours, and no smaller than it had to be."""
    assert len(data) <= max_bytes
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.format == "JPEG"
        width_px, height_px = image.size
        picture = image.convert("RGB")
    assert min_side_px <= max(width_px, height_px) <= max_side_px
    assert abs(width_px / height_px - 4 / 3) < 0.01
    for at, colour in enumerate(COLOURS.values()):
        left, top = at % 2 * width_px // 2, at // 2 * height_px // 2
        mean = ImageStat.Stat(picture.crop((left, top, left + width_px // 2, top + height_px // 2))).mean
        expected = [0.7 * part + 0.3 * 128 for part in colour]
        assert all(abs(got - wanted) < 12 for got, wanted in zip(mean, expected, strict=True)), (at, mean, expected)
