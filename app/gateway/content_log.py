"""What a key's requests said and showed, in the log: only of keys that opted in (`tuwen keys change --log-content`).

One line per request, `content`: the texts, a description of each picture as its backend got it, never its bytes, and
the answer. All are bounded. Whoever reads the log reads these; of all other keys nothing is kept that could be written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from typing_extensions import override

from app.accounts.interfaces import Caller
from app.core.events import Event, TextDelta
from app.core.secret import Guarded
from app.core.types import ChatRequest

_log = structlog.get_logger("tuwen.content")

TEXT_CHARS = 4000
"""Of one message; of the answer four times that."""
_ANSWER_CHARS = 4 * TEXT_CHARS
_MESSAGES_MAX = 50
_PICTURES_MAX = 50


class Witness:
    """Of a request that nobody wants to be logged: sees nothing."""

    def asked(self, request: ChatRequest) -> None:
        """Sees what the caller wrote."""

    def fitted(self, request: ChatRequest) -> None:
        """Sees the pictures that a backend is asked about; those of the last attempt count."""

    def listening(self, batches: AsyncGenerator[Sequence[Event], None]) -> AsyncGenerator[Sequence[Event], None]:
        """Hears the answer on its way."""
        return batches

    def tell(self, outcome: str) -> None:
        """Writes it down, once the request has ended."""


NOBODY = Witness()


def witness_of(caller: Caller, request: ChatRequest, request_id: str) -> Witness:
    """Who watches a request of this caller."""
    if not caller.log_content:
        return NOBODY
    witness = ContentWitness(caller.key_id, request.model, request_id)
    witness.asked(request)
    return witness


class ContentWitness(Witness, Guarded):
    """Of a request whose key opted in."""

    def __init__(self, key_id: str, model: str, request_id: str) -> None:
        self._names = {"request_id": request_id, "key_id": key_id, "model": model}
        self._messages: list[dict[str, str]] = []
        self._pictures: list[dict[str, Any]] = []
        self._answer: list[str] = []
        self._left_chars = _ANSWER_CHARS

    @override
    def asked(self, request: ChatRequest) -> None:
        newest = request.messages[-_MESSAGES_MAX:]
        self._messages = [{"role": message.role, "text": cut(message.text, TEXT_CHARS)} for message in newest]

    @override
    def fitted(self, request: ChatRequest) -> None:
        images = [part.fitted for message in request.messages for part in message.images]
        self._pictures = [
            {
                "type": image.media_type,
                "width_px": image.width_px,
                "height_px": image.height_px,
                "bytes": len(image.data),
                "sha256": image.sha256,
            }
            for image in images[:_PICTURES_MAX]
        ]

    @override
    async def listening(self, batches: AsyncGenerator[Sequence[Event], None]) -> AsyncGenerator[Sequence[Event], None]:
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    if isinstance(event, TextDelta) and self._left_chars > 0:
                        self._answer.append(event.text[: self._left_chars])
                        self._left_chars -= len(event.text)
                yield batch

    @override
    def tell(self, outcome: str) -> None:
        answer = "".join(self._answer) + ("…" if self._left_chars < 0 else "")
        said = {"messages": self._messages, "pictures": self._pictures, "answer": answer}
        _log.info("content", **self._names, outcome=outcome, **said)


def cut(text: str, max_chars: int) -> str:
    """Text of a bounded length; what was cut ends in an ellipsis."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"
