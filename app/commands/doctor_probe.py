"""One small question to a model, through the gateway's own steps."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from app.accounts.interfaces import Caller
from app.commands.ask_gateway import GatewayAddress
from app.commands.errors import CommandFailed
from app.commands.observation import Observation
from app.config.catalog import Catalog, Model, Route
from app.config.errors import ConfigError
from app.config.settings import Settings
from app.core.clock import Clock
from app.core.errors import BackendError, GatewayError
from app.core.events import AnswerFold
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, Part, TextPart
from app.observe.logs import redact
from app.services import Services, open_services
from app.store.errors import StoreUnusable

_CALLER = Caller(key_id="local", name="tuwen doctor", admin=False)
_QUESTION = "图里是什么颜色？一个词回答。What colour is this? One word."
_ANSWER_TOKENS = 64
_SILENCE_MAX_S = 30.0
_WHOLE_MAX_S = 60.0
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_DETAIL_CHARS = 300
_TO_CALLERS = (": tell the gateway's operator.", "：请告知网关管理员。")
"""How sentences end that are meant for callers; who reads this is the operator."""
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

    async def hosting(self, routes: Iterable[Route]) -> Observation | None:
        """Whether a gateway serves the pictures that these routes fetch, for this process serves none; `None`: they
        fetch none, or from a bucket."""
        settings = self._services.settings
        if self._services.copies is None or all(route.capabilities.image_input != "url" for route in routes):
            return None
        at = settings.public_url
        if await GatewayAddress.of(None, settings).listens():
            english = f"the picture is fetched from {at}, and a gateway listens on this machine"
            return Observation("pictures", True, english, f"图片将从 {at} 读取，本机已有网关在监听")
        return Observation(
            "pictures",
            None,
            f"the picture is fetched from {at}, and no gateway listens on this machine: start 'tuwen serve' first",
            f"图片将从 {at} 读取，而本机没有网关在监听：请先启动 tuwen serve",
        )

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
            english, chinese = _told(error)
            return Observation("probe", False, f"{route.model}: {english}", f"{route.model}：{chinese}")
        seconds = time.monotonic() - start_s
        tokens = usage.input_tokens + usage.output_tokens
        return Observation(
            "probe",
            True,
            f"{route.model} answered a question in {seconds:.1f} s, for {tokens} tokens",
            f"{route.model} 已正常回答，用时 {seconds:.1f} 秒，{tokens} 个 token",
        )


def _told(error: GatewayError) -> tuple[str, str]:
    """What a caller would be told, and beside it, for the operator who reads this, what goes to the log: the vendor's
    code, of which `tuwen errors` says more, where to look, and the vendor's words."""
    english, chinese = (
        text.removesuffix(tail) for text, tail in zip((str(error), error.said_in("zh")), _TO_CALLERS, strict=True)
    )
    if not isinstance(error, BackendError):
        return english, chinese
    code = error.backend_code if error.backend_code is not None and _CODE.fullmatch(error.backend_code) else ""
    detail = _one_line(error.detail.removeprefix(f"{code}: "))
    in_english = ": ".join(filter(None, (f"vendor's code {code}" if code else "", detail)))
    in_chinese = "：".join(filter(None, (f"厂商错误码 {code}" if code else "", detail)))
    return (f"{english} ({in_english})", f"{chinese}（{in_chinese}）") if in_english else (english, chinese)


def _one_line(detail: str) -> str:
    """Vendors' words, from which the backends struck their own credentials, as a terminal may see them."""
    words = "".join(char if char.isprintable() else " " for char in redact(detail))
    return " ".join(words.split())[:_DETAIL_CHARS]


@asynccontextmanager
async def opened_prober(settings: Settings, catalog: Catalog) -> AsyncIterator[Prober]:
    """A gateway in this process.

    Raises:
        CommandFailed: its ledger cannot be opened.
    """
    bounds = {"first_event_s": _SILENCE_MAX_S, "idle_s": _SILENCE_MAX_S, "deadline_s": _WHOLE_MAX_S}
    shortened = {name: min(getattr(settings, name), most_s) for name, most_s in bounds.items()}
    brief = settings.model_copy(update=shortened)
    try:
        async with open_services(brief, Clock(), catalog_view=_each_route) as services:
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
