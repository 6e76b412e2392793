"""A conversation that fits: where a route takes only so many tokens, the oldest turns are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from app.backends.base import Capabilities
from app.core.types import ChatRequest, Message
from app.gateway.estimates import Prompt, cautious
from app.media.tokens import text_tokens

_RESERVE = 4
"""The answer is kept room of at most one part in so many: who asks for more would lose the conversation to it."""


def turns_of(messages: Sequence[Message]) -> list[int | None]:
    """For each message the number of its turn, counted from the oldest; `None` for system text, which has none.

    A turn is what a user says at once and all that follows until a user speaks again: answer, tool calls and results.
    """
    turns: list[int | None] = []
    turn, before = 0, "user"
    for message in messages:
        if message.role == "system":
            turns.append(None)
            continue
        if message.role == "user" and before != "user":
            turn += 1
        before = message.role
        turns.append(turn)
    return turns


def trimmed(request: ChatRequest, capabilities: Capabilities, family: str) -> tuple[ChatRequest, list[str]]:
    """The request without the oldest turns that what the route takes of a conversation has no room for, and a notice.

    System text stays, and so does the newest turn: where it does not fit by itself, the backend says so. A picture of a
    turn that goes moves to the oldest that stays: what is asked later may be about it.

    Args:
        family: whose formula estimates a picture's tokens.
    """
    if capabilities.conversation_tokens is None:
        return request, []
    turns = turns_of(request.messages)
    room = capabilities.conversation_tokens - _room_for_answer(request, capabilities, capabilities.conversation_tokens)
    oldest = _oldest_that_fits(Prompt.of(request), turns, family, room)
    if not oldest:
        return request, []
    messages = _from_turn(oldest, request.messages, turns)
    return replace(request, messages=messages), [f"{oldest} oldest turn(s) dropped"]


def _room_for_answer(request: ChatRequest, capabilities: Capabilities, conversation_tokens: int) -> int:
    reserve = conversation_tokens // _RESERVE
    return min(request.max_output_tokens or capabilities.default_output_tokens or reserve, reserve)


def _oldest_that_fits(prompt: Prompt, turns: Sequence[int | None], family: str, room: int) -> int:
    """The first turn that can stay with all after it; the newest where none can."""
    always = Prompt((), prompt.pictures).tokens(family)
    sizes = [0] * (1 + max((turn for turn in turns if turn is not None), default=0))
    for text, turn in zip(prompt.texts, turns, strict=True):
        if turn is None:
            always += text_tokens(text)
        else:
            sizes[turn] += text_tokens(text)
    from_turn = list(accumulate(reversed(sizes)))[::-1]
    fitting = (turn for turn, size in enumerate(from_turn) if cautious(always + size) <= room)
    return next(fitting, len(sizes) - 1)


def _from_turn(oldest: int, messages: Sequence[Message], turns: Sequence[int | None]) -> tuple[Message, ...]:
    told = list(zip(messages, turns, strict=True))
    moved = [part for message, turn in told if turn is not None and turn < oldest for part in message.images]
    kept = [message for message, turn in told if turn is None or turn >= oldest]
    first = next(at for at, message in enumerate(kept) if message.role == "user")  # a turn but the first begins so
    kept[first] = replace(kept[first], parts=(*moved, *kept[first].parts))
    return tuple(kept)
