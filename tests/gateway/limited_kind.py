"""A kind of backend that speaks OpenAI's wire and has limits that no service with this wire has: it takes only so much
of a conversation, and answers nothing without a picture."""

from __future__ import annotations

from dataclasses import replace

from app.backends import openai_chat
from app.backends.base import BackendSpec, Capabilities


class LimitedOptions(openai_chat.OpenAIOptions):
    conversation_tokens: int | None = None
    default_output_tokens: int | None = None
    needs_image: bool = False


def capabilities(options: LimitedOptions, model: str) -> Capabilities:
    return replace(
        openai_chat.capabilities(options, model),
        conversation_tokens=options.conversation_tokens,
        default_output_tokens=options.default_output_tokens,
        needs_image=options.needs_image and not model.startswith("words-"),
    )


SPEC = BackendSpec(LimitedOptions, capabilities, openai_chat.SPEC.translator)
