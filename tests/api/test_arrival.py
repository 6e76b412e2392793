"""Callers who send too slowly, on real sockets. What pauses here is the caller itself; nothing waits for a moment."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterable, Iterator

import pytest

from app.api.arrival import LEAST_BYTES_PER_S
from tests.api.conftest import MODELS, UPSTREAM_KEY
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

ARRIVAL_S = 0.8
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
LONG = BODY[:-1] + b',"skipped":"' + b"x" * 200_000 + b'"}'


@pytest.fixture(scope="module")
def _strict(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = MODELS.format(url=_upstream.url, key=UPSTREAM_KEY)
    with serving(tmp_path_factory.mktemp("strict"), models, arrival_s=ARRIVAL_S, heartbeat_s=60) as site:
        yield site


@pytest.fixture
def strict(_strict: Served, upstream: Upstream) -> Served:
    """A gateway that gives callers little time."""
    return _strict


def head(served: Served, *lines: str) -> bytes:
    first = "POST /v1/chat/completions HTTP/1.1"
    return "\r\n".join((first, "Host: x", f"Authorization: Bearer {served.key}", *lines, "", "")).encode()


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=10)


def paced(connection: socket.socket, pieces: Iterable[bytes], pause_s: float = 0.05) -> None:
    """Sends pieces with pauses between, until the gateway says something or closes."""
    try:
        for piece in pieces:
            connection.sendall(piece)
            if select.select([connection], [], [], pause_s)[0]:
                return
    except ConnectionError:
        pass  # it was closed while we still wrote


def heard(connection: socket.socket) -> bytes:
    """All that the gateway says until it closes."""
    said = b""
    try:
        while data := connection.recv(65536):
            said += data
    except ConnectionError:
        pass
    return said


def one_by_one(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def one_answer(connection: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"}"):
        said += connection.recv(65536)
    return said


def assert_too_slow(said: bytes) -> None:
    header, _, body = said.partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 408 "), said
    assert b"connection: close" in header
    assert json.loads(body)["error"]["code"] == "request_timeout"


def test_silent_connection_is_closed_without_a_word(strict: Served) -> None:
    with connected(strict) as connection:
        assert heard(connection) == b""


@pytest.mark.parametrize("language", ["", "zh"])
def test_slow_head_gets_408(strict: Served, upstream: Upstream, language: str) -> None:
    begun = head(strict)[:-2] + f"Accept-Language: {language}\r\nX: ".encode()
    with connected(strict) as connection:
        paced(connection, [begun, *one_by_one(b"a" * 1000)])
        said = heard(connection)
    assert_too_slow(said)
    assert ("请求" in said.decode()) == (language == "zh")
    assert upstream.requests == []


@pytest.mark.parametrize("framing", ["Content-Length: 200000", "Transfer-Encoding: chunked"])
def test_slow_body_gets_408_and_costs_nothing(strict: Served, upstream: Upstream, framing: str) -> None:
    before = len(strict.rows())
    trickle = one_by_one(LONG) if "Length" in framing else (b"1\r\n" + byte + b"\r\n" for byte in one_by_one(LONG))
    with connected(strict) as connection:
        paced(connection, [head(strict, framing), *trickle])
        assert_too_slow(heard(connection))
    assert upstream.requests == []
    assert len(strict.rows()) == before


def test_body_that_stops_half_way_gets_408(strict: Served, upstream: Upstream) -> None:
    with connected(strict) as connection:
        connection.sendall(head(strict, f"Content-Length: {len(LONG)}") + LONG[:100_000])
        assert_too_slow(heard(connection))
    assert upstream.requests == []


def test_slow_but_honest_upload_passes(strict: Served, upstream: Upstream) -> None:
    """Twice as long as a head may take, at several times the least rate."""
    upstream.answer(openai.answer("ok"))
    piece, pause_s = round(LEAST_BYTES_PER_S * ARRIVAL_S * 2), ARRIVAL_S / 8
    pieces = [LONG[at : at + piece] for at in range(0, len(LONG), piece)]
    assert len(pieces) * pause_s > ARRIVAL_S
    with connected(strict) as connection:
        connection.sendall(head(strict, f"Content-Length: {len(LONG)}"))
        paced(connection, pieces, pause_s)
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_kept_connection_may_rest_longer_than_a_head_may_take(strict: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    with connected(strict) as connection:
        for _ in range(2):
            connection.sendall(head(strict, f"Content-Length: {len(BODY)}") + BODY)
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
            assert not select.select([connection], [], [], 1.5 * ARRIVAL_S)[0], "closed while it rested"


def test_line_ends_do_not_keep_a_connection(strict: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    with connected(strict) as connection:
        connection.sendall(head(strict, f"Content-Length: {len(BODY)}") + BODY)
        one_answer(connection)
        paced(connection, [b"\r\n"] * 1000)
        assert heard(connection) == b""


def test_slow_answer_is_not_the_callers_slowness(strict: Served, upstream: Upstream) -> None:
    """A second request begun while the first is answered has all its time once that answer is there."""
    gate = Gate()
    upstream.answer(openai.stream("long", gate, "awaited"), openai.answer("ok"))
    first = BODY[:-1] + b',"stream":true}'
    second = head(strict, f"Content-Length: {len(BODY)}") + BODY
    said = b""
    with connected(strict) as connection:
        connection.sendall(head(strict, f"Content-Length: {len(first)}") + first + second[:40])
        while b"long" not in said:
            said += connection.recv(65536)
        assert not select.select([connection], [], [], 2 * ARRIVAL_S)[0], "nothing is to be said meanwhile"
        gate.open()
        while b"[DONE]" not in said:
            said += connection.recv(65536)
        connection.sendall(second[40:])
        assert b"HTTP/1.1 200 " in one_answer(connection)


def test_refused_body_that_never_ends_is_closed_too(strict: Served) -> None:
    with connected(strict) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        for _ in range(1000):
            try:
                connection.sendall(b"x")
            except ConnectionError:
                return
            if select.select([connection], [], [], 0.05)[0] and not connection.recv(65536):
                return
    raise AssertionError("still taken")
