"""The plugin over a socket, before a Baidu that verifies: tokens, signatures, streams in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from app.backends.chatocr import ChatOcrOptions, ChatOcrTranslator
from app.core.errors import BackendBusy, BackendError, BackendMisconfigured, BackendRefused
from app.core.events import Answer, Event, TextDelta, collect
from app.core.types import ChatRequest, Image, ImagePart, Message, TextPart
from app.transports.http import HttpTransport
from tests.backends.exchanges import CONTEXT
from tests.fakes.baidu import LOG_ID, Baidu, ErrorPlace
from tests.fakes.http import Reply
from tests.fakes.upstream import Upstream
from tests.media.pictures import file_of, four_colours

BOS = "https://b.bj.bcebos.com/a.png"


class Desk:
    """A plugin's backend in front of the double."""

    def __init__(self, up: Upstream, transport: HttpTransport) -> None:
        self.baidu = Baidu(now=lambda: CONTEXT.now)
        self.up = up
        self.transport = transport
        self.options = self.baidu.application
        up.otherwise(self.baidu)

    async def events(
        self, *, stream: bool = True, now: float = CONTEXT.now, url: str = BOS, **options: Any
    ) -> list[Event]:
        """All events of one question about one picture."""
        section = {"endpoint": "testxxx", "base_url": self.up.url, **self.options, **options}
        made = ChatOcrTranslator("b", ChatOcrOptions.model_validate(section), "uuid-chatocr")
        image = Image(b"p", "image/png", 100, 100, "0", url)
        asked = Message("user", (TextPart("大学是哪所?"), ImagePart(image)))
        request = ChatRequest("uuid-chatocr", (asked,), stream=stream, extra={"ocr": {"regions": True}})
        events: list[Event] = []
        call = made.call(request, replace(CONTEXT, now=now))
        async with self.transport.open(call, backend="b", connect_s=5.0) as reply:
            if reply.status >= 400:
                raise made.refused(reply.status, reply.headers, await reply.body())
            async with aclosing(reply.frames()) as batches:
                async for batch in batches:
                    for frame in batch:
                        events.extend(made.receive(frame))
        events.extend(made.receive_eof())
        assert made.backend_request_id == str(LOG_ID)
        return events

    async def answer(self, **options: Any) -> Answer:
        return collect(await self.events(**options))

    def asked_of(self, path: str) -> int:
        return sum(path in request.path for request in self.up.requests)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    transport = HttpTransport()
    async with Upstream() as up:
        yield Desk(up, transport)
        await transport.aclose()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", ["application", "account"])
async def test_both_kinds_of_credentials_are_good_for_streams_and_whole_answers(
    desk: Desk, way: str, stream: bool
) -> None:
    desk.options = getattr(desk.baidu, way)
    answer = await desk.answer(stream=stream)
    assert answer.text == "通知书上的大学是某某大学。"
    assert [region.text for regions in answer.regions for region in regions.regions] == ["某某大学"]
    assert desk.baidu.asked[0]["query"] == "大学是哪所?"
    assert desk.asked_of("/token") == (way == "application")


@pytest.mark.parametrize("split_bytes", [1, 3, 7])
@pytest.mark.parametrize("echo_key", ["request", "requests"])
async def test_streams_mean_the_same_in_whatever_pieces_they_come(desk: Desk, split_bytes: int, echo_key: Any) -> None:
    desk.baidu.split_bytes, desk.baidu.echo_key = split_bytes, echo_key
    events = await desk.events()
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["通知书上的大学是", "某某大学。"]


@pytest.mark.parametrize("code", [110, 111])
async def test_a_token_that_ended_is_replaced_and_the_caller_does_not_notice(desk: Desk, code: int) -> None:
    await desk.answer()
    desk.baidu.end_tokens(code)
    assert (await desk.answer()).text
    assert desk.asked_of("/token") == 2
    assert desk.asked_of("/plugin") == 3


async def test_many_calls_whose_token_ended_bring_one_new_token(desk: Desk) -> None:
    await desk.answer()
    desk.baidu.end_tokens()
    answers = await asyncio.gather(*(desk.answer() for _ in range(8)))
    assert all(answer.text for answer in answers)
    assert desk.asked_of("/token") == 2


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"api_key": "x" * 24}, "unknown client id"), ({"secret_key": "x" * 32}, "Client authentication failed")],
)
async def test_wrong_application_keys_are_the_operators_to_mend(desk: Desk, wrong: dict[str, str], code: str) -> None:
    with pytest.raises(BackendMisconfigured) as caught:
        await desk.answer(**wrong)
    assert caught.value.backend_code == code
    assert (desk.asked_of("/token"), desk.asked_of("/plugin")) == (1, 0)


@pytest.mark.parametrize(
    ("wrong", "late_s", "code"),
    [
        ({"access_key_id": "ALTAKfakefakefakefake02"}, 0, "NotFound"),
        ({"secret_access_key": "f" * 32}, 0, "SignatureDoesNotMatch"),
        ({}, -1801, "RequestExpired"),
        ({}, 901, "RequestExpired"),
    ],
)
async def test_wrong_account_keys_and_clocks_are_the_operators_to_mend(
    desk: Desk, wrong: dict[str, str], late_s: int, code: str
) -> None:
    desk.options = desk.baidu.account
    with pytest.raises(BackendMisconfigured) as caught:
        await desk.answer(now=CONTEXT.now + late_s, **wrong)
    assert caught.value.backend_code == code


@pytest.mark.parametrize("place", ["json", "bare", "packet", "echo"])
async def test_an_error_of_status_200_is_found_wherever_a_stream_says_it(desk: Desk, place: ErrorPlace) -> None:
    desk.baidu.refuse(18, place=place)
    with pytest.raises(BackendBusy):
        await desk.events()
    assert (await desk.answer()).text, "the next call is none the worse"


async def test_the_plugin_fetches_the_picture_by_its_address(desk: Desk) -> None:
    white = file_of(four_colours(96, 80), "PNG")
    desk.baidu.bos_only, desk.baidu.fetches = False, True
    with Upstream().in_thread() as host:
        host.answer(Reply(200, {"content-type": "image/png"}, [white]))
        assert (await desk.answer(url=f"{host.url}/a.png")).text
    assert desk.baidu.pictures == [white]


@pytest.mark.parametrize("url", ["https://pictures.test/a.png", "https://b.bj.bcebos.com/a"])
async def test_a_picture_under_another_address_is_refused_by_the_plugin(desk: Desk, url: str) -> None:
    with pytest.raises(BackendRefused) as caught:
        await desk.answer(url=url)
    assert caught.value.backend_code == "216100"


async def test_a_wrong_endpoint_is_the_operators_to_mend(desk: Desk) -> None:
    with pytest.raises(BackendError) as caught:
        await desk.answer(endpoint="other")
    assert type(caught.value) is BackendMisconfigured
    assert caught.value.backend_code == "3"
