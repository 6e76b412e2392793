"""Callers leave at random moments: the backend is left at once, and what it had said by then is what is charged."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.money.conftest import INPUT_MICROS, OUTPUT_MICROS, Shown, models_of
from tests.support.fleet import Fleet, Key, fleet
from tests.support.metered import Metered
from tests.support.records import BookedRequest

CALLERS, AT_ONCE = 50, 10
LONGEST_MS = 500
_READ_S = 20
_BOOKED_S = 10
# half a second of silence, then a word every 30 ms: longer than one is on its way on a busy machine
_MODEL = "m-500-30-400"


@dataclass(frozen=True, slots=True)
class Leaver:
    """One caller.

    Args:
        words: how many to read before leaving; 0: leaves before the first.
        reset: leaves by RST instead of FIN.
    """

    number: int
    stream: bool
    words: int
    reset: bool

    @property
    def model(self) -> str:
        return f"{_MODEL}-x{self.number}"


@pytest.fixture
def gateway(tmp_path: Path, upstream: Metered) -> Iterator[Fleet]:
    with fleet(tmp_path, models_of(upstream)) as running:
        yield running


def _leavers() -> list[Leaver]:
    """Before the first word and after it; of streams and of whole answers, which have no first word before the end."""
    dice = random.Random(20261128)
    return [
        Leaver(number, number % 5 != 4, dice.randint(1, 25) if number % 5 < 3 else 0, number % 3 == 0)
        for number in range(CALLERS)
    ]


def _leave(leaver: Leaver, gateway: Fleet, key: Key) -> float:
    """Asks, reads, leaves; when, as Unix time in seconds."""
    question = {"role": "user", "content": "What is on this picture?"}
    body = json.dumps({"model": leaver.model, "stream": leaver.stream, "messages": [question]}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.nodes[0].port), timeout=_READ_S) as connection:
        connection.sendall(head.encode() + body)
        if leaver.words:
            _read_words(connection, leaver.words)
        else:
            time.sleep(random.Random(leaver.number).uniform(0.2, 0.4))  # the backend was asked, and is silent
        if leaver.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return time.time()


def _read_words(connection: socket.socket, words: int) -> None:
    received = b""
    while received.count(b'"content":"') < words:
        data = connection.recv(65536)
        assert data, "the gateway ended the answer"
        received += data


def _booked(gateway: Fleet) -> dict[str, BookedRequest]:
    """The closed rows by model, once there is one for each caller."""
    deadline = time.monotonic() + _BOOKED_S
    while True:
        rows = [row for row in gateway.records.requests() if not row.is_open]
        if len(rows) >= CALLERS:
            assert len(rows) == CALLERS
            return {row.model: row for row in rows}
        assert time.monotonic() < deadline, f"{len(rows)} rows of {CALLERS} are booked"
        time.sleep(0.1)


@pytest.mark.alone
def test_what_was_sent_until_the_caller_left_is_charged(gateway: Fleet, upstream: Metered, shown: Shown) -> None:
    key = gateway.new_key("leaver", "--budget", "90000.00")
    leavers = _leavers()
    with ThreadPoolExecutor(AT_ONCE) as callers:
        left_at = dict(zip(leavers, callers.map(lambda leaver: _leave(leaver, gateway, key), leavers), strict=True))
    seen = {each.model: each for each in upstream.ended()}
    rows = _booked(gateway)
    assert len(seen) == CALLERS
    assert not any(each.finished for each in seen.values())
    noticed_ms = sorted(1000 * ((seen[leaver.model].ended_at or 0) - at) for leaver, at in left_at.items())
    off = [abs(rows[model].output_tokens - each.events_sent) for model, each in seen.items()]
    sources = {rows[model].usage_source for model, each in seen.items() if each.events_sent > 1}
    assert noticed_ms[-1] <= LONGEST_MS
    assert max(off) <= 1
    assert sources == {"counted"}
    for model, row in rows.items():
        assert (row.outcome, row.state, row.input_tokens) == ("gone", "settled", seen[model].prompt_tokens)
        assert row.cost_micros == INPUT_MICROS * row.input_tokens + OUTPUT_MICROS * row.output_tokens
    assert gateway.records.unbalanced() == {}
    shown(
        "callers who left",
        callers=CALLERS,
        rows=len(rows),
        ms_until_the_backend_was_left_at_the_median=round(noticed_ms[CALLERS // 2]),
        ms_at_most=round(noticed_ms[-1]),
        words_charged_wrongly_at_most=max(off),
        charged_exactly=off.count(0),
    )
