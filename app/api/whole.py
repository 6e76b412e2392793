"""A whole answer in OpenAI's shape: the folded stream."""

from __future__ import annotations

from typing import Any

import msgspec

from app.api.sse import region_objects, usage_object
from app.core.events import Answer, UsageReport


def completion(
    answer: Answer,
    usage: UsageReport,
    cost_micros: int | None,
    *,
    id: str,  # noqa: A002 - OpenAI's word
    created: int,
    model: str,
) -> bytes:
    """The `chat.completion` document.

    Args:
        usage, cost_micros: what was booked.
    """
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not answer.tool_calls else None,
        "refusal": None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.tool_calls
        ]
    regions = [item for event in answer.regions for item in region_objects(event.image_index, event.regions)]
    if regions:
        message["ocr_regions"] = regions
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return msgspec.json.encode(
        {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage_object(usage, cost_micros),
        }
    )
