"""Recipes: one model reads the newest turn's pictures, then another answers from what was read, and from the pictures
too where it sees them. One stream, one terminal, one ledger row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from app.config.catalog import Model, Recipe, Route
from app.core.clock import Clock
from app.core.errors import GatewayError, UnsupportedFeature
from app.core.events import Answer, AnswerFold, Event, Failure
from app.core.types import ChatRequest, ImagePart, Message, TextPart
from app.gateway.accounting import Meter
from app.gateway.attempt import Attempts, Clocks
from app.gateway.readout import Readout, guide, is_chinese, reading_task
from app.gateway.routing import candidates, newest_pictures

_READOUT_MAX_CHARS = 20_000
_FENCE_DIGITS = 8


class Asking(Protocol):
    """Begins to ask a model's routes, for the request that runs."""

    def __call__(self, *, model: Model, routes: Sequence[Route], request: ChatRequest, clocks: Clocks) -> Attempts: ...


@dataclass(frozen=True, slots=True)
class _Step:
    model: Model
    routes: tuple[Route, ...]
    request: ChatRequest

    @classmethod
    def of(cls, model: Model, request: ChatRequest) -> _Step:
        return cls(model, candidates(model, request), request)


class Composed:
    """The answer by a recipe. What cannot be served is refused before any model is asked.

    Raises:
        RequestError: no route of a model in it can do what the request demands.
    """

    def __init__(
        self, recipe: Recipe, request: ChatRequest, *, asking: Asking, meter: Meter, clock: Clock, clocks: Clocks
    ) -> None:
        self._asking = asking
        self._meter = meter
        self._clock = clock
        self._clocks = clocks
        self._deadline_s = asyncio.get_running_loop().time() + clocks.deadline_s
        self._reader: _Step | None = None
        self._shows_regions = False
        self.notices: list[str] = []
        answer = recipe.answer
        if answer is None:
            self._answerer = _Step.of(recipe.ocr, request)
        elif not newest_pictures(request):
            self._answerer = _Step.of(answer, request)
        else:
            self._answerer = _sighted_or_blind(answer, request, self.notices)
            self._reader = _Step.of(recipe.ocr, _reading_of(request))
            self._shows_regions = _asks_for_regions(request)

    async def batches(self) -> AsyncGenerator[Sequence[Event], None]:
        """The answer's events, as `Attempts.batches` gives them; where asked for, the regions come first.

        Raises:
            GatewayError: the pictures could not be read, or nobody answered. Once a batch was given, faults come as
                `Failure` instead.
        """
        begun = False
        read = await self._read()
        if read is not None and self._shows_regions and read.regions:
            begun = True
            yield read.regions
        answering = self._answering(read)
        del read
        try:
            async with aclosing(answering.batches()) as batches:
                async for batch in batches:
                    if answering.notices:
                        self.notices += answering.notices
                        answering.notices.clear()
                    yield batch
        except GatewayError as error:
            if not begun:
                raise
            yield [Failure(error)]

    async def _read(self) -> Answer | None:
        """What stands in the pictures; `None` where there is nothing to be read."""
        reader, self._reader = self._reader, None
        if reader is None:
            return None
        fold = AnswerFold()
        async with aclosing(self._ask(reader).batches()) as batches:
            del reader  # it holds the pictures
            async for batch in batches:
                self._meter.note(batch)
                for event in batch:
                    fold.add(event)
        return fold.answer()

    def _answering(self, read: Answer | None) -> Attempts:
        step = self._answerer
        self._answerer = replace(step, request=replace(step.request, messages=()))  # its pictures may go
        return self._ask(step if read is None else replace(step, request=self._told(step, read)))

    def _ask(self, step: _Step) -> Attempts:
        self._meter.step(step.model)
        left_s = max(0.0, self._deadline_s - asyncio.get_running_loop().time())
        clocks = replace(self._clocks, deadline_s=left_s)
        return self._asking(model=step.model, routes=step.routes, request=step.request, clocks=clocks)

    def _told(self, step: _Step, read: Answer) -> ChatRequest:
        """The request with what was read put before the question of the newest turn."""
        request = step.request
        readout = Readout(read.regions, read.text, self._clock.nonce()[:_FENCE_DIGITS], _room_chars(step))
        chinese = is_chinese(_newest_text(request).strip() or read.text)
        told = TextPart(guide(readout, chinese=chinese, sees=bool(newest_pictures(request))))
        messages = list(request.messages)
        at = next((at for at in _newest_turn(request)[::-1] if messages[at].role == "user"), None)
        if at is None:
            messages.append(Message("user", (told,)))
        else:
            parts = messages[at].parts
            question = next((index for index, part in enumerate(parts) if isinstance(part, TextPart)), len(parts))
            messages[at] = replace(messages[at], parts=(*parts[:question], told, *parts[question:]))
        told_all = [message for message in messages if message.parts or message.role != "user"]  # held pictures only
        return replace(request, messages=tuple(told_all))


def _sighted_or_blind(answer: Model, request: ChatRequest, notices: list[str]) -> _Step:
    """The step with the pictures; where no route takes them, without those of the newest turn, which are read for it.
    Of a model that sees, and could not be shown so many, this is said.

    Raises:
        RequestError: the request demands what the model cannot do, seeing or not.
    """
    try:
        return _Step.of(answer, request)
    except UnsupportedFeature:
        step = _Step.of(answer, _without_newest_pictures(request))
        if any(route.capabilities.max_images for route in answer.routes):
            notices.append(f"{len(newest_pictures(request))} picture(s) read, not shown to the answering model")
        return step


def _without_newest_pictures(request: ChatRequest) -> ChatRequest:
    messages = list(request.messages)
    for at in _newest_turn(request):
        if messages[at].images:
            kept = tuple(part for part in messages[at].parts if not isinstance(part, ImagePart))
            messages[at] = replace(messages[at], parts=kept)
    return replace(request, messages=tuple(messages))


def _reading_of(request: ChatRequest) -> ChatRequest:
    """What the reader is asked. The caller's knobs and tools are for the answer."""
    task = TextPart(reading_task(chinese=is_chinese(_newest_text(request))))
    return ChatRequest(
        model=request.model,
        messages=(Message("user", (*newest_pictures(request), task)),),
        stream=request.stream,
        user=request.user,
        extra={"ocr": _with_regions(request.extra.get("ocr"))},
    )


def _with_regions(asked: object) -> object:
    """The reader's own field, asking for regions. What it cannot understand it gets as it is, and says so itself."""
    if asked is None:
        return {"regions": True}
    if isinstance(asked, Mapping) and isinstance(asked.get("regions"), bool | None):
        return {**asked, "regions": True}
    return asked


def _asks_for_regions(request: ChatRequest) -> bool:
    asked = request.extra.get("ocr")
    return isinstance(asked, Mapping) and asked.get("regions") is True


def _newest_turn(request: ChatRequest) -> range:
    """Where the messages since the model last spoke stand."""
    end = len(request.messages)
    spoke = (at for at in reversed(range(end)) if request.messages[at].role == "assistant")
    return range(next(spoke, -1) + 1, end)


def _newest_text(request: ChatRequest) -> str:
    messages = (request.messages[at] for at in _newest_turn(request))
    return "\n".join(message.text for message in messages if message.role == "user")


def _room_chars(step: _Step) -> int:
    """How much of the text the answering model has room for beside the conversation: half of what it takes, at one
    character a token, which is what positions cost."""
    bounds = [route.capabilities.conversation_tokens for route in step.routes]
    known = [bound // 2 for bound in (step.model.context_tokens, *bounds) if bound is not None]
    return min(_READOUT_MAX_CHARS, *known) if known else _READOUT_MAX_CHARS
