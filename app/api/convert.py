"""OpenAI's chat request → ours. Nothing is fetched or decoded here; pictures stay what the caller wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from msgspec import to_builtins

from app.api import schemas
from app.core.errors import InvalidRequest, PayloadTooLarge, UnsupportedFeature, shown
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, Part, Role, TextPart, ToolCall

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_OPENAI_AND_EXTRA = ("reasoning_effort",)
"""OpenAI fields that travel as `extra`: only some backends know them, under the same name."""


def to_request(body: schemas.ChatBody, unknown: dict[str, Any], *, max_images: int) -> ChatRequest:
    """The request in the gateway's words.

    Args:
        unknown: fields outside OpenAI's; kept as `extra`, nulls left out.
        max_images: bound on pictures over all messages.

    Raises:
        RequestError: it contradicts itself, or asks what no backend can be asked; names the field.
    """
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    _check_logit_bias(body.logit_bias or {})
    messages = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(body.messages))
    if sum(len(message.images) for message in messages) > max_images:
        raise PayloadTooLarge(f"A request may hold {max_images} pictures at most.", param="messages")
    known_extra = {name: getattr(body, name) for name in _OPENAI_AND_EXTRA}
    extra = {name: value for name, value in {**unknown, **known_extra}.items() if value is not None}
    return ChatRequest(
        model=body.model,
        messages=messages,
        stream=bool(body.stream),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        seed=body.seed,
        n=body.n or 1,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=body.logit_bias or None,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs,
        user=body.user,
        tools=tuple(_tool(tool, index) for index, tool in enumerate(body.tools or ())),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.response_format),
        extra=extra,
    )


def _check_logit_bias(biases: Mapping[str, float]) -> None:
    for token in biases:
        if not (token.isascii() and token.isdecimal()):
            words = f"`logit_bias` has ids of tokens as keys, whole numbers; {shown(token)!r} is none."
            raise InvalidRequest(words, param="logit_bias")


def _without_nulls(value: object) -> dict[str, Any]:
    return {name: item for name, item in to_builtins(value).items() if item is not None}


def _tool(tool: schemas.Tool, index: int) -> dict[str, Any]:
    if tool.type != "function":
        return {"type": tool.type}
    if tool.function is None:
        raise InvalidRequest(f"`tools[{index}].function` is required.", param=f"tools[{index}].function")
    return {"type": "function", "function": _without_nulls(tool.function)}


def _tool_choice(body: schemas.ChatBody) -> str | dict[str, Any] | None:
    choice = body.tool_choice
    if isinstance(choice, schemas.NamedToolChoice):
        if choice.type != "function":
            raise InvalidRequest("`tool_choice.type` can only be function.", param="tool_choice.type")
        if choice.function is None:
            raise InvalidRequest("`tool_choice.function` is required.", param="tool_choice.function")
        _check_is_offered(choice.function.name, body)
        return {"type": "function", "function": {"name": choice.function.name}}
    if choice == "required" and not body.tools:
        raise InvalidRequest("`tool_choice` is required, but there are no `tools`.", param="tool_choice")
    return choice


def _check_is_offered(name: str, body: schemas.ChatBody) -> None:
    if not any(tool.function is not None and tool.function.name == name for tool in body.tools or ()):
        words = f"`tool_choice` names the function {shown(name)!r}, which is none of `tools`."
        raise InvalidRequest(words, param="tool_choice.function.name")


def _response_format(wanted: schemas.ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_schema" and wanted.json_schema is None:
        raise InvalidRequest("`response_format.json_schema` is required.", param="response_format.json_schema")
    json_schema = {} if wanted.json_schema is None else {"json_schema": _without_nulls(wanted.json_schema)}
    return {"type": wanted.type, **json_schema}


def _message(message: schemas.Message, path: str) -> Message:
    role = _ROLES[message.role]
    if message.content is None and role != "assistant":
        raise InvalidRequest(f"`{path}.content` is required.", param=f"{path}.content")
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    if message.function_call is not None and not calls:
        called = message.function_call
        calls = (ToolCall(called.name, called.name, called.arguments),)
    parts = _parts(message, path)
    if role == "assistant" and message.content is None and not calls and message.refusal is None:
        raise InvalidRequest(f"`{path}.content` is required without tool calls.", param=f"{path}.content")
    call_id = message.tool_call_id or (message.name if message.role == "function" else None)
    if role == "tool" and not call_id:
        raise InvalidRequest(f"`{path}.tool_call_id` is required.", param=f"{path}.tool_call_id")
    return Message(role=role, parts=parts, tool_calls=calls, tool_call_id=call_id if role == "tool" else None)


def _parts(message: schemas.Message, path: str) -> tuple[Part, ...]:
    match message.content:
        case None:
            return (TextPart(message.refusal),) if message.refusal else ()
        case str(text):
            return (TextPart(text),) if text else ()
        case []:
            raise InvalidRequest(f"`{path}.content` is empty.", param=f"{path}.content")
        case parts:
            read = (_part(part, message.role, f"{path}.content[{index}]") for index, part in enumerate(parts))
            return tuple(part for part in read if part != TextPart(""))


def _part(part: schemas.Part, role: str, path: str) -> Part:
    match part:
        case schemas.TextPart(text=text):
            return TextPart(text)
        case schemas.RefusalPart(refusal=text):
            return TextPart(text)
        case schemas.ImagePart():
            return _image(part, role, path)
        case schemas.AudioPart() | schemas.FilePart() | schemas.VideoPart():
            kind = str(part.__struct_config__.tag)
            raise UnsupportedFeature(f"Parts of type {kind} are not supported.", param=f"{path}.type")
        case _:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(part)


def _image(part: schemas.ImagePart, role: str, path: str) -> ImagePart:
    if role not in ("user", "tool"):
        raise InvalidRequest(f"Messages of the role {role} cannot hold pictures.", param=f"{path}.type")
    if isinstance(part.image_url, str):
        return ImagePart(ImageSource(part.image_url, f"{path}.image_url"))
    source = ImageSource(part.image_url.url, f"{path}.image_url.url")
    detail = part.image_url.detail or "auto"
    return ImagePart(source, "high" if detail == "original" else detail)  # high is the most that vendors know
