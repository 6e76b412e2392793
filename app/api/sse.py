"""Events → OpenAI's chunks. What all chunks of an answer share is built once; a chunk is prefix + text + suffix.

Lines end in LF, hold one-line JSON and stay under 64 KiB (Go's `bufio.Scanner` gives up beyond); no `event:` or `id:`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, assert_never

import msgspec

from app.api.errors import error_object
from app.core.errors import GatewayError, Language
from app.core.events import (
    Event,
    Failure,
    Finish,
    OcrRegion,
    OcrRegions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from app.core.money import format_yuan

DONE = b"data: [DONE]\n\n"
_LONGEST_DELTA_CHARS = 8192
_REGIONS_PER_CHUNK = 64
_encode = msgspec.json.Encoder().encode


def usage_object(usage: UsageReport, cost_micros: int | None) -> dict[str, Any]:
    """OpenAI's `usage`, and in it our extension `cost`: yuan, as an exact decimal number.

    Args:
        cost_micros: in micro-yuan; `None`: nobody knows, and nothing is said.
    """
    counts: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return counts if cost_micros is None else {**counts, "cost": msgspec.Raw(format_yuan(cost_micros).encode())}


def region_objects(image_index: int, regions: Iterable[OcrRegion]) -> list[dict[str, Any]]:
    """Our extension `ocr_regions`: one object per line of text; polygons in pixels of the caller's picture."""
    return [
        {
            "image": image_index,
            "text": region.text,
            "polygon": [[x, y] for x, y in region.polygon_px],
            "confidence": region.confidence,
        }
        for region in regions
    ]


def error_event(error: GatewayError, language: Language = "en") -> bytes:
    """An error in mid answer; neither a finish reason nor `[DONE]` may follow it."""
    return b"data: " + _encode(error_object(error, language)) + b"\n\n"


class ChunkEncoder:
    """Writes one answer.

    Args:
        id: of the answer, as `chatcmpl-…`. created: Unix seconds. model: the id the caller asked for.
        include_usage: whether the caller wants the usage chunk.
        language: of errors.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - OpenAI's word
        created: int,
        model: str,
        include_usage: bool,
        language: Language = "en",
    ) -> None:
        head = _encode({"id": id, "object": "chat.completion.chunk", "created": created, "model": model})[:-1]
        self._delta = b"data: " + head + b',"choices":[{"index":0,"delta":{'
        self._end = b'},"logprobs":null,"finish_reason":null}]}\n\n'
        self._head = b"data: " + head
        self._include_usage = include_usage
        self._language = language
        self._begun = False

    def encode(
        self, events: Sequence[Event], usage: UsageReport | None = None, cost_micros: int | None = None
    ) -> bytes:
        """The bytes of one batch.

        Args:
            usage, cost_micros: what was booked; given with the batch that ends the answer.
        """
        pieces: list[bytes] = []
        if not self._begun:
            self._begun = True
            pieces.append(self._delta + b'"role":"assistant","content":""' + self._end)
        for event in events:
            pieces.extend(self._pieces(event, usage, cost_micros))
        return b"".join(pieces)

    def _pieces(self, event: Event, usage: UsageReport | None, cost_micros: int | None) -> Iterator[bytes]:
        match event:
            case TextDelta(text):
                yield from self._text(b'"content":', text)
            case ReasoningDelta(text):
                yield from self._text(b'"reasoning_content":', text)
            case ToolCallDelta():
                for call in _tool_calls(event):
                    yield self._delta + b'"tool_calls":[' + _encode(call) + b"]" + self._end
            case OcrRegions():
                yield from self._regions(event)
            case UsageReport():
                pass
            case Finish(reason):
                yield from self._finish(reason, usage, cost_micros)
            case Failure(error):
                yield error_event(error, self._language)
            case _:  # pragma: no cover - the type checker proves it cannot be reached
                assert_never(event)

    def _text(self, field: bytes, text: str) -> Iterator[bytes]:
        if len(text) <= _LONGEST_DELTA_CHARS:
            yield self._delta + field + _encode(text) + self._end
            return
        for start in range(0, len(text), _LONGEST_DELTA_CHARS):
            yield self._delta + field + _encode(text[start : start + _LONGEST_DELTA_CHARS]) + self._end

    def _regions(self, event: OcrRegions) -> Iterator[bytes]:
        objects = region_objects(event.image_index, event.regions)
        for start in range(0, len(objects), _REGIONS_PER_CHUNK):
            yield self._delta + b'"ocr_regions":' + _encode(objects[start : start + _REGIONS_PER_CHUNK]) + self._end

    def _finish(self, reason: str, usage: UsageReport | None, cost_micros: int | None) -> Iterator[bytes]:
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}
        yield self._head + b',"choices":[' + _encode(choice) + b"]}\n\n"
        if self._include_usage and usage is not None:
            yield self._head + b',"choices":[],"usage":' + _encode(usage_object(usage, cost_micros)) + b"}\n\n"
        yield DONE


def _tool_calls(delta: ToolCallDelta) -> Iterator[dict[str, Any]]:
    """The delta, in pieces where its arguments are long: a backend that does not stream sends them at once."""
    function: dict[str, Any] = {"arguments": delta.arguments[:_LONGEST_DELTA_CHARS]}
    if delta.name is not None:
        function = {"name": delta.name, **function}
    call: dict[str, Any] = {"index": delta.index, "function": function}
    if delta.id is not None:
        call = {"index": delta.index, "id": delta.id, "type": "function", "function": function}
    yield call
    for start in range(_LONGEST_DELTA_CHARS, len(delta.arguments), _LONGEST_DELTA_CHARS):
        piece = delta.arguments[start : start + _LONGEST_DELTA_CHARS]
        yield {"index": delta.index, "function": {"arguments": piece}}
