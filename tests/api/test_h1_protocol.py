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


@pytest.mark.parametrize("line", ["X: a", f"X: {'a' * 1000}"])
def test_long_head_is_refused_in_however_few_pieces_it_comes(served: Served, upstream: Upstream, line: str) -> None:
    lines = [line] * (80_000 // len(line))
    answer = said_to(served, head(served, f"Content-Length: {len(BODY)}", *lines) + BODY)
    assert answer[:12] in (b"HTTP/1.1 400", b"")  # nothing, where the connection ended while we still wrote
    assert upstream.requests == []


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


def chunked(body: bytes, *trailers: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n" % (len(body), body) + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def test_key_behind_the_body_opens_nothing(served: Served, upstream: Upstream) -> None:
    keyless = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    key = b"Authorization: Bearer " + served.key.encode()
    assert said_to(served, keyless + chunked(BODY, key)).startswith(b"HTTP/1.1 401 ")
    assert upstream.requests == []


@pytest.mark.parametrize("trailer", [b"Content-Encoding: gzip", b"Idempotency-Key: \xff", b"Host: y"])
def test_trailers_are_no_headers(served: Served, upstream: Upstream, trailer: bytes) -> None:
    upstream.answer(openai.answer("ok"))
    asked = head(served, "Connection: close", "Transfer-Encoding: chunked") + chunked(BODY, trailer)
    assert said_to(served, asked).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("hosts", [[], ["a", "b"], ["a", "a"], ["a b"], ["a/b"], ["a?b"], ["me@a"], ["a\\b"]])
def test_request_without_one_sound_host_is_refused(served: Served, upstream: Upstream, hosts: list[str]) -> None:
    lines = ["POST /v1/chat/completions HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    lines += [f"Authorization: Bearer {served.key}", f"Content-Length: {len(BODY)}", "", ""]
    answer = said_to(served, "\r\n".join(lines).encode() + BODY)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert "Host" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("version", "hosts"),
    [
        ("1.0", []),
        ("1.1", [""]),
        ("1.1", ["[::1]:8000"]),
        ("1.1", ["my_gateway:8000"]),
        ("1.1", ["xn--fiq228c.example"]),
        ("1.1", ["图问.example"]),
    ],
)
def test_hosts_of_every_kind_are_taken(served: Served, upstream: Upstream, version: str, hosts: list[str]) -> None:
    upstream.answer(openai.answer("ok"))
    lines = [f"POST /v1/chat/completions HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close"]
    lines += [f"Authorization: Bearer {served.key}", f"Content-Length: {len(BODY)}", "", ""]
    assert said_to(served, "\r\n".join(lines).encode() + BODY).startswith(b"HTTP/1.1 200 ")


def test_old_version_gets_no_interim_answer(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    asked = head(served, "Expect: 100-continue", f"Content-Length: {len(BODY)}").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert said_to(served, asked + BODY).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.2, h2c", "foo"])
def test_offers_of_other_protocols_are_ignored(served: Served, upstream: Upstream, offer: str) -> None:
    upstream.answer(openai.answer("ok"))
    asked = head(served, f"UPGRADE: {offer}", "Connection: Upgrade, close", f"Content-Length: {len(BODY)}")
    assert said_to(served, asked + BODY).startswith(b"HTTP/1.1 200 ")


def test_what_looks_like_an_offer_in_an_unread_body_is_left_alone(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    unread = b"a" * 50_000 + b"\r\nUpgrade: h2c\r\n\r\n" + b"a" * 50_000
    keyless = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(unread)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(keyless)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")  # it is answered before its body comes
        connection.sendall(unread[:50_000])
        connection.sendall(unread[50_000:])
        connection.sendall(head(served, "Connection: close", f"Content-Length: {len(BODY)}") + BODY)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200 ")
