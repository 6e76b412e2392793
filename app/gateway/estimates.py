"""What a prompt takes, where no backend has said it: for a bound before the answer, and for the ledger after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from app.backends.base import Capabilities
from app.config.catalog import Model
from app.core.types import ChatRequest, Detail, Message
from app.media.tokens import image_tokens, text_tokens

_LEAST_ROOM_TOKENS = 256
_UNSEEN_IMAGE_TOKENS = 1000
_USUAL_OUTPUT_TOKENS = 1000
_DOUBT = 10
"""A prompt may take one part in so many more than estimated: what a vendor says of characters per token is a mean."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an estimate needs of a fitted request: its texts and the sizes of its pictures, not the pictures.

    Args:
        pictures: width and height in pixels, and the detail asked for.
    """

    texts: tuple[str, ...]
    pictures: tuple[tuple[int, int, Detail], ...]

    @classmethod
    def of(cls, request: ChatRequest) -> Prompt:
        parts = [part for message in request.messages for part in message.images]
        sizes = tuple((part.fitted.width_px, part.fitted.height_px, part.detail) for part in parts)
        return cls(tuple(map(_said, request.messages)), sizes)

    def tokens(self, family: str) -> int:
        """Tokens of all texts and pictures, by the formula of a model family."""
        return sum(map(text_tokens, self.texts)) + sum(image_tokens(family, *picture) for picture in self.pictures)


def unfitted_tokens(request: ChatRequest, model: Model) -> int:
    """What a request whose pictures nobody has seen yet will take, of input and output together: for limits of tokens,
    which are put right at its end."""
    images = sum(len(message.images) for message in request.messages)
    texts = sum(text_tokens(_said(message)) for message in request.messages)
    wish = _USUAL_OUTPUT_TOKENS if request.max_output_tokens is None else request.max_output_tokens
    output_tokens = wish if model.max_output_tokens is None else min(wish, model.max_output_tokens)
    return texts + images * _UNSEEN_IMAGE_TOKENS + output_tokens


def cautious(tokens: int) -> int:
    """An estimate that the truth rarely exceeds."""
    return tokens + ceil(tokens / _DOUBT)


def within_context(request: ChatRequest, model: Model, capabilities: Capabilities) -> ChatRequest:
    """The request with its wish for length cut to the room that the prompt leaves: in the model's context, and in what
    the route takes of a conversation.

    Chat programs ask for thousands of tokens whatever the model, and a backend refuses what cannot fit. A little room
    is always asked for: the prompt is only estimated, and whether it fits at all is the backend's to say.
    """
    wish = request.max_output_tokens
    if capabilities.conversation_tokens is not None and wish is None:
        wish = capabilities.default_output_tokens  # what the backend would make room for unasked
    if wish is None or (model.context_tokens is None and capabilities.conversation_tokens is None):
        return request
    prompt = Prompt.of(request).tokens(model.image_tokens)
    rooms = []
    if model.context_tokens is not None:
        rooms.append(model.context_tokens - prompt)
    if capabilities.conversation_tokens is not None:
        rooms.append(capabilities.conversation_tokens - cautious(prompt))
    room = max(min(rooms), _LEAST_ROOM_TOKENS)
    return request if wish <= room else replace(request, max_output_tokens=room)


def _said(message: Message) -> str:
    """All that a message has the model read, the tool calls of its history included."""
    return "\n".join([message.text, *(f"{call.name} {call.arguments}" for call in message.tool_calls)])
