"""Small pictures drawn on the spot, with the font Pillow brings along."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

Box = tuple[float, float, float, float]


def lines(*texts: str, size_px: tuple[int, int], step_px: int = 60, at_px: int = 20) -> tuple[Image.Image, list[Box]]:
    """Black text on white, one line every `step_px`; with each line's box (left, top, right, bottom)."""
    picture = Image.new("RGB", size_px, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(32)
    boxes = []
    for number, text in enumerate(texts):
        corner = (at_px, at_px + number * step_px)
        pen.text(corner, text, font=font, fill="black")
        boxes.append(pen.textbbox(corner, text, font=font))
    return picture, boxes


def png(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
