"""Callers who do not read what they asked for, on real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import MODELS, UPSTREAM_KEY
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

DELTA = "word " * 2000
DELTAS = 400  # 4 MB, more than socket buffers take where the caller asked for small ones
STALL_S = 0.5


@pytest.fixture
def impatient(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    """A gateway that drops callers soon."""
    models = MODELS.format(url=upstream.url, key=UPSTREAM_KEY)
    with serving(tmp_path, models, stall_s=STALL_S) as site:
        yield site


@pytest.fixture
def patient(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    """A gateway that drops nobody within a test."""
    with serving(tmp_path, MODELS.format(url=upstream.url, key=UPSTREAM_KEY), heartbeat_s=60) as site:
        yield site


def asked(served: Served, *, times: int = 1) -> socket.socket:
    """A connection on which a stream was asked for, or several at once."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", served.port))
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    lines = f"Host: x\r\nAuthorization: Bearer {served.key}\r\nContent-Length: {len(body)}"
    connection.sendall((f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body) * times)
    return connection


def test_caller_who_reads_nothing_is_dropped(impatient: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream(*[DELTA] * DELTAS, Gate()))
    with asked(impatient):
        [request] = upstream.wait_for_requests(1)
        request.wait_closed(10)
        [row] = impatient.rows()
        booked = impatient.row(row.request_id)
    assert booked.outcome == "gone"
    assert booked.output_tokens


def test_caller_who_reads_slowly_is_kept(impatient: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream(*[DELTA] * DELTAS))
    said = 0
    with asked(impatient) as connection:
        while data := connection.recv(16384):
            said += len(data)
            if b"[DONE]" in data:
                break
    assert said > DELTAS * len(DELTA)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_caller_who_asks_ahead_and_leaves_is_left_at_once(patient: Served, upstream: Upstream, times: int) -> None:
    gate = Gate()
    upstream.answer(openai.stream("word", gate))
    with asked(patient, times=times):
        gate.wait_reached()
    [request] = upstream.wait_for_requests(1)
    request.wait_closed(2)
    [row] = patient.rows()
    assert patient.row(row.request_id).outcome == "gone"


def test_answers_to_requests_sent_ahead_come_one_after_the_other(patient: Served, upstream: Upstream) -> None:
    words = [f"answer {number}" for number in range(9)]
    upstream.answer(*(openai.stream(word) for word in words))
    said = b""
    with asked(patient, times=len(words)) as connection:
        while said.count(b"[DONE]") < len(words):
            said += connection.recv(16384)
    assert [said.count(word.encode()) for word in words] == [1] * len(words)
    assert sorted(words, key=lambda word: said.index(word.encode())) == words


@pytest.mark.parametrize("begun", [True, False], ids=["after its first word", "before it"])
def test_rubbish_behind_a_request_ends_its_answer_and_stands_in_none(
    patient: Served, upstream: Upstream, begun: bool
) -> None:
    gate = Gate()
    upstream.answer(openai.stream("word", gate) if begun else openai.stream(gate))
    said = b""
    with asked(patient) as connection:
        gate.wait_reached()
        while begun and b"word" not in said:
            said += connection.recv(16384)
        connection.sendall(b"\x00rubbish\r\n\r\n")
        while data := connection.recv(16384):
            said += data
    assert (b"word" in said) is begun
    assert b" 400 " not in said
    assert b"[DONE]" not in said
    [request] = upstream.wait_for_requests(1)
    request.wait_closed(2)
