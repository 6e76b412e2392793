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


def asked(served: Served) -> socket.socket:
    """A connection on which a stream was asked for."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", served.port))
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    lines = f"Host: x\r\nAuthorization: Bearer {served.key}\r\nContent-Length: {len(body)}"
    connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body)
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
