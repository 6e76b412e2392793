"""Writes a request the way CCAI wants it: one prompt, or templates in its place, and addresses of pictures.

Templates silence a prompt, so that only one of the two is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from app.core.errors import InvalidRequest
from app.core.types import ChatRequest, Message

_INT64 = range(-(2**63), 2**63)
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def encode_request(request: ChatRequest, configured: tuple[int, ...]) -> bytes:
    """The body of a call.

    Args:
        configured: the templates of a request that names none.

    Raises:
        InvalidRequest: `template_ids` is no list of integers.
    """
    body: dict[str, Any] = {}
    templates = _template_ids(request.extra["template_ids"]) if "template_ids" in request.extra else configured
    if not templates:
        body["customPrompt"] = prompt_of(request.messages)
    body["imageUrls"] = list(_addresses(request.messages))
    body["stream"] = request.stream
    if templates:
        body["templateIds"] = templates
    return msgspec.json.encode(body)


def _template_ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and item in _INT64 for item in value):
        raise InvalidRequest(
            "template_ids must be a list of integers.", param="template_ids", chinese="template_ids 必须是整数列表。"
        )
    return tuple(value)


def _addresses(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.images:
            if part.fitted.url is None:
                raise TypeError("the picture was not published yet")
            yield part.fitted.url


def prompt_of(messages: Sequence[Message]) -> str:
    """A conversation as one prompt: system text, then what was said, turn by turn, then the question.

    A lone question goes as it is. Labels are in the language of the question.
    """
    system = [message.text for message in messages if message.role == "system" and message.text.strip()]
    turns = [message for message in messages if message.role != "system"]
    asked = len(turns)
    while asked and turns[asked - 1].role != "assistant":
        asked -= 1
    question = "\n".join(message.text for message in turns[asked:] if message.text.strip())
    words = _CHINESE if _is_chinese(question, messages) else _ENGLISH
    question = question or words.default_question
    history = [words.turn(message) for message in turns[:asked]]
    if history:
        question = f"{words.question}{question}"
        system.append("\n".join([words.history, *history]))
    return "\n\n".join([*system, question])


class _Words(msgspec.Struct, frozen=True):
    """What is added to callers' words, in one language."""

    history: str
    user: str
    assistant: str
    picture: str
    question: str
    default_question: str

    def turn(self, message: Message) -> str:
        said = [self.picture] * len(message.images) + ([message.text] if message.text.strip() else [])
        return f"{self.assistant if message.role == 'assistant' else self.user}{' '.join(said)}"


_ENGLISH = _Words(
    "Conversation so far:", "User: ", "Assistant: ", "[picture]", "Question: ", "Describe what the pictures show."
)
_CHINESE = _Words("对话记录：", "用户：", "助手：", "[图片]", "问题：", "请描述图片的内容。")


def _is_chinese(question: str, messages: Iterable[Message]) -> bool:
    """Of the question; without one, of all that was said; where nothing was said, the vendor's language."""
    text = question or "".join(message.text for message in messages)
    return not text.strip() or _HAN.search(text) is not None
