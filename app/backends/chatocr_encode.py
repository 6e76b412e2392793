"""Questions as Baidu's 智慧图问 takes them: one of at most 1 000 characters, the turns before it beside it.

«智慧图问», cloud.baidu.com, Qianfan; read 2026-11-20. The page gives no bounds for `llm`. Sent are ERNIE's, on which
the plugin ran: temperature above 0 and at most 1, top_p 0 to 1, penalty_score 1 to 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from app.core.errors import InvalidRequest
from app.core.types import ChatRequest, Image, Message

_PLUGIN = "uuid-chatocr"
_MAX_QUERY_CHARS = 1000
_DEFAULT_QUESTION = "请描述这张图片的内容。"
_UNDERSTOOD = "好的。"
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.01, 1.0),
    "top_p": (0.0, 1.0),
    "penalty_score": (1.0, 2.0),
}

Turn: TypeAlias = dict[str, str]


def encode_request(request: ChatRequest, image: Image, notices: list[str]) -> bytes:
    """The body of a call.

    Args:
        image: what is asked about; only its address travels.
        notices: what was clamped or dropped is added here.

    Raises:
        InvalidRequest: the question is too long, or a vendor field is malformed.
    """
    query, history = _conversation(request, notices)
    body: dict[str, Any] = {
        "query": query,
        "plugins": [_PLUGIN],
        "fileurl": image.url,
        "stream": request.stream,
        "verbose": True,
    }
    optional = {"llm": _llm(request, notices), "input_variables": _input_variables(request), "history": history}
    return msgspec.json.encode(body | {name: value for name, value in optional.items() if value})


def newest_image(request: ChatRequest) -> Image:
    """What is asked about.

    Raises:
        InvalidRequest: there is no picture.
    """
    images = [part.fitted for message in request.messages for part in message.images]
    if not images or images[-1].url is None:
        raise InvalidRequest(
            "This model answers questions about a picture: send one.",
            chinese="此模型回答关于图片的问题：请附上图片。",
            param="messages",
        )
    return images[-1]


def _conversation(request: ChatRequest, notices: list[str]) -> tuple[str, list[Turn]]:
    """What has been asked since the model last spoke, and the turns before it, which the user begins.

    System text goes before the first turn there is. Before a question that has none ahead of it, it stands in the
    question where both fit, else in a turn of its own.
    """
    messages = request.messages
    answered = max((at for at, message in enumerate(messages, 1) if message.role == "assistant"), default=0)
    system = "\n\n".join(message.text for message in messages if message.role == "system" and message.text)
    query = _question(messages, answered)
    history = _turns(messages[:answered])
    if not system:
        if history and history[0]["role"] == "assistant":
            del history[0]
            notices.append("an assistant message before the first question was dropped")
        return query, history
    if not history:
        both = f"{system}\n\n{query}"
        if len(both) <= _MAX_QUERY_CHARS:
            return both, []
        return query, [_turn("user", system), _turn("assistant", _UNDERSTOOD)]
    if history[0]["role"] == "user":
        return query, [_turn("user", f"{system}\n\n{history[0]['content']}"), *history[1:]]
    return query, [_turn("user", system), *history]


def _llm(request: ChatRequest, notices: list[str]) -> dict[str, float]:
    asked = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "penalty_score": _penalty_score(request),
    }
    sent = {}
    for name, value in asked.items():
        if value is None:
            continue
        low, high = _BOUNDS[name]
        sent[name] = min(max(value, low), high)
        if sent[name] != value:
            notices.append(f"{name} sent as {sent[name]}")
    return sent


def _question(messages: Sequence[Message], answered: int) -> str:
    newest = [(at, message.text) for at, message in enumerate(messages) if at >= answered and message.role == "user"]
    query = "\n".join(text for _, text in newest if text.strip()) or _DEFAULT_QUESTION
    if len(query) > _MAX_QUERY_CHARS:
        raise InvalidRequest(
            f"The question is {len(query)} characters long, and this model takes at most {_MAX_QUERY_CHARS}; shorten "
            "it, or say the longer part in an earlier turn.",
            chinese=f"问题有 {len(query)} 个字符，此模型最多接受 {_MAX_QUERY_CHARS} 个；"
            "请缩短，或将较长的部分放到之前的消息中。",
            param=f"messages[{newest[-1][0]}].content",
        )
    return query


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _turns(messages: Iterable[Message]) -> list[Turn]:
    """User and assistant by turns; what one says in several messages is one turn."""
    turns: list[tuple[str, list[str]]] = []
    for message in messages:
        text = message.text.strip() or (_DEFAULT_QUESTION if message.role == "user" else "")
        if message.role not in {"user", "assistant"} or not text:
            continue
        if not turns or turns[-1][0] != message.role:
            turns.append((message.role, []))
        turns[-1][1].append(text)
    return [_turn(role, "\n\n".join(texts)) for role, texts in turns]


def _penalty_score(request: ChatRequest) -> float | None:
    value = request.extra.get("penalty_score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(
            "`penalty_score` must be a number from 1 to 2.",
            chinese="`penalty_score` 必须是 1 到 2 之间的数字。",
            param="penalty_score",
        )
    return value


def _input_variables(request: ChatRequest) -> Mapping[str, Any] | None:
    value = request.extra.get("input_variables")
    if value is not None and not isinstance(value, Mapping):
        raise InvalidRequest(
            '`input_variables` must be an object, as {"name": "value"}.',
            chinese='`input_variables` 必须是对象，如 {"name": "value"}。',
            param="input_variables",
        )
    return value
