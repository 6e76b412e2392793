"""What a prompt takes, where no backend has said it: for a bound before the answer, and for the ledger after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.config.catalog import Model
from app.core.types import ChatRequest, Detail
from app.media.tokens import image_tokens, text_tokens

_LEAST_ROOM_TOKENS = 256


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
        return cls(tuple(message.text for message in request.messages), sizes)

    def tokens(self, family: str) -> int:
        """Tokens of all texts and pictures, by the formula of a model family."""
        return sum(map(text_tokens, self.texts)) + sum(image_tokens(family, *picture) for picture in self.pictures)


def within_context(request: ChatRequest, model: Model) -> ChatRequest:
    """The request with its wish for length cut to the room that the prompt leaves in the model's context.

    Chat programs ask for thousands of tokens whatever the model, and a backend refuses what cannot fit. A little room
    is always asked for: the prompt is only estimated, and whether it fits at all is the backend's to say.
    """
    wish, context = request.max_output_tokens, model.context_tokens
    if wish is None or context is None:
        return request
    room = max(context - Prompt.of(request).tokens(model.image_tokens), _LEAST_ROOM_TOKENS)
    return request if wish <= room else replace(request, max_output_tokens=room)
