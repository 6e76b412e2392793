"""HTTP that no client should send: answered or refused in words, at once, and never half understood."""

from __future__ import annotations

import json
import time

import pytest

from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.rawhttp import exchange
from tests.support.server import Served

BODY = '{"model":"m","messages":[{"role":"user","content":"x"}]}'
LENGTH = f"content-length: {len(BODY)}"
CHAT = "POST /v1/chat/completions HTTP/1.1"
CHUNKED = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
BAD: dict[str, tuple[str, list[str], str]] = {
    # what: request line, headers, body
    "no length, no body": (CHAT, [], ""),
    "length that is negative": (CHAT, ["content-length: -1"], BODY),
    "length that is no number": (CHAT, ["content-length: many"], BODY),
    "length with a sign": (CHAT, [f"content-length: +{len(BODY)}"], BODY),
    "two lengths": (CHAT, [LENGTH, "content-length: 5"], BODY),
    "length and chunks": (CHAT, [LENGTH, "transfer-encoding: chunked"], CHUNKED),
    "length beyond 64 bits": (CHAT, ["content-length: 99999999999999999999999"], BODY),
    "length over the bound": (CHAT, ["content-length: 99999999999"], ""),
    "unknown transfer encoding": (CHAT, ["transfer-encoding: gzip"], BODY),
    "chunked twice": (CHAT, ["transfer-encoding: chunked, identity"], CHUNKED),
    "chunk size that is none": (CHAT, ["transfer-encoding: chunked"], "zz\r\nx\r\n0\r\n\r\n"),
    "chunk longer than it says": (CHAT, ["transfer-encoding: chunked"], "1\r\nxyz\r\n0\r\n\r\n"),
    "header without colon": (CHAT, [LENGTH, "nonsense"], BODY),
    "folded header": (CHAT, [LENGTH, "x-a: b\r\n c"], BODY.replace("m", "nobody", 1)),
    "null in a header": (CHAT, [LENGTH, "x-a: \x00"], BODY),
    "space before the colon": (CHAT, ["content-length : 5"], BODY),
    "no version": ("POST /v1/chat/completions", [LENGTH], BODY),
    "version of the future": ("POST /v1/chat/completions HTTP/9.9", [LENGTH], BODY),
    "lower-case method": ("post /v1/chat/completions HTTP/1.1", [LENGTH], BODY),
    "another method": ("PUT /v1/chat/completions HTTP/1.1", [LENGTH], BODY),
    "made-up method": ("BREW /v1/chat/completions HTTP/1.1", [LENGTH], BODY),
    "TRACE": ("TRACE /v1/chat/completions HTTP/1.1", [], ""),
    "CONNECT": ("CONNECT 127.0.0.1:80 HTTP/1.1", [], ""),
    "a star": ("GET * HTTP/1.1", [], ""),
    "blank in the target": ("GET /v1/ models HTTP/1.1", [], ""),
    "escaped slash": ("POST /v1%2fchat%2fcompletions/x HTTP/1.1", [LENGTH], BODY),
    "broken escape": ("GET /v1/models/%zz HTTP/1.1", [], ""),
    "escape that is no UTF-8": ("GET /v1/models/%ff%fe HTTP/1.1", [], ""),
    "null in the path": ("GET /v1/models/%00 HTTP/1.1", [], ""),
    "line break in the path": ("GET /v1/models/a%0d%0ax HTTP/1.1", [], ""),
    "dots": ("GET /v1/models/../../etc/passwd HTTP/1.1", [], ""),
    "a very long path": (f"GET /v1/models/{'a' * 60_000} HTTP/1.1", [], ""),
    "a method that overrides": ("GET /v1/chat/completions HTTP/1.1", ["x-http-method-override: POST", LENGTH], BODY),
    "packed body": (CHAT, [LENGTH, "content-encoding: gzip"], BODY),
    "form": (CHAT, [LENGTH, "content-type: multipart/form-data; boundary=x"], BODY),
    "expectation that cannot be met": (CHAT, ["content-length: 99999999999", "expect: 100-continue"], ""),
}


@pytest.mark.parametrize("what", BAD)
def test_odd_requests_are_refused_at_once(served: Served, upstream: Upstream, what: str) -> None:
    line, headers, body = BAD[what]
    head = "\r\n".join([line, "host: x", f"authorization: Bearer {served.key}", "connection: close", *headers])
    begun_s = time.monotonic()
    status, answered, told = exchange(served.port, f"{head}\r\n\r\n{body}")
    assert time.monotonic() - begun_s < 5
    assert 400 <= status < 500, (status, told)
    assert set(json.loads(told)["error"]) == {"message", "type", "param", "code"}
    assert answered["content-type"] == "application/json"
    assert served.key.encode() not in told
    assert not upstream.requests


GOOD: dict[str, tuple[str, list[str], str]] = {
    "HTTP/1.0": ("POST /v1/chat/completions HTTP/1.0", [LENGTH], BODY),
    "absolute form": ("POST http://elsewhere.example/v1/chat/completions HTTP/1.1", [LENGTH], BODY),
    "escaped letters": ("POST /v1/ch%61t/completions HTTP/1.1", [LENGTH], BODY),
    "chunks": (CHAT, ["transfer-encoding: chunked"], CHUNKED),
    "chunks with extensions": (
        CHAT,
        ["Transfer-Encoding: Chunked"],
        f"{len(BODY):X};a=b\r\n{BODY}\r\n0\r\nx: y\r\n\r\n",
    ),
    "an expectation": (CHAT, [LENGTH, "expect: 100-continue"], BODY),
    "a query": ("POST /v1/chat/completions?api-version=2024 HTTP/1.1", [LENGTH], BODY),
    "another type": (CHAT, [LENGTH, "content-type: text/plain"], BODY),
    "the same length twice over": (CHAT, [LENGTH, "accept: */*", "accept: text/html"], BODY),
}


@pytest.mark.parametrize("what", GOOD)
def test_odd_but_sound_requests_are_answered(served: Served, upstream: Upstream, what: str) -> None:
    upstream.answer(openai.answer("ok"))
    line, headers, body = GOOD[what]
    head = "\r\n".join([line, "host: x", f"authorization: Bearer {served.key}", "connection: close", *headers])
    status, _, told = exchange(served.port, f"{head}\r\n\r\n{body}")
    assert status in {100, 200}, told
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("first", [True, False])
def test_of_two_authorizations_the_first_counts(served: Served, upstream: Upstream, first: bool) -> None:
    upstream.answer(openai.answer("ok"))
    both = [f"authorization: Bearer {served.key}", "authorization: Bearer sk-tw-other"]
    head = "\r\n".join([CHAT, "host: x", "connection: close", LENGTH, *(both if first else both[::-1])])
    status, _, _ = exchange(served.port, f"{head}\r\n\r\n{BODY}")
    assert status == (200 if first else 401)
