"""Pictures of a request made into what a route takes, one after the other."""

from __future__ import annotations

from dataclasses import replace

from app.core.types import ChatRequest, ImagePart, ImageRules, ImageSource, Message
from app.media.fit import PictureFitter


async def fitted(request: ChatRequest, rules: ImageRules, fitter: PictureFitter) -> ChatRequest:
    """The request with its sources read and its pictures within `rules`.

    Raises:
        ImageRejected: a picture cannot be had or used; names its part.
    """
    if not any(message.images for message in request.messages):
        return request
    messages = [await _fitted_message(message, rules, fitter) for message in request.messages]
    return replace(request, messages=tuple(messages))


async def _fitted_message(message: Message, rules: ImageRules, fitter: PictureFitter) -> Message:
    if not message.images:
        return message
    parts = []
    for part in message.parts:
        if isinstance(part, ImagePart) and isinstance(part.image, ImageSource):
            part = replace(part, image=await fitter.fit(part.image, rules))  # noqa: PLW2901 - fitted in place
        parts.append(part)
    return replace(message, parts=tuple(parts))
