"""Every fault a backend can have, as answers of the scripted upstream: over HTTP by name, over WebSocket in turn."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from tests.fakes import openai, spark
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.websocket import WsReply, close

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BEGUN = openai.stream("half of ").steps[:2]
_HTML = {"content-type": "text/html"}


def http_faults() -> Mapping[str, Reply]:
    """By name. Made anew each time: a gate is used once."""
    return {
        "400": openai.error(400),
        "401": openai.error(401),
        "404": openai.error(404),
        "429": openai.error(429),
        "500": openai.error(500),
        "502-html": Reply(502, _HTML, [b"<html><script>nginx</script></html>"], "length"),
        "503": openai.error(503),
        "504-empty": Reply(504, {}, [b""], "length"),
        "closed": Reply(200, {}, [Cut()], "raw"),
        "reset": Reply(200, {}, [Cut(reset=True)], "raw"),
        "reset-after-head": Reply(200, {}, [_HEAD, Cut(reset=True)], "raw"),
        "torn-chunk": Reply(200, {}, [_HEAD, b"ffff\r\ndata: {", Cut()], "raw"),
        "empty": Reply(200, {}, [b""], "length"),
        "html": Reply(200, _HTML, [b"<!doctype html><title>login</title>"], "length"),
        "half-json": Reply(200, openai.SSE, [*_BEGUN, b'data: {"choices":[{"del\n\n']),
        "not-utf8": Reply(200, openai.SSE, [*_BEGUN, b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n']),
        "broken-off": Reply(200, openai.SSE, [*_BEGUN, Cut()]),
        "reset-midway": Reply(200, openai.SSE, [*_BEGUN, Cut(reset=True)]),
        "no-finish": Reply(200, openai.SSE, _BEGUN),
        "error-midway": Reply(200, openai.SSE, [*_BEGUN, b'data: {"error":{"message":"x","code":"internal"}}\n\n']),
        "silent": Reply(200, openai.SSE, [Gate()]),
        "silent-midway": Reply(200, openai.SSE, [*_BEGUN, Gate()]),
        "pings-only": Reply(200, openai.SSE, [b": ping\n\n" * 20, Gate()]),
        "long-event": Reply(200, openai.SSE, [*_BEGUN, b"data: " + b"x" * 300_000 + b"\n\n"]),
        "redirect": Reply(302, {"location": "http://127.0.0.1:1/"}, [b""], "length"),
        "compressed": Reply(200, {"content-encoding": "gzip"}, [gzip.compress(b"0" * 1_000_000)], "length"),
    }


def ws_faults() -> Mapping[str, WsReply | Reply]:
    """Those of Spark."""
    half = spark.stream("half of ", "it", "all")[:1]
    return {
        "refused": spark.refusal(403, "HMAC signature cannot be verified"),
        "500": Reply(500, {}, [b"x"], "length"),
        "content": WsReply(spark.error(10013)),
        "busy": WsReply(spark.error(11202)),
        "closed": WsReply([close(1000)]),
        "fails-midway": WsReply([*half, close(1011)]),
        "broken-off": WsReply([*half, Cut()]),
        "reset": WsReply([*half, Cut(reset=True)]),
        "half-json": WsReply([*half, '{"header":']),
        "silent": WsReply([Gate()]),
        "silent-midway": WsReply([*half, Gate()]),
    }
