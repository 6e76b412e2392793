"""What Spark accepts as a request, read from its pages: fields, values, order, and the picture's own size."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_IMAGE_BYTES = 4 * 1024 * 1024
MAX_SIDE_PX = 12_800
MIN_PIXELS, MAX_PIXELS = 50 * 50, 6000 * 6000

_KNOBS = frozenset({"domain", "temperature", "top_k", "max_tokens", "auditing", "chat_id"})
_CHARS_PER_TOKEN = 1.5  # Chinese; of English, about four letters


@dataclass(frozen=True, slots=True)
class Service:
    """One address.

    Args:
        domains: what may stand in `domain` there.
        tokens: how long a conversation may be.
    """

    domains: frozenset[str]
    tokens: int = 8192
    max_output_tokens: int = 8192
    sees: bool = False


SERVICES: Mapping[str, Service] = {
    "/v2.1/image": Service(frozenset({"general", "imagev3"}), sees=True),
    "/v1.1/chat": Service(frozenset({"lite", "general"}), max_output_tokens=4096),
    "/v3.1/chat": Service(frozenset({"generalv3"})),
    "/v3.5/chat": Service(frozenset({"generalv3.5"})),
    "/v4.0/chat": Service(frozenset({"4.0Ultra"})),
    "/chat/pro-128k": Service(frozenset({"pro-128k"}), tokens=128 * 1024, max_output_tokens=4096),
    "/chat/max-32k": Service(frozenset({"max-32k"}), tokens=32 * 1024),
}


class Fault(Exception):
    """The service refuses the request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def check(path: str, message: bytes, app_id: str) -> None:
    """Checks a request.

    Raises:
        Fault: of the first thing wrong with it.
    """
    try:
        request = json.loads(message)
    except ValueError:
        raise Fault(10003, "the message is not JSON") from None
    header = _part(request, "header")
    chat = _part(request, "parameter", "chat")
    texts = _part(request, "payload", "message").get("text")
    service = SERVICES.get(path)
    if service is None:
        raise Fault(10404, f"no model at {path}")
    _check_header(header, app_id)
    _check_knobs(chat, service)
    _check_texts(texts, service)


def _part(value: Any, *names: str) -> dict[str, Any]:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            raise Fault(10004, f"{name} is missing or no object")
    assert isinstance(value, dict)
    return value


def _check_header(header: Mapping[str, Any], app_id: str) -> None:
    if not isinstance(header.get("app_id"), str) or not isinstance(header.get("uid", ""), str):
        raise Fault(10004, "header.app_id or header.uid is no string")
    if header["app_id"] != app_id:
        raise Fault(11200, "AppIdNoAuthError")
    if len(header.get("uid", "")) > 32:
        raise Fault(10005, "header.uid is longer than 32 characters")


def _check_knobs(chat: Mapping[str, Any], service: Service) -> None:
    if chat.get("domain", "general") not in service.domains:
        raise Fault(10404, f"domain {chat.get('domain')!r} does not belong to this address")
    if service.sees and (unknown := chat.keys() - _KNOBS):
        raise Fault(10004, f"unknown in parameter.chat: {sorted(unknown)}")
    _check_number(chat, "temperature", float, lambda value: 0 < value <= 1)
    _check_number(chat, "top_k", int, lambda value: 1 <= value <= 6)
    _check_number(chat, "max_tokens", int, lambda value: 1 <= value <= service.max_output_tokens)


def _check_number(chat: Mapping[str, Any], name: str, kind: type, allowed: Any) -> None:
    if name not in chat:
        return
    value = chat[name]
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise Fault(10004, f"{name} is no number of its kind")
    if not allowed(value):
        raise Fault(10005, f"{name} {value} is out of its range")


def _check_texts(texts: Any, service: Service) -> None:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, dict) for text in texts):
        raise Fault(10004, "payload.message.text is no list of objects")
    for number, text in enumerate(texts):
        if not isinstance(text.get("content"), str) or not isinstance(text.get("role"), str):
            raise Fault(10004, f"text[{number}] has no content or role in words")
        if not text["content"]:
            raise Fault(10005, f"text[{number}].content is empty")
        if text.get("content_type", "text") not in ({"image", "text"} if service.sees else {"text"}):
            raise Fault(10005, f"text[{number}].content_type is unknown")
        if text["role"] not in {"user", "assistant"} and not (
            text["role"] == "system" and number == 0 and not service.sees
        ):
            raise Fault(10005, f"text[{number}].role is not allowed there")
    _check_order(texts, service)
    words = "".join(text["content"] for text in texts if text.get("content_type") != "image")
    if tokens_of(words) > service.tokens:
        raise Fault(10907, "token count exceeds the limit")


def _check_order(texts: list[dict[str, Any]], service: Service) -> None:
    images = [number for number, text in enumerate(texts) if text.get("content_type") == "image"]
    if texts[-1]["role"] != "user" or (service.sees and images != [0]) or images[-1:] == [len(texts) - 1]:
        raise Fault(10005, "one picture first, the question last, both the user's")
    if images:
        if texts[0]["role"] != "user":
            raise Fault(10005, "the picture is not the user's")
        _check_picture(texts[0]["content"])


def _check_picture(content: str) -> None:
    try:
        data = base64.b64decode(content, validate=True)
    except ValueError:
        raise Fault(10005, "the picture is not bare base64") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise Fault(10005, "the picture is over 4 MB")
    width_px, height_px = size_of(data)
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise Fault(10029, f"{width_px} x {height_px}: a side is too long")
    if not MIN_PIXELS < width_px * height_px < MAX_PIXELS:
        raise Fault(10041, f"{width_px} x {height_px}: too few or too many pixels")


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG or a JPEG.

    Raises:
        Fault: it is neither.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width_px, height_px = struct.unpack(">II", data[16:24])
        return width_px, height_px
    if data.startswith(b"\xff\xd8"):
        place = 2
        while place + 9 <= len(data) and data[place] == 0xFF:
            marker = data[place + 1]
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
                height_px, width_px = struct.unpack(">HH", data[place + 5 : place + 9])
                return width_px, height_px
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise Fault(10005, "the picture is neither JPEG nor PNG")


def tokens_of(words: str) -> float:
    """About how many tokens, by the vendor's rule of thumb."""
    wide = sum(not char.isascii() for char in words)
    return wide / _CHARS_PER_TOKEN + (len(words) - wide) / 4
