"""Small pictures as clients send them."""

from __future__ import annotations

import base64
import io

from PIL import Image


def picture(size: tuple[int, int] = (64, 48), form: str = "PNG", colour: str = "red") -> bytes:
    """An encoded picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def question(*urls: str, text: str = "what is it") -> list[dict[str, object]]:
    """One user message: pictures, then text."""
    parts: list[dict[str, object]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
