"""One small question to a model, through the gateway's own steps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from app.accounts.interfaces import Caller
from app.commands.errors import CommandFailed
from app.commands.observation import Observation
from app.config.catalog import Catalog, Model, Route
from app.config.errors import ConfigError
from app.config.settings import Settings
from app.core.clock import Clock
from app.core.errors import GatewayError
from app.core.events import AnswerFold
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, Part, TextPart
from app.main import Services, open_services
from app.store.errors import StoreUnusable

_CALLER = Caller(key_id="local", name="tuwen doctor", admin=False)
_QUESTION = "图里是什么颜色？一个词回答。What colour is this? One word."
_ANSWER_TOKENS = 64
_FIRST_EVENT_MAX_S = 30.0
# 128×128 pixels of red, which every vendor takes: the least of them wants 80.
_PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAIAAAACACAIAAABMXPacAAAAxklEQVR42u3RQQEAAATAQATRP5QwYvC4RdjldIfuKgsAABAA"
    "AAIAQAAACAAAAQAgAAAEAIAAABAAAAIAQAAACAAAAQAgAAAEAIAAABAAAAIAQAAACAAAAQAgAAAEAIAAABAAAAIAQAAACAAA"
    "AQAgAAAEAAAAAQAgAAAEAIAAABAAAAIAQAAACAAAAQAgAAAEAIAAABAAAAIAQAAACAAAAQAgAAAEAIAAABAAAAIAQAAACAAA"
    "AQAgAAAEAIAAABAAAAIAQAA+tJ0LAhjmM8kqAAAAAElFTkSuQmCC"
)


class Prober:
    """Asks models.

    Args:
        services: a gateway in this process, whose catalogue has each route as a model of its own.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def ask(self, route: Route) -> Observation:
        """What became of the question; booked as any request is."""
        start_s = time.monotonic()
        fold = AnswerFold()
        try:
            request_id = self._services.clock.nonce()[:24]
            async with self._services.gateway.open(_question(route), _CALLER, request_id) as exchange:
                async for batch in exchange.batches:
                    for event in batch:
                        fold.add(event)
                usage = exchange.usage
            fold.answer()
        except GatewayError as error:
            english, chinese = str(error), error.chinese or str(error)
            return Observation("probe", False, f"{route.model}: {english}", f"{route.model}：{chinese}")
        seconds = time.monotonic() - start_s
        tokens = usage.input_tokens + usage.output_tokens
        return Observation(
            "probe",
            True,
            f"{route.model} answered a question in {seconds:.1f} s, for {tokens} tokens",
            f"{route.model} 已正常回答，用时 {seconds:.1f} 秒，{tokens} 个 Token",
        )


@asynccontextmanager
async def opened_prober(settings: Settings, catalog: Catalog) -> AsyncIterator[Prober]:
    """A gateway in this process.

    Raises:
        CommandFailed: its ledger cannot be opened.
    """
    patient = settings.model_copy(update={"first_event_s": min(settings.first_event_s, _FIRST_EVENT_MAX_S)})
    try:
        async with open_services(patient, Clock(), catalog_view=_each_route) as services:
            yield Prober(services)
    except (ConfigError, StoreUnusable) as error:
        raise CommandFailed(str(error).splitlines()[0], exit_code=2) from error


def _each_route(catalog: Catalog) -> Catalog:
    """A catalogue in which every route is a model of its own."""
    found: dict[str, Model] = {}
    for model in catalog.models:
        for route in model.routes:
            for one in (route, route.for_text):
                alone = replace(model, id=_name(one), routes=(replace(one, text_model=None),), aliases=(), recipe=None)
                found.setdefault(alone.id, alone)
    return Catalog(catalog.backends, tuple(found.values()))


def _name(route: Route) -> str:
    return f"{route.backend.name}/{route.model}"


def _question(route: Route) -> ChatRequest:
    parts: tuple[Part, ...] = (TextPart(_QUESTION),)
    if route.capabilities.max_images > 0:
        parts = (ImagePart(ImageSource(_PICTURE, "messages[0].content[0].image_url.url")), *parts)
    return ChatRequest(
        model=_name(route), messages=(Message("user", parts),), stream=True, max_output_tokens=_ANSWER_TOKENS
    )
