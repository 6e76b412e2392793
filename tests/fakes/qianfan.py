"""Answers as Baidu Qianfan V2 writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.http import Gate, Reply, Step
from tests.fakes.openai import DONE, SSE, event, reply

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def answer(text: str, *, finish_reason: str = "normal", flag: int = 0) -> Reply:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish_reason,
        "flag": flag,
    }
    return reply({**_envelope("chat.completion"), "choices": [choice], "usage": USAGE})


def stream(*words: str | Gate, finish_reason: str = "normal", flag: int = 0) -> Reply:
    """A streamed answer; `flag` stands on its last chunk with choices."""
    steps: list[Step] = []
    for word in words:
        if isinstance(word, Gate):
            steps.append(word)
        else:
            role = {} if steps else {"role": "assistant"}
            steps.append(chunk({**role, "content": word}))
    steps.append(chunk({"content": ""}, finish_reason=finish_reason, flag=flag))
    steps.append(event({**_envelope(), "choices": [], "usage": USAGE}))
    return Reply(200, SSE, [*steps, DONE])


def chunk(delta: Mapping[str, Any], **choice: Any) -> bytes:
    """One chunk of a stream, as an event."""
    return event({**_envelope(), "choices": [{"index": 0, "delta": delta, "flag": 0, **choice}]})


def error(
    status: int,
    code: str,
    *,
    type: str = "invalid_request_error",  # noqa: A002 - the wire's own name
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A refusal in the shape of V2."""
    body = {"error": {"code": code, "message": "scripted", "type": type}, "id": "as-wbx23eriqh"}
    return reply(body, status, headers)


def error_v1(code: int, *, status: int = 200) -> Reply:
    """A refusal in the shape of V1, which came with status 200."""
    return reply({"error_code": code, "error_msg": "scripted", "id": "as-wbx23eriqh"}, status)


def _envelope(kind: str = "chat.completion.chunk") -> dict[str, Any]:
    return {"id": "as-5j1w2wzna2", "object": kind, "created": 1763600000, "model": "deepseek-vl2"}
