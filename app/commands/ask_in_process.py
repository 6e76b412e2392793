"""`tuwen ask` without a gateway: this process is one, for as long as it takes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from typing_extensions import override

from app.accounts.interfaces import Caller
from app.commands.ask_question import Asker, AskFailed, Question, ShowText, Told
from app.commands.ask_show import note
from app.commands.errors import CommandFailed
from app.commands.raw import ShowingTransport, ShowLine
from app.config.catalog import Catalog, Model, Route
from app.config.errors import ConfigError
from app.config.problems import did_you_mean
from app.config.settings import Settings
from app.core.clock import Clock
from app.core.errors import GatewayError
from app.core.events import AnswerFold, TextDelta
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, TextPart
from app.observe.logs import configure_logging
from app.services import Services, open_services
from app.store.errors import StoreUnusable
from app.transports.base import Transport

LOCAL_CALLER = Caller(key_id="local", name="tuwen ask", admin=False)
"""Who asks, in the ledger. No key opens anything to it."""


@asynccontextmanager
async def in_process_asker(
    settings: Settings, question: Question, show_raw: ShowLine | None = None
) -> AsyncIterator[InProcessAsker]:
    """A gateway in this process, able to answer this question.

    Args:
        show_raw: gets the frames of backends, line by line; the calls to them are noted on stderr.

    Raises:
        CommandFailed: the catalogue is wrong, the model is not in it or not configured, or the ledger cannot be opened.
    """
    configure_logging(level="error", form=settings.log_format)  # faults that an answer survived are not for a terminal

    def watched(transport: Transport) -> Transport:
        if show_raw is None:
            return transport
        return ShowingTransport(transport, show_raw, note, secrets_of=lambda backend: secrets.get(backend, ()))

    def narrowed(catalog: Catalog) -> Catalog:
        known = ((name, backend.options) for name, backend in catalog.backends.items())
        secrets.update({name: options.secrets for name, options in known if options is not None})
        return only_asked(catalog, question)

    secrets: dict[str, tuple[str, ...]] = {}
    try:
        async with open_services(settings, Clock(), catalog_view=narrowed, transport_view=watched) as services:
            yield InProcessAsker(services)
    except (ConfigError, StoreUnusable) as error:
        first, *others = str(error).splitlines()
        more = f" ({len(others)} more: see 'tuwen check')" if others else ""
        raise CommandFailed(first + more, exit_code=2) from error


class InProcessAsker(Asker):
    """Asks the gateway of this process; it books as any does."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def published_at(self) -> str | None:
        """Where the backend of the model asked will fetch pictures, if it is a gateway that must serve them there: this
        process serves nothing. `None`: they travel as bytes, or lie in a bucket."""
        routes = [route for model in self._services.catalogs.current.models for route in model.routes]
        fetched = any(route.capabilities.image_input == "url" for route in routes)
        return self._services.settings.public_url if fetched and self._services.copies is not None else None

    @override
    async def ask(self, question: Question, picture_urls: Sequence[str], show: ShowText | None = None) -> Told:
        start_s = time.monotonic()
        fold = AnswerFold()
        request = chat_request(question, picture_urls, stream=show is not None)
        request_id = self._services.clock.nonce()[:24]
        try:
            async with self._services.gateway.open(request, LOCAL_CALLER, request_id) as exchange:
                async for batch in exchange.batches:
                    for event in batch:
                        fold.add(event)
                        if show is not None and isinstance(event, TextDelta):
                            show(event.text)
                answer = fold.answer()
        except GatewayError as error:
            raise AskFailed(str(error), code=error.code) from error
        return Told(
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=exchange.usage,
            cost_micros=exchange.cost_micros,
            seconds=time.monotonic() - start_s,
            notices=tuple(exchange.notices),
        )


def chat_request(question: Question, picture_urls: Sequence[str], *, stream: bool) -> ChatRequest:
    """The request in the gateway's words."""
    pictures = [
        ImagePart(ImageSource(url, f"messages[0].content[{at}].image_url.url")) for at, url in enumerate(picture_urls)
    ]
    return ChatRequest(
        model=question.model,
        messages=(Message("user", (*pictures, TextPart(question.text))),),
        stream=stream,
        temperature=question.temperature,
        max_output_tokens=question.max_output_tokens,
    )


def only_asked(catalog: Catalog, question: Question) -> Catalog:
    """The catalogue with no model but the one asked, and of its routes only the one of the domain, if one is named.

    Raises:
        ConfigError: there is no such model, or no such route; or what it needs is not configured.
    """
    model = catalog.find(question.model)
    if model is None:
        hint = did_you_mean(question.model, [model.id for model in catalog.models])
        raise ConfigError(f"There is no model {question.model}{hint or '.'} 'tuwen check' lists them all.")
    if question.domain is not None:
        model = replace(model, routes=(_route_to(question.domain, model),))
    if not model.available:
        routes = model.routes if model.recipe is None else model.recipe.ocr.routes
        missing = dict.fromkeys(name for route in routes for name in route.backend.missing_env)
        raise ConfigError(f"The model {question.model} is not configured: set {', '.join(missing)}.")
    return Catalog(catalog.backends, (model,))


def model_of_domain(catalog: Catalog, domain: str) -> str:
    """The id of the first model that has a route to this domain; one that can be asked goes before one that cannot.

    Raises:
        ConfigError: none has.
    """
    holders = [model for model in catalog.models if any(route.model == domain for route in model.routes)]
    if not holders:
        known = {route.model for model in catalog.models for route in model.routes}
        hint = did_you_mean(domain, known)
        raise ConfigError(f"No model has a domain {domain}{hint or '.'} 'tuwen check' lists them all.")
    return next((model for model in holders if model.available), holders[0]).id


def _route_to(domain: str, model: Model) -> Route:
    for route in model.routes:
        if route.model == domain:
            return route
    known = ", ".join(dict.fromkeys(route.model for route in model.routes))
    raise ConfigError(f"The model {model.id} has no domain {domain}; it has: {known}.")
