"""Every exchange on file, whole and cut at every byte."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from app.backends.registry import KINDS
from app.core import errors
from app.core.errors import BackendError
from app.core.events import Finish
from app.core.types import ImagePart
from tests.backends.exchanges import Exchange, byte_by_byte, chat_request, cut_at, described, ended_at, load, play

EXCHANGES = load("baidu_ocr", "ccai", "chatocr", "openai", "qianfan", "spark")
OVER_HTTP = [exchange for exchange in EXCHANGES if exchange.kind != "spark"]
OVER_WS = [exchange for exchange in EXCHANGES if exchange.kind == "spark"]
STREAMS = [exchange for exchange in EXCHANGES if exchange.streamed and exchange.status < 400]

each_exchange = pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: f"{exchange.kind}: {exchange.name}")
each_stream = pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: f"{exchange.kind}: {exchange.name}")
each_answer_over_ws = pytest.mark.parametrize(
    "exchange", [exchange for exchange in OVER_WS if "frames" in exchange.reply], ids=lambda exchange: exchange.name
)


@pytest.mark.parametrize(
    "exchange", [exchange for exchange in OVER_HTTP if exchange.call], ids=lambda exchange: exchange.name
)
def test_asks_what_the_vendor_takes(exchange: Exchange) -> None:
    expected = dict(exchange.call or {})
    translator = exchange.translator()
    call = exchange.asked(translator)
    assert call.method == "POST"
    body = expected.pop("body")
    assert (call.body.decode() if isinstance(body, str) else json.loads(call.body)) == body
    assert call.headers.items() >= expected.pop("headers", {}).items()
    assert translator.notices == expected.pop("notices", [])
    assert call.url == expected.pop("url", call.url)
    assert call.framing == expected.pop("framing", call.framing)
    assert not expected, "a misspelt expectation expects nothing"


@pytest.mark.parametrize(
    "exchange", [exchange for exchange in OVER_WS if exchange.call], ids=lambda exchange: exchange.name
)
def test_asks_over_websocket_what_the_vendor_takes(exchange: Exchange) -> None:
    expected = dict(exchange.call or {})
    translator = exchange.translator()
    call = exchange.asked_over_ws(translator)
    assert [json.loads(message) for message in call.messages] == expected.pop("messages")
    assert translator.notices == expected.pop("notices", [])
    parts = urlsplit(call.url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == expected.pop("url")
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    assert query == expected.pop("query", query)
    assert not expected, "a misspelt expectation expects nothing"
    assert not call.headers


@pytest.mark.parametrize("exchange", OVER_WS, ids=lambda exchange: exchange.name)
def test_addresses_are_signed_for_the_moment_of_the_call(exchange: Exchange) -> None:
    """What is signed is worked out again from what is sent, as the service does."""
    parts = urlsplit(exchange.asked_over_ws(exchange.translator()).url)
    sent = {name: value for name, (value,) in parse_qs(parts.query, strict_parsing=True).items()}
    authorization = base64.b64decode(sent.pop("authorization"), validate=True).decode()
    assert sent == {"date": "Thu, 20 Nov 2025 00:53:20 GMT", "host": parts.netloc}, "the time that CONTEXT says"
    signed = f"host: {sent['host']}\ndate: {sent['date']}\nGET {parts.path} HTTP/1.1"
    digest = hmac.new(exchange.options["api_secret"].encode(), signed.encode(), hashlib.sha256).digest()
    assert dict(re.findall(r'(\w+)="([^"]*)"', authorization)) == {
        "api_key": exchange.options["api_key"],
        "algorithm": "hmac-sha256",
        "headers": "host date request-line",
        "signature": base64.b64encode(digest).decode(),
    }


@each_exchange
def test_understands_the_answer(exchange: Exchange) -> None:
    outcome = play(exchange)
    assert [described(event) for event in outcome.events] == exchange.events
    if exchange.request_id is not None:
        assert outcome.translator.backend_request_id == exchange.request_id
    if exchange.error is None:
        assert outcome.error is None
        assert isinstance(outcome.events[-1], Finish)
        return
    assert outcome.error is not None
    assert type(outcome.error) is getattr(errors, exchange.error["class"])
    named = {name: getattr(outcome.error, name) for name in exchange.error if name != "class"}
    assert named == {name: value for name, value in exchange.error.items() if name != "class"}


@each_stream
def test_a_stream_cut_at_any_byte_means_the_same(exchange: Exchange) -> None:
    expected = play(exchange)
    for at in range(1, len(exchange.wire)):
        outcome = play(exchange, cut_at(at))
        assert outcome.events == expected.events, f"cut at byte {at}"
        assert str(outcome.error) == str(expected.error), f"cut at byte {at}"


@each_stream
def test_a_stream_that_comes_byte_by_byte_means_the_same(exchange: Exchange) -> None:
    expected = play(exchange)
    outcome = play(exchange, byte_by_byte)
    assert outcome.events == expected.events
    assert str(outcome.error) == str(expected.error)


@each_stream
def test_a_stream_that_breaks_off_never_looks_finished(exchange: Exchange) -> None:
    """Cut before its last word, an answer ends in an error; it may be whole only once its finish reason came."""
    full = play(exchange)
    for at in range(len(exchange.wire)):
        outcome = play(exchange, ended_at(at))
        ends = [event for event in outcome.events if isinstance(event, Finish)]
        assert len(ends) + (outcome.error is not None) == 1
        if ends:
            assert outcome.events[-1] is ends[0]
            assert [event for event in outcome.events if described(event)[0] == "text"] == [
                event for event in full.events if described(event)[0] == "text"
            ]


@each_answer_over_ws
def test_a_websocket_that_breaks_off_never_looks_finished(exchange: Exchange) -> None:
    """Closed after any of its frames, an answer is whole or an error, never both or neither."""
    full = play(exchange)
    for count in range(len(exchange.reply["frames"])):
        outcome = play(replace(exchange, reply={"frames": exchange.reply["frames"][:count]}))
        ends = [event for event in outcome.events if isinstance(event, Finish)]
        assert len(ends) + (outcome.error is not None) == 1
        assert not ends or outcome.events == full.events


@each_answer_over_ws
def test_garbage_among_the_messages_is_no_answer(exchange: Exchange) -> None:
    """It breaks an answer off where it stands, unless the answer had ended before."""
    full, frames = play(exchange), exchange.reply["frames"]
    for at in range(len(frames)):
        before = play(replace(exchange, reply={"frames": frames[:at]}))
        for garbage in ("{", "[]", "null", "{}", '{"header":7}', "<html>", '{"header":{"code":[]}}', "\x00"):
            outcome = play(replace(exchange, reply={"frames": [*frames[:at], garbage, *frames[at:]]}))
            assert outcome.events == before.events
            if before.error is not None:  # else it had ended
                assert type(outcome.error) in {errors.BackendProtocolError, type(full.error)}


@each_answer_over_ws
def test_messages_after_the_end_are_ignored(exchange: Exchange) -> None:
    full, frames = play(exchange), exchange.reply["frames"]
    again = play(replace(exchange, reply={"frames": [*frames, *frames, "{"]}))
    assert full.error is not None or (again.events, again.error) == (full.events, None)


@each_exchange
def test_nothing_follows_the_end(exchange: Exchange) -> None:
    outcome = play(exchange)
    if outcome.error is None:
        assert [*outcome.translator.receive_eof()] == []


@each_exchange
def test_callers_never_read_what_the_vendor_said(exchange: Exchange) -> None:
    error = play(exchange).error
    if error is None:
        return
    assert isinstance(error, BackendError)
    assert error.backend == "test-backend"
    assert error.detail
    assert error.detail not in str(error)
    assert "\n" not in str(error)
    for secret in ("api_key", "api_secret"):
        assert exchange.options.get(secret, "sk-none") not in error.detail


@pytest.mark.parametrize("exchange", load("openai", "qianfan"), ids=lambda exchange: exchange.name)
def test_pictures_go_out_byte_for_byte(exchange: Exchange) -> None:
    """Told from the parsed body, so that a picture spliced into the JSON text is proven to be a JSON string."""
    call = exchange.asked(exchange.translator())
    parts = [part for message in chat_request(exchange.request).messages for part in message.parts]
    sent = call.body.count(b'"image_url":{')
    assert sent == sum(isinstance(part, ImagePart) for part in parts)


def test_the_suite_covers_the_kinds() -> None:
    count = {kind: sum(exchange.kind == kind for exchange in EXCHANGES) for kind in KINDS}
    assert count["baidu_ocr"] >= 8
    assert count["ccai"] >= 40
    assert count["chatocr"] >= 20
    assert count["openai"] >= 25
    assert count["qianfan"] >= 15
    assert count["spark"] >= 30
    assert all(exchange.source for exchange in EXCHANGES)
