"""The exchanges over WebSocket once more, over a socket: what a transport delivers is what translators were tested
with."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import PIL.Image
import pytest

from app.core.errors import BackendError
from app.core.events import Event
from app.transports.websocket import WsTransport
from tests.backends.exchanges import CONTEXT, Exchange, load, play
from tests.fakes.spark import SparkAccount, picture_of, stream
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply, close, fragments

EXCHANGES = load("spark")
ACCOUNT = {
    "app_id": "a1b2c3d4",
    "api_key": "0123456789abcdef0123456789abcdef",
    "api_secret": "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk=",
}


@pytest.fixture
async def transport() -> AsyncIterator[WsTransport]:
    transport = WsTransport()
    yield transport
    await transport.aclose()


def scripted(exchange: Exchange) -> WsReply:
    """Its frames, each cut in two."""
    texts = [frame.data for frame in exchange.frames]
    return WsReply([*(fragments(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts), close(1000)])


async def asked(exchange: Exchange, transport: WsTransport, up: Upstream) -> tuple[list[Event], BackendError | None]:
    translator = exchange.translator()
    call = exchange.asked_over_ws(translator)
    path = call.url.partition(urlsplit(call.url).netloc)[2]
    events: list[Event] = []
    try:
        async with transport.open(replace(call, url=up.ws_url + path), backend="test-backend", connect_s=5.0) as reply:
            if reply.status >= 400:
                return [], translator.refused(reply.status, reply.headers, await reply.body())
            async for batch in reply.frames():
                for frame in batch:
                    events.extend(translator.receive(frame))
        events.extend(translator.receive_eof())
    except BackendError as error:
        return events, error
    return events, None


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
async def test_an_exchange_means_the_same_over_a_socket(exchange: Exchange, transport: WsTransport) -> None:
    expected = play(exchange)
    async with Upstream() as up:
        up.answer(scripted(exchange) if "frames" in exchange.reply else exchange.over_http().split(7))
        events, error = await asked(exchange, transport, up)
        assert tuple(events) == expected.events
        assert type(error) is type(expected.error)
        assert error is None or expected.error is None or error.retryable == expected.error.retryable
        request = up.requests[0]
        if "frames" in exchange.reply:
            assert request.messages == list(exchange.asked_over_ws(exchange.translator()).messages)
        assert {"authorization", "date", "host"} == {pair.partition("=")[0] for pair in request.query.split("&")}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({}, ""),
        ({"api_key": "f" * 32}, "retrieve credential"),
        ({"api_secret": "x" * 32}, "does not match"),
        ({"api_key": ACCOUNT["api_secret"], "api_secret": ACCOUNT["api_key"]}, "retrieve credential"),
        ({"app_id": "ffffffff"}, "AppIdNoAuthError"),
    ],
)
async def test_credentials_are_proven_to_a_service_that_checks_them(
    changes: dict[str, str], detail: str, transport: WsTransport, photo: dict[str, str]
) -> None:
    account = SparkAccount(**ACCOUNT, clock=lambda: CONTEXT.now + 299)
    request = {"model": "imagev3", "messages": [{"role": "user", "content": [photo, {"text": "图里有什么?"}]}]}
    async with Upstream() as up:
        up.otherwise(account.serving([*stream("一只", "猫"), close(1000)]))
        options = {**ACCOUNT, **changes, "base_url": up.ws_url}
        exchange = Exchange("spark", "strict", options, request, {}, "the scripted service")
        events, error = await asked(exchange, transport, up)
        if not detail:
            assert error is None
            assert len(events) == 4
            assert picture_of(up.requests[0])
            assert json.loads(up.requests[0].messages[0])["header"]["app_id"] == ACCOUNT["app_id"]
            return
        assert events == []
        assert error is not None
        assert error.code == "backend_misconfigured"
        assert detail in error.detail


@pytest.fixture(scope="module")
def photo() -> dict[str, str]:
    """A picture as the service takes one."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "red").save(file, "JPEG")
    return {"picture": base64.b64encode(file.getvalue()).decode()}
