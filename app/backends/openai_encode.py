"""Writes a request the way one OpenAI-compatible service wants it; every difference is a flag of its row.

The request was cut to the route's capabilities before; what is left to do here is the wording and the vendor's ranges.
A picture is encoded once, straight into the JSON text: `msgspec.Raw` spares the scan and the copies that a Python
string of megabytes would take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pybase64

from app.backends.providers import ProviderFlags, matches
from app.core.errors import UnsupportedFeature
from app.core.types import ChatRequest, Image, ImagePart, Message, TextPart

_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
_ROUNDED = ("temperature", "top_p")


def encode_request(request: ChatRequest, flags: ProviderFlags, *, stream: bool, notices: list[str]) -> bytes:
    """The body of one request.

    Args:
        stream: whether a stream is asked of the backend; the caller may have wanted the whole.
        notices: takes what was clamped or dropped.

    Raises:
        UnsupportedFeature: it demands a tool of a service that cannot be made to call one.
    """
    body = {name: value for name, value in request.extra.items() if name in flags.extra}
    body["model"] = request.model
    body["messages"] = _Conversation(request, flags, notices).encode()
    body["stream"] = stream
    if stream and flags.stream_usage:
        body["stream_options"] = {"include_usage": True}
    body |= _numbers(request, flags, notices)
    body |= _stop(request.stop, flags, notices)
    if request.max_output_tokens is not None:
        body[flags.max_tokens_field] = request.max_output_tokens
    for name in ("logit_bias", "user", "response_format"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.tools:
        body |= _tools(request, flags)
    return msgspec.json.encode(body)


def _numbers(request: ChatRequest, flags: ProviderFlags, notices: list[str]) -> dict[str, float]:
    numbers = {}
    for name in _NUMBERS:
        asked = getattr(request, name)
        if asked is None:
            continue
        value = asked
        if name in flags.ranges:
            low, high = flags.ranges[name]
            value = min(max(asked, low), high)
        if flags.decimals is not None and name in _ROUNDED:
            value = round(value, flags.decimals)
        if value != asked:
            notices.append(f"{name} sent as {value}")
        numbers[name] = value
    return numbers


def _stop(words: Sequence[str], flags: ProviderFlags, notices: list[str]) -> dict[str, Any]:
    short = [word for word in words if flags.stop_max_chars is None or len(word) <= flags.stop_max_chars]
    sent = short[: flags.stop_max]
    if len(sent) < len(words):
        notices.append(f"stop cut to {len(sent)} of {len(words)}")
    if not sent:
        return {}
    return {"stop": sent if flags.stop_as_array or len(sent) > 1 else sent[0]}


def _tools(request: ChatRequest, flags: ProviderFlags) -> dict[str, Any]:
    choice = request.tool_choice
    kind = "named" if isinstance(choice, Mapping) else choice or "auto"
    body: dict[str, Any] = {"tools": request.tools}
    if kind not in flags.tool_choices:
        if kind == "none":
            return {}
        raise UnsupportedFeature(
            "This model cannot be made to call a tool; leave tool_choice out or set it to auto.", param="tool_choice"
        )
    if choice is not None:
        body["tool_choice"] = choice
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


class _Conversation:
    """The messages of one request, in the order and roles the service takes."""

    def __init__(self, request: ChatRequest, flags: ProviderFlags, notices: list[str]) -> None:
        self._messages = request.messages
        self._flags = flags
        self._raw_base64 = matches(request.model, flags.raw_base64)
        self._by_address = flags.input_of(request.model) == "url"
        self._beside_image = {name: value for name, value in request.extra.items() if name in flags.image_extra}
        self._notices = notices

    def encode(self) -> list[dict[str, Any]]:
        messages = self._alternated(self._messages) if self._flags.alternate else self._messages
        return [self._message(message) for message in messages]

    def _alternated(self, messages: Sequence[Message]) -> list[Message]:
        """System text first and once, then user and assistant in turn, beginning with the user."""
        system = [message.text for message in messages if message.role == "system" and message.text]
        turns: list[Message] = []
        for message in messages:
            if message.role == "system":
                continue
            if not turns and message.role == "assistant":
                self._notices.append("an assistant message before the first question was dropped")
            elif turns and message.role == turns[-1].role and message.role != "tool" and not turns[-1].tool_calls:
                parts = turns[-1].parts + message.parts
                turns[-1] = replace(turns[-1], parts=parts, tool_calls=message.tool_calls)
            else:
                turns.append(message)
        head = [Message("system", (TextPart("\n\n".join(system)),))] if system else []
        return head + turns

    def _message(self, message: Message) -> dict[str, Any]:
        encoded: dict[str, Any] = {"role": message.role, "content": self._content(message)}
        if message.tool_calls:
            encoded["content"] = encoded["content"] or None
            encoded["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            encoded["tool_call_id"] = message.tool_call_id
        return encoded

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        """Plain text where there is no picture, as every service takes it; else the parts, in order."""
        if not message.images:
            return message.text
        return list(self._parts(message))

    def _parts(self, message: Message) -> Iterator[dict[str, Any]]:
        for part in message.parts:
            if isinstance(part, ImagePart):
                yield self._image_part(part)
            elif part.text.strip():
                yield {"type": "text", "text": part.text}

    def _image_part(self, part: ImagePart) -> dict[str, Any]:
        image_url: dict[str, Any] = {"url": self._image_url(part.fitted)}
        if part.detail in self._flags.details:
            image_url["detail"] = part.detail
        return {"type": "image_url", "image_url": image_url, **self._beside_image}

    def _image_url(self, image: Image) -> str | msgspec.Raw:
        if image.url is not None and (self._by_address or not image.data) and self._fits(image.url):
            return image.url
        prefix = b'"' if self._raw_base64 else b'"data:%b;base64,' % image.media_type.encode()
        return msgspec.Raw(b"".join((prefix, pybase64.b64encode(image.data), b'"')))  # join copies once, % four times

    def _fits(self, url: str) -> bool:
        return self._flags.max_url_bytes is None or len(url.encode()) <= self._flags.max_url_bytes
