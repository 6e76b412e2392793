"""What a connection bears before there is a request: bytes on a socket, whole or torn."""

from __future__ import annotations

import json
import socket

import pytest

from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.server import Served

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def said_to(served: Served, *pieces: bytes) -> bytes:
    """What the gateway answers to these writes, until it ends the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:
            pass  # it was ended while we still wrote
    return answer


def head(served: Served, *lines: str) -> bytes:
    return "\r\n".join(
        ("POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {served.key}", *lines, "", "")
    ).encode()


@pytest.mark.parametrize("piece", [b"a" * 50_000, b"X: a\r\n" * 10_000])
def test_endless_head_is_cut_off(served: Served, piece: bytes) -> None:
    assert said_to(served, b"GET / HTTP/1.1\r\nX: ", *[piece] * 100)[:12] in (b"HTTP/1.1 400", b"")


def test_endless_trailers_are_cut_off(served: Served, upstream: Upstream) -> None:
    body = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    said_to(served, head(served, "Transfer-Encoding: chunked"), body, *[b"X: a\r\n" * 10_000] * 100)
    assert upstream.requests == []


def test_long_head_and_long_body_pass(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    body = BODY[:-1] + b',"skipped":"' + b"x" * 1_000_000 + b'"}'
    first = head(served, f"X-Long: {'a' * 30_000}", f"Content-Length: {len(body)}") + body
    last = head(served, f"X-Long: {'a' * 30_000}", "Connection: close", f"Content-Length: {len(BODY)}") + BODY
    answers = said_to(served, first[:20_000], first[20_000:] + last[:20_000], last[20_000:])
    assert answers.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"POST /v1/models HTTP/9.9\r\n\r\n", b"hello\r\n\r\n"]
)
def test_what_is_no_request_gets_an_error_object_too(served: Served, nonsense: bytes) -> None:
    header, _, body = said_to(served, nonsense).partition(b"\r\n\r\n")
    assert header.startswith(b"HTTP/1.1 400 ")
    assert b"access-control-allow-origin: *" in header
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
