"""Writes a request the way Spark wants it: one JSON text, the picture first, the question last.

The request was cut to the route's capabilities before. A picture is encoded once, straight into the JSON text:
`msgspec.Raw` spares the scan and the copies that a Python string of megabytes would take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pybase64

from app.backends.spark_models import SparkModel
from app.core.errors import InvalidRequest, UnsupportedFeature
from app.core.types import ChatRequest, Image, Message

DEFAULT_OUTPUT_TOKENS = 2048

_DEFAULT_TEMPERATURE, _LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.5, 0.01, 1.0
_LEAST_TOP_K, _MOST_TOP_K = 1, 6
_DEFAULT_QUESTION = "请描述这张图片。"
_GO_ON_CHINESE, _GO_ON_ENGLISH = "请继续。", "Please go on."
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def encode_request(
    request: ChatRequest,
    model: SparkModel,
    *,
    header: Mapping[str, str],
    auditing: str | None,
    top_k: int | None,
    notices: list[str],
) -> bytes:
    """The message that asks.

    Args:
        header: who asks.
        top_k: of a request that names none.
        notices: takes what was clamped.

    Raises:
        InvalidRequest: `top_k` is no integer.
        UnsupportedFeature: a tool call is demanded, and Spark cannot be made to call.
    """
    chat: dict[str, Any] = {
        "domain": model.domain,
        "temperature": _temperature(request.temperature, notices),
        "max_tokens": _max_tokens(request.max_output_tokens, model, notices),
    }
    top_k = _top_k(request.extra.get("top_k"), notices) or top_k
    if top_k is not None:
        chat["top_k"] = top_k
    if auditing:
        chat["auditing"] = auditing
    payload: dict[str, Any] = {"message": {"text": _texts(request.messages, model, notices)}}
    if functions := _functions(request):
        payload["functions"] = {"text": functions}
    return msgspec.json.encode({"header": header, "parameter": {"chat": chat}, "payload": payload})


def _temperature(asked: float | None, notices: list[str]) -> float:
    """Above 0 and up to 1: 0, the commonest of all wishes, is out of range."""
    if asked is None:
        return _DEFAULT_TEMPERATURE
    sent = float(min(asked, _MOST_TEMPERATURE)) if asked > 0 else _LEAST_TEMPERATURE
    if sent != asked:
        notices.append(f"temperature sent as {sent:g}")
    return sent


def _max_tokens(asked: int | None, model: SparkModel, notices: list[str]) -> int:
    if asked is None:
        return DEFAULT_OUTPUT_TOKENS
    sent = min(max(asked, 1), model.max_output_tokens)
    if sent != asked:
        notices.append(f"max_tokens sent as {sent}")
    return sent


def _top_k(asked: Any, notices: list[str]) -> int | None:
    if asked is None:
        return None
    if type(asked) is not int:
        raise InvalidRequest("`top_k` must be an integer.", param="top_k", chinese="top_k 必须是整数。")
    sent = min(max(asked, _LEAST_TOP_K), _MOST_TOP_K)
    if sent != asked:
        notices.append(f"top_k sent as {sent}")
    return sent


def _texts(messages: Sequence[Message], model: SparkModel, notices: list[str]) -> list[dict[str, Any]]:
    """Pictures, system text, then user and assistant in turn; the last word is the user's."""
    texts = [_image(part.fitted) for message in messages for part in message.images]
    system = [message.text for message in messages if message.role == "system" and message.text.strip()]
    if system:
        texts.append({"role": "system", "content": "\n\n".join(system)})
    kind = {"content_type": "text"} if model.sees else {}
    texts += [{"role": role, "content": text, **kind} for role, text in _ended(_turns(messages, notices))]
    return texts


def _image(image: Image) -> dict[str, Any]:
    content = msgspec.Raw(b"".join((b'"', pybase64.b64encode(image.data), b'"')))  # join copies once
    return {"role": "user", "content": content, "content_type": "image"}


def _turns(messages: Iterable[Message], notices: list[str]) -> list[tuple[str, str]]:
    """Who said what, beginning with the user; neighbours of one role are joined. A mere picture asks what it shows."""
    turns: list[tuple[str, list[str]]] = []
    for message in messages:
        text = "\n".join(_said(message))
        if message.role == "system" or not (text or message.images):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if not turns and role == "assistant":
            notices.append("an assistant message before the first question was dropped")
            continue
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].append(text)
    return [(role, "\n".join(filter(None, texts)) or _DEFAULT_QUESTION) for role, texts in turns]


def _said(message: Message) -> Iterator[str]:
    """Its text, and tool talk told as text: Spark has no role for it."""
    if message.text.strip():
        yield f"[tool result] {message.text}" if message.role == "tool" else message.text
    for call in message.tool_calls:
        yield f"[tool call] {call.name}({call.arguments})"


def _ended(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """With a last word of the user's, for Spark answers nothing else."""
    if turns and turns[-1][0] == "user":
        return turns
    english = turns and not _HAN.search(turns[-1][1])
    return [*turns, ("user", _GO_ON_ENGLISH if english else _GO_ON_CHINESE)]


def _functions(request: ChatRequest) -> list[dict[str, Any]]:
    if not request.tools or request.tool_choice == "none":
        return []
    if request.demands_tool:
        raise UnsupportedFeature(
            "This model cannot be made to call a tool; leave tool_choice out or set it to auto.",
            param="tool_choice",
            chinese="无法强制该模型调用工具：请去掉 tool_choice 或设为 auto。",
        )
    return [_function(tool["function"]) for tool in request.tools]


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    """All three members are required there, but in OpenAI's dialect only the name."""
    return {
        "name": function["name"],
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object", "properties": {}, "required": []},
    }
