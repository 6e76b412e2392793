"""What `tuwen ask` asks, what it is told, and who can be asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.events import UsageReport
from app.core.money import format_yuan

ShowText = Callable[[str], None]

_PLACE = re.compile(r"(?:The picture in )?messages\[0\]\.content\[(\d{1,4})\]\.image_url\.url")
_MISTAKEN_CODES = frozenset({"invalid_api_key", "model_not_found", "permission_denied"})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each picture.

    Args:
        temperature, max_output_tokens: `None`: the model's default.
        domain: the backend's own name of the model, where one route is wanted and no other.
    """

    text: str
    model: str
    temperature: float | None = None
    max_output_tokens: int | None = None
    domain: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """As a record says it. Two questions with the same fields are the same question."""
        optional = {"domain": self.domain, "temperature": self.temperature, "max_tokens": self.max_output_tokens}
        said = {name: value for name, value in optional.items() if value is not None}
        return {"question": self.text, "model": self.model, **said}


@dataclass(frozen=True, slots=True)
class Told:
    """An answer.

    Args:
        finish_reason: one of OpenAI's four; `length`: the answer was cut.
        cost_micros: in micro-yuan; `None`: not known here.
        notices: what the gateway clamped or left out.
    """

    text: str
    finish_reason: str
    usage: UsageReport
    cost_micros: int | None
    seconds: float
    notices: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """As a record says it."""
        usage = {
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "reasoning_tokens": self.usage.reasoning_tokens,
        }
        return {
            "answer": self.text,
            "finish_reason": self.finish_reason,
            "usage": usage,
            "cost_yuan": None if self.cost_micros is None else format_yuan(self.cost_micros),
            "seconds": round(self.seconds, 3),
            **({"notices": list(self.notices)} if self.notices else {}),
        }


class AskFailed(Exception):
    """One question got no answer. `str(error)` is one line.

    Args:
        code: OpenAI's code of the fault, where there is one.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.mistaken = code in _MISTAKEN_CODES
        """Whether every other question would fail in the same way: a wrong key, a wrong model."""

    def naming(self, pictures: Sequence[str]) -> AskFailed:
        """The same, with the pictures' own names where a gateway says where they stand in the request.

        Args:
            pictures: all that were asked about, in their order.
        """

        def name(place: re.Match[str]) -> str:
            at = int(place[1])
            return pictures[at] if at < len(pictures) else place[0]

        return AskFailed(_PLACE.sub(name, str(self)), code=self.code)


class Asker(Protocol):
    """Who can be asked: a gateway that runs, or one in this process."""

    async def ask(self, question: Question, picture_urls: Sequence[str], show: ShowText | None = None) -> Told:
        """Asks about pictures.

        Args:
            picture_urls: data URLs or http(s) URLs.
            show: gets the answer's text piece by piece as it comes; `None`: it is asked for whole.

        Raises:
            AskFailed: there is no answer, or it broke off.
        """
        ...
