"""Cuts a request to what a route can take, and says what was left out; then tells it in the roles that the route knows.

Left out only where the answer still makes sense without it: sampling knobs, tools merely offered, pictures of older
turns. What would change the answer's meaning is refused in `routing` instead, before money is spent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from app.backends.base import Capabilities
from app.core.types import ChatRequest, ImagePart, Message, TextPart

_KNOBS: tuple[tuple[str, Any], ...] = (
    # field of ChatRequest, its value when absent
    ("temperature", None),
    ("top_p", None),
    ("stop", ()),
    ("seed", None),
    ("presence_penalty", None),
    ("frequency_penalty", None),
    ("logit_bias", None),
    ("logprobs", False),
    ("top_logprobs", None),
    ("user", None),
)
_SILENT_KNOBS = frozenset({"user"})
"""Dropped without a word: the answer is the same."""


def tailor(
    request: ChatRequest, capabilities: Capabilities, *, model: str, max_output_tokens: int | None
) -> tuple[ChatRequest, list[str]]:
    """The request as the route takes it, and a notice per thing left out.

    Args:
        model: the backend's own name of the model.
        max_output_tokens: the catalogue's bound on the answer; a larger wish is cut to it.
    """
    notices: list[str] = []
    changes: dict[str, Any] = {"model": model, "messages": _messages(request.messages, capabilities, notices)}
    for name, absent in _KNOBS:
        if name not in capabilities.knobs and getattr(request, name) != absent:
            changes[name] = absent
            if name not in _SILENT_KNOBS:
                notices.append(f"{name} dropped")
    changes |= _tools(request, capabilities, notices)
    if request.response_format is not None and not _holds(capabilities, request.response_format.get("type")):
        changes["response_format"] = None
        notices.append("response_format dropped")
    bounds = [bound for bound in (max_output_tokens, capabilities.max_output_tokens) if bound is not None]
    if request.max_output_tokens is not None and bounds and request.max_output_tokens > min(bounds):
        changes["max_output_tokens"] = min(bounds)
    if request.extra:
        changes["extra"] = {name: value for name, value in request.extra.items() if name in capabilities.extra}
    return replace(request, **changes), notices


def retold(request: ChatRequest, capabilities: Capabilities) -> ChatRequest:
    """The request in the roles that the route knows: tool talk and system text become text of others.

    After the history is trimmed: until then it must be seen which words are whose.
    """
    messages = list(request.messages)
    if not capabilities.tools:
        messages = [_without_tool_talk(message) for message in messages]
    if not capabilities.system_role:
        messages = _fold_system(messages)
    return replace(request, messages=tuple(messages))


def _holds(capabilities: Capabilities, response_format: object) -> bool:
    match response_format:
        case "json_schema":
            return capabilities.json_schema
        case "json_object":
            return capabilities.json_object
        case _:
            return True


def _tools(request: ChatRequest, capabilities: Capabilities, notices: list[str]) -> dict[str, Any]:
    if not request.tools:
        return {"tool_choice": None, "parallel_tool_calls": None}
    if not capabilities.tools:
        notices.append("tools dropped")
        return {"tools": (), "tool_choice": None, "parallel_tool_calls": None}
    functions = tuple(tool for tool in request.tools if tool.get("type") == "function")
    if len(functions) < len(request.tools):
        notices.append("tools that are no functions dropped")
    return {"tools": functions}


def _messages(messages: Iterable[Message], capabilities: Capabilities, notices: list[str]) -> tuple[Message, ...]:
    kept = [message for message in messages if message.parts or message.tool_calls or message.role != "system"]
    return tuple(_drop_older_pictures(kept, capabilities, notices))


def _drop_older_pictures(messages: list[Message], capabilities: Capabilities, notices: list[str]) -> list[Message]:
    room = capabilities.max_images
    if sum(len(message.images) for message in messages) <= room and not capabilities.newest_turn_only:
        return messages
    dropped = 0
    kept: list[Message] = []
    answered = False
    for message in reversed(messages):
        answered = answered or message.role == "assistant"
        images = message.images
        keep = [] if capabilities.newest_turn_only and answered else list(images[max(0, len(images) - room) :])
        room -= len(keep)
        if len(keep) < len(images):
            dropped += len(images) - len(keep)
            parts = tuple(part for part in message.parts if not isinstance(part, ImagePart) or part in keep)
            message = replace(message, parts=parts)  # noqa: PLW2901 - the loop hands on either the message or its cut
        kept.append(message)
    if dropped and not capabilities.newest_turn_only:
        notices.append(f"{dropped} picture(s) of older turns dropped")
    return kept[::-1]


def _without_tool_talk(message: Message) -> Message:
    """Tool calls and results of the history, told as text to a model that knows no tools."""
    if message.role == "tool":
        return Message(role="user", parts=(TextPart(f"[tool result] {message.text}"), *message.images))
    if message.tool_calls:
        told = [TextPart(f"[tool call] {call.name}({call.arguments})") for call in message.tool_calls]
        return replace(message, parts=(*message.parts, *told), tool_calls=())
    return message


def _fold_system(messages: list[Message]) -> list[Message]:
    """System text put before the first user text, for backends without a system role."""
    system = "\n".join(message.text for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if not system:
        return rest
    for index, message in enumerate(rest):
        if message.role == "user":
            rest[index] = replace(message, parts=(TextPart(system), *message.parts))
            return rest
    return [Message(role="user", parts=(TextPart(system),)), *rest]
