"""How much of a backend's answer is taken, over a socket; and what is not sent at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.core.errors import BackendMisconfigured, BackendProtocolError
from app.core.types import HttpCall
from app.transports.http import HttpTransport
from tests.fakes import openai
from tests.fakes.http import Gate, Reply
from tests.fakes.upstream import Upstream

EVENT = openai.event({"choices": [{"index": 0, "delta": {"content": "word " * 20}}]})


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(max_event_bytes=4 * len(EVENT), max_body_bytes=16 * len(EVENT))
    yield transport
    await transport.aclose()


async def frames_of(transport: HttpTransport, reply: Reply, *, cumulative: bool = False) -> int:
    """How many frames came until the end, or until the test fails."""
    count = 0
    async with Upstream() as up:
        up.answer(reply)
        call = HttpCall("POST", up.url, {}, b"{}", cumulative=cumulative)
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            async for batch in opened.frames():
                count += len(batch)
    return count


async def test_stream_within_the_bound_is_read_to_its_end(transport: HttpTransport) -> None:
    assert await frames_of(transport, Reply(200, openai.SSE, [EVENT] * 16)) == 16


async def test_stream_that_never_ends_is_left_at_the_bound(transport: HttpTransport) -> None:
    with pytest.raises(BackendProtocolError) as caught:
        await frames_of(transport, Reply(200, openai.SSE, [EVENT] * 17 + [Gate()]))
    assert caught.value.detail == "the stream is over the bound"
    assert not caught.value.retryable


async def test_answer_that_repeats_itself_in_every_event_may_take_more_than_a_body(transport: HttpTransport) -> None:
    assert await frames_of(transport, Reply(200, openai.SSE, [EVENT] * 40), cumulative=True) == 40


async def test_events_of_a_stream_that_repeats_itself_are_bounded_still(transport: HttpTransport) -> None:
    reply = Reply(200, openai.SSE, [EVENT, b"data: " + b"a" * (5 * len(EVENT)), Gate()])
    with pytest.raises(BackendProtocolError) as caught:
        await frames_of(transport, reply, cumulative=True)
    assert caught.value.detail == "an event is over the bound"


async def test_comments_count_towards_the_bound_too(transport: HttpTransport) -> None:
    with pytest.raises(BackendProtocolError, match="not an answer"):
        await frames_of(transport, Reply(200, openai.SSE, [b": ping\n\n" * 1000, Gate()]))


async def test_single_event_over_its_bound_is_not_gathered(transport: HttpTransport) -> None:
    with pytest.raises(BackendProtocolError) as caught:
        await frames_of(transport, Reply(200, openai.SSE, [b"data: " + b"a" * (5 * len(EVENT)), Gate()]))
    assert caught.value.detail == "an event is over the bound"


async def test_whole_body_over_the_bound_is_not_gathered(transport: HttpTransport) -> None:
    with pytest.raises(BackendProtocolError) as caught:
        await frames_of(transport, Reply(200, {}, [b"{" + b" " * (17 * len(EVENT)), Gate()]))
    assert caught.value.detail == "the body is over the bound"


@pytest.mark.parametrize("path", ["/a%20b%2Fc%2B%2A~%E4%B8%AD", "/plain"])
async def test_escapes_of_an_address_go_out_as_they_were_signed(transport: HttpTransport, path: str) -> None:
    async with Upstream() as up:
        up.answer(openai.answer("ok"))
        async with transport.open(HttpCall("POST", up.url + path, {}, b"{}"), backend="b", connect_s=5.0):
            pass
        assert up.requests[0].path == path


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://[::1/hunter2", {}),
        ("http://127.0.0.1:70000/hunter2", {}),
        ("http://u:hunter2@{host}/v1", {"authorization": "Bearer hunter2"}),
        ("http://{host}/v1", {"authorization": "Bearer hunter2\r\nx: y"}),
        ("http://{host}/v1", {"x\r\ny": "hunter2"}),
    ],
)
async def test_what_cannot_be_sent_is_the_operators_to_mend_and_not_told(
    transport: HttpTransport, url: str, headers: dict[str, str]
) -> None:
    async with Upstream() as up:
        call = HttpCall("POST", url.replace("{host}", up.url.removeprefix("http://")), headers, b"{}")
        with pytest.raises(BackendMisconfigured, match="no valid address") as caught:
            async with transport.open(call, backend="test-backend", connect_s=5.0):
                pass
        assert not up.requests
    assert "hunter2" not in f"{caught.value.detail} {caught.value.__cause__}"
