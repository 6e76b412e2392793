"""The exchanges once more, over a socket: what a transport delivers is what the translators were tested with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.core.errors import BackendError
from app.core.events import Event
from app.transports.http import HttpTransport
from tests.backends.exchanges import Exchange, load, play
from tests.fakes.upstream import Upstream

EXCHANGES = load("ccai", "openai", "qianfan")


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def asked(exchange: Exchange, transport: HttpTransport, up: Upstream) -> tuple[list[Event], BackendError | None]:
    """Asks the upstream, which answers in writes of seven bytes."""
    up.answer(exchange.over_http().split(7))
    translator = exchange.translator()
    call = exchange.asked(translator)
    events: list[Event] = []
    try:
        async with transport.open(replace(call, url=up.url), backend="test-backend", connect_s=5.0) as reply:
            if reply.status >= 400:
                return [], translator.refused(reply.status, reply.headers, await reply.body())
            async for batch in reply.frames():
                for frame in batch:
                    events.extend(translator.receive(frame))
        events.extend(translator.receive_eof())
    except BackendError as error:
        return events, error
    return events, None


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: f"{exchange.kind}: {exchange.name}")
async def test_an_exchange_means_the_same_over_a_socket(exchange: Exchange, transport: HttpTransport) -> None:
    expected = play(exchange)
    async with Upstream() as up:
        events, error = await asked(exchange, transport, up)
        assert tuple(events) == expected.events
        assert type(error) is type(expected.error)
        assert error is None or expected.error is None or error.retryable == expected.error.retryable
        assert up.requests[0].body == exchange.asked(exchange.translator()).body
        assert up.requests[0].key == exchange.options.get("api_key")
