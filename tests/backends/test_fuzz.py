"""Recorded answers, damaged in every way: a translator gives the event grammar or one `BackendError`, nothing else.

FUZZ_EXAMPLES sets how many damages each kind is tried with.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.backends.base import Translator
from app.backends.ocr import OcrOptions, OcrTranslator
from app.core.errors import BackendError, GatewayError
from app.core.events import Event, Failure, Finish, OcrRegions, TextDelta, UsageReport, collect
from app.core.types import Frame
from app.transports.framing import EventTooLarge, SseDecoder
from tests.backends.exchanges import CONTEXT, Exchange, chat_request, load
from tests.support.damage import places, put

KINDS = ("baidu_ocr", "ccai", "chatocr", "openai", "qianfan", "spark")
EXCHANGES = {kind: load(kind) for kind in KINDS}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
MARK = "https://vendor.example/said?key=leaked-mark"
LONGEST_S = 2.0

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

numbers = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**30, 1e308, -1e308, 5e-324, 0.5, -0.0])
words = st.sampled_from(["", MARK, "\x00", "\ud800", "0", "null", "é" * 300, "stop", "data: x\n\n", "x" * 5000])
anything = st.recursive(
    st.none() | st.booleans() | numbers | words | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | words, inner, max_size=3),
    max_leaves=6,
)
RAW = {"NaN": b"NaN", "Infinity": b"-Infinity", "1e999": b"1e999", "deep": b"[" * 5000, "deep object": b'{"a":' * 5000,
       "digits": b"9" * 5000, "twice": b'{"code":1,"code":{}}', "not UTF-8": b'"\xff\xfe"', "cut": b'{"a"'}  # fmt: skip
_HOLE = "hole-for-raw-json"


@st.composite
def damaged(draw: st.DrawFn, payload: bytes) -> bytes:
    """A payload with something in it changed: a value of its JSON, or bytes."""
    try:
        value = json.loads(payload)
    except ValueError:
        value = None
    if value is None or draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(payload)))
        until = draw(st.sampled_from([at, at + 1, at + 7, len(payload)]))
        return payload[:at] + draw(st.binary(max_size=4) | st.sampled_from(list(RAW.values()))) + payload[until:]
    path = draw(st.sampled_from(places(value)))
    if draw(st.booleans()):
        return json.dumps(put(value, path, draw(anything))).encode()
    whole = json.dumps(put(value, path, _HOLE), ensure_ascii=False).encode()
    return whole.replace(f'"{_HOLE}"'.encode(), draw(st.sampled_from(list(RAW.values()))))


def frames_of(exchange: Exchange) -> list[bytes]:
    if "frames" in exchange.reply:
        return [frame.data for frame in exchange.frames]
    if not exchange.streamed:
        return [exchange.wire]
    decoder = SseDecoder(max_event_bytes=2**20)
    return [frame.data for frame in [*decoder.feed(exchange.wire), *decoder.end()]]


@st.composite
def conversations(draw: st.DrawFn, kind: str) -> tuple[Exchange, list[Frame]]:
    """An exchange, and what its backend sends this time: frames damaged, left out, doubled, of others."""
    exchange = draw(st.sampled_from([each for each in EXCHANGES[kind] if each.status < 400]))
    frames = frames_of(exchange)
    other = frames_of(draw(st.sampled_from([each for each in EXCHANGES[kind] if each.status < 400])))
    sent: list[bytes] = []
    for frame in frames[:12]:
        match draw(st.sampled_from(["as it is", "as it is", "damaged", "left out", "twice", "another's"])):
            case "as it is":
                sent.append(frame)
            case "damaged":
                sent.append(draw(damaged(frame)))
            case "twice":
                sent += [frame, frame]
            case "another's":
                sent.append(draw(st.sampled_from(other)) if other else b"")
    events = st.sampled_from(["", "error", "result", "message", MARK])
    return exchange, [Frame(data, draw(events) if draw(st.integers(0, 5)) == 0 else "") for data in sent]


def read(made: Translator, frames: Iterable[Frame]) -> tuple[list[Event], BackendError | None]:
    events: list[Event] = []
    begun_s = time.monotonic()
    error = None
    try:
        for frame in frames:
            for event in made.receive(frame):
                events.append(event)  # noqa: PERF402 - those before a fault count
        events.extend(made.receive_eof())
    except BackendError as raised:
        error = raised
    assert time.monotonic() - begun_s < LONGEST_S
    return events, error


def check(events: list[Event], error: BackendError | None) -> None:
    """The grammar, numbers that make sense, and of an error the words."""
    terminals = [at for at, event in enumerate(events) if isinstance(event, Finish | Failure)]
    assert len(terminals) + (error is not None) == 1
    assert not terminals or terminals == [len(events) - 1]
    if error is None:
        collect(events)
    else:
        check_words(error)
    for event in events:
        match event:
            case UsageReport():
                counts = (event.input_tokens, event.output_tokens, event.cached_tokens, event.reasoning_tokens)
                assert all(type(count) is int and 0 <= count < 2**53 for count in counts), event
                assert event.cached_tokens <= event.input_tokens
            case OcrRegions(_, regions):
                for region in regions:
                    numbers_ = [number for corner in region.polygon_px for number in corner]
                    assert all(math.isfinite(number) for number in [*numbers_, region.confidence])
            case TextDelta(text):
                text.encode()  # no half of a surrogate pair: it could not be sent on


def check_words(error: GatewayError) -> None:
    """What callers are told is ours."""
    for said in (str(error), error.said_in("zh")):
        assert MARK not in said
        assert "leaked-mark" not in said
        assert "://" not in said
        assert said.isprintable()
        assert said
    if isinstance(error, BackendError):
        assert len(error.detail) <= 600
        assert error.backend == "test-backend"
        wait_s = getattr(error, "retry_after_s", None)
        assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_answers_end_in_one_terminal_or_one_error(kind: str) -> None:
    @fuzzed
    @given(conversations(kind))
    def run(conversation: tuple[Exchange, list[Frame]]) -> None:
        exchange, frames = conversation
        made = exchange.translator()
        exchange.called(made)
        check(*read(made, frames))
        assert made.backend_request_id is None or isinstance(made.backend_request_id, str)

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_streams_cut_anywhere_are_framed(kind: str) -> None:
    """The framing in front of it sees every byte first, in whatever pieces they come."""
    streams = [each for each in EXCHANGES[kind] if each.streamed and each.status < 400]
    if not streams:
        streams = [each for each in EXCHANGES["openai"] if each.streamed]

    @fuzzed
    @given(st.sampled_from(streams), st.data())
    def run(exchange: Exchange, data: st.DataObject) -> None:
        wire = data.draw(damaged(exchange.wire))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
        pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
        made = exchange.translator()
        exchange.called(made)
        decoder = SseDecoder(max_event_bytes=2**20)
        try:
            frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
        except EventTooLarge:
            return
        check(*read(made, frames))

    run()


refused_headers = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "x-acs-retry-after", "x-bce-error-code", "x-bce-error-message", "date",
         "content-type", "x-ratelimit-remaining-requests", "x-ratelimit-remaining-input-tokens"]
    ),
    words | st.text(max_size=5) | st.sampled_from(["-1", "nan", "inf", "1e999", "9" * 400, "0", "٣", "AccessDenied"]),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_any_refusal_is_a_backend_error(kind: str) -> None:
    bodies = [each.wire for each in EXCHANGES[kind] if "frames" not in each.reply] or [b'{"message": "no"}']

    @fuzzed
    @given(st.integers(100, 999), refused_headers, st.sampled_from(bodies), st.data())
    def run(status: int, headers: dict[str, str], body: bytes, data: st.DataObject) -> None:
        sent = data.draw(st.just(body) | damaged(body) | st.binary(max_size=30) | anything.map(as_json))
        made = EXCHANGES[kind][0].translator()
        EXCHANGES[kind][0].called(made)
        begun_s = time.monotonic()
        error = made.refused(status, headers, sent)
        assert time.monotonic() - begun_s < LONGEST_S
        assert isinstance(error, BackendError)
        check_words(error)

    run()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


ocr_records = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "image": st.integers(-1, 3) | anything,
            "row": st.integers(-1, 3) | anything,
            "text": words | anything,
            "polygon": st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=5) | anything,
            "confidence": st.floats(0, 1) | anything,
            "done": st.booleans() | anything,
            "error": words | anything,
        },
    ).map(as_json)
    | st.binary(max_size=20)
    | st.sampled_from(list(RAW.values())),
    max_size=6,
)


@fuzzed
@given(ocr_records)
def test_records_of_the_engine_end_in_one_terminal_or_one_error(records: list[bytes]) -> None:
    made = OcrTranslator("test-backend", OcrOptions(), "rapidocr")
    asked = chat_request(
        {
            "model": "m",
            "messages": [{"role": "user", "content": [{"picture": "eA=="}]}],
            "extra": {"ocr": {"regions": True}},
        }
    )
    made.call(asked, CONTEXT)
    check(*read(made, [Frame(record) for record in records]))
