"""The one stream type. Every backend's answer becomes a sequence of these, whatever its wire looks like.

Grammar: (TextDelta | ReasoningDelta | ToolCallDelta | OcrRegions | UsageReport)* (Finish | Failure)

Exactly one terminal, and it is last. A stream with neither cannot exist: a translator whose input ends too early raises
`BackendProtocolError` instead. A whole answer is the folded stream (`collect`), so there is one decoding path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never

from app.core.errors import GatewayError, InternalError
from app.core.types import ToolCall

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
UsageSource: TypeAlias = Literal["upstream", "counted", "estimated"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Text the model thought before it answered; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. The first piece of an `index` carries `id` and `name`; later ones only arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class OcrRegion:
    """A line of text in a picture.

    Args:
        polygon_px: corners in pixels of the caller's picture, upright, origin top left, clockwise from the line's
            start.
        confidence: 0..1.
    """

    text: str
    polygon_px: tuple[tuple[float, float], ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class OcrRegions:
    """Where the text of one picture stands. `image_index` counts the pictures of the last user turn from 0."""

    image_index: int
    regions: tuple[OcrRegion, ...]


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What the answer took. A later report replaces an earlier one.

    Args:
        source: `upstream` (the backend said so), `counted` (we counted what passed), `estimated` (by formula).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    image_count: int = 0
    source: UsageSource = "upstream"


@dataclass(frozen=True, slots=True)
class Finish:
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer broke after it had begun."""

    error: GatewayError


Event: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | OcrRegions | UsageReport | Finish | Failure


@dataclass(slots=True)
class _ToolCallFold:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the folded stream."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    regions: tuple[OcrRegions, ...]
    usage: UsageReport | None
    finish_reason: FinishReason


class AnswerFold:
    """Folds events into an `Answer`, batch by batch."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _ToolCallFold] = {}
        self._regions: list[OcrRegions] = []
        self._usage: UsageReport | None = None
        self._finish: FinishReason | None = None

    def add(self, event: Event) -> None:
        """Takes the next event.

        Raises:
            GatewayError: the event is a `Failure`.
            InternalError: the stream had ended already.
        """
        if self._finish is not None:
            raise InternalError("an event came after the end of the answer")
        match event:
            case TextDelta(text):
                self._text.append(text)
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case ToolCallDelta():
                self._add_tool_call(event)
            case OcrRegions():
                self._regions.append(event)
            case UsageReport():
                self._usage = event
            case Finish(reason):
                self._finish = reason
            case Failure(error):
                raise error
            case _:  # pragma: no cover - the type checker proves it cannot be reached
                assert_never(event)

    def _add_tool_call(self, delta: ToolCallDelta) -> None:
        fold = self._calls.setdefault(delta.index, _ToolCallFold())
        fold.id = delta.id or fold.id
        fold.name = delta.name or fold.name
        fold.arguments.append(delta.arguments)

    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            InternalError: the stream has not ended.
        """
        if self._finish is None:
            raise InternalError("the answer ended without a finish")
        return Answer(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(
                ToolCall(id=fold.id, name=fold.name, arguments="".join(fold.arguments))
                for _, fold in sorted(self._calls.items())
            ),
            regions=tuple(self._regions),
            usage=self._usage,
            finish_reason=self._finish,
        )


def collect(events: Iterable[Event]) -> Answer:
    """Folds a whole stream.

    Raises:
        GatewayError: the stream ended in a `Failure`.
        InternalError: the stream breaks the grammar.
    """
    fold = AnswerFold()
    for event in events:
        fold.add(event)
    return fold.answer()
