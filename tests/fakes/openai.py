"""Answers as OpenAI-compatible services write them. A dialect is a row of what a service's chunks look like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.http import Gate, Reply, Step

SSE = {"content-type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 120, "completion_tokens": 8, "total_tokens": 128}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a service's chunks differ from OpenAI's.

    Args:
        role_always: every delta repeats the role.
        unfinished: `finish_reason` of chunks that do not finish: `None`, an empty string, or `absent`.
        usage_null: chunks before the usage chunk carry `usage: null`.
        usage_with_finish: usage comes on the last chunk with choices, asked for or not.
    """

    id: str = "chatcmpl-fake"
    role_always: bool = False
    unfinished: str | None = None
    usage_null: bool = False
    usage_with_finish: bool = False


DIALECTS = {
    "generic": Dialect(),
    "dashscope": Dialect(id="chatcmpl-8f0e4c2a", usage_null=True),
    "zhipu": Dialect(id="8313807536837492492", role_always=True, unfinished="absent", usage_with_finish=True),
    "ark": Dialect(id="0217426318107460cfa43dc3", role_always=True, unfinished="absent", usage_null=True),
    "sglang": Dialect(id="b5a7c1", unfinished=""),
    "ollama": Dialect(id="chatcmpl-123", role_always=True, unfinished=""),
}


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + _json(value) + b"\n\n"


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """One JSON body."""
    return Reply(status, headers or {}, [_json(value)], "length")


def answer(text: str, *, finish_reason: str = "stop", **message: Any) -> Reply:
    """A whole answer. Further keywords go into the message, as `tool_calls`."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish_reason,
    }
    return reply({**_envelope(DIALECTS["generic"], "chat.completion"), "choices": [choice], "usage": USAGE})


def stream(*words: str | Gate | Mapping[str, Any], dialect: str = "generic", finish_reason: str = "stop") -> Reply:
    """A streamed answer: a string becomes a content delta, a mapping a delta as it stands, a gate stays a gate."""
    row = DIALECTS[dialect]
    steps: list[Step] = [chunk(row, {"role": "assistant", "content": ""})]
    for word in words:
        if isinstance(word, Gate):
            steps.append(word)
        else:
            steps.append(chunk(row, {"content": word} if isinstance(word, str) else word))
    steps.append(chunk(row, {"content": ""}, finish_reason, USAGE if row.usage_with_finish else None))
    if not row.usage_with_finish:
        steps.append(event({**_envelope(row), "choices": [], "usage": USAGE}))
    return Reply(200, SSE, [*steps, DONE])


def chunk(
    row: Dialect, delta: Mapping[str, Any], finish_reason: str | None = None, usage: Mapping[str, int] | None = None
) -> bytes:
    """One chunk of a stream, as an event."""
    choice: dict[str, Any] = {"index": 0, "delta": {**({"role": "assistant"} if row.role_always else {}), **delta}}
    if finish_reason is not None or row.unfinished != "absent":
        choice["finish_reason"] = finish_reason or row.unfinished
    body = {**_envelope(row), "choices": [choice]}
    if usage is not None or row.usage_null:
        body["usage"] = usage
    return event(body)


def error(
    status: int,
    *,
    code: str | int | None = None,
    message: str = "scripted",
    type: str | None = "invalid_request_error",  # noqa: A002 - the wire's own name
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A refusal in OpenAI's shape."""
    return reply({"error": {"message": message, "type": type, "param": None, "code": code}}, status, headers)


def _envelope(row: Dialect, kind: str = "chat.completion.chunk") -> dict[str, Any]:
    return {"id": row.id, "object": kind, "created": 1763600000, "model": "fake"}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
