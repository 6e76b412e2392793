"""A gateway that is told to stop: what load balancers, callers and the ledger see of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import MODELS
from tests.e2e.test_serve import HI, client_of, picture_question
from tests.e2e.test_workers import wait_until
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.gateway import RunningGateway, running_gateway, wait_until_closed
from tests.support.records import BookedRequest, Records
from tests.support.server import events_of
from tests.support.services import redis, redis_url

__all__ = ["redis", "redis_url"]

STREAMED = {**HI, "stream": True}
NARROW = """
[backends.narrow]
kind = "openai"
base_url = "{url}/v1"
api_key = "env::FAKE_API_KEY"
limits = {{ concurrency = 1 }}

[models.narrow]
routes = [{{ backend = "narrow", model = "remote" }}]
"""
_ENDED_S = 10
"""Longer than the last words and the last commit take, shorter than any clock that is not meant."""
_NEVER_S = "600"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(api_key="sk-fake").in_thread() as running:
        yield running


@contextmanager
def serving(folder: Path, upstream: Upstream, environment: Mapping[str, str]) -> Iterator[RunningGateway]:
    """A gateway of the test's own, in front of the upstream."""
    models = folder / "models.toml"
    models.write_text((MODELS + NARROW).format(url=upstream.url))
    told = {"TUWEN_MODELS_FILE": str(models), "FAKE_API_KEY": "sk-fake", "TUWEN_OCR_THREADS": "2", **environment}
    with running_gateway(folder / "data", told) as gateway:
        yield gateway


class Answer:
    """A stream under way, read as far as a word."""

    def __init__(self, client: httpx2.Client, word: str, path: str = "/v1/chat/completions", **fields: Any) -> None:
        self._client = client
        request = client.build_request("POST", path, json={**STREAMED, **fields})
        self.response = client.send(request, stream=True)
        self._pieces = self.response.iter_text()
        self.text = ""
        while word not in self.text:
            self.text += next(self._pieces)

    def rest(self) -> str:
        """All of it, once it has ended."""
        self.text += "".join(self._pieces)
        self.response.close()
        return self.text


def assert_stopped(answer: str) -> None:
    """The stream ended with the one error that says why, and as no whole answer does."""
    *events, last = map(json.loads, events_of(answer))
    assert last["error"]["code"] == "gateway_stopping"
    assert last["error"]["type"] == "server_error"
    assert "[DONE]" not in answer
    assert all(event["choices"][0]["finish_reason"] is None for event in events)


def rows_of(gateway: RunningGateway) -> list[BookedRequest]:
    """All requests; of a gateway that has ended, none of them open and no balance off."""
    records = Records(gateway.data_dir / "tuwen.db")
    assert records.open_requests() == []
    assert records.unbalanced() == {}
    return records.requests()


def ended(gateway: RunningGateway, within_s: float = _ENDED_S) -> int:
    return gateway.process.wait(timeout=within_s)


def test_stream_that_takes_too_long_ends_in_words_and_is_paid_as_far_as_it_got(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.answer(openai.stream("first", Gate(), "second"))
    with (
        serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": "0.2", "TUWEN_DRAIN_S": "0.5"}) as gateway,
        client_of(gateway) as client,
    ):
        answer = Answer(client, "first")
        os.kill(gateway.pid, signal.SIGTERM)
        assert_stopped(answer.rest())
        assert "first" in answer.text
        gateway.wait_for_line("answers were ended before they were whole.* answers=1")
        assert ended(gateway) == 0
        assert "Traceback" not in "".join(gateway.output)
        (row,) = rows_of(gateway)
    assert (row.state, row.outcome, row.error_code) == ("settled", "failed", "gateway_stopping")
    assert (row.output_tokens, row.cost_micros) == (1, 4 * row.input_tokens + 12)


def test_whole_answer_that_takes_too_long_is_503_and_free(tmp_path: Path, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream(gate, "never"))
    with (
        serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": "0.2", "TUWEN_DRAIN_S": "0.5"}) as gateway,
        client_of(gateway) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        asked = caller.submit(client.post, "/v1/chat/completions", json=HI, headers={"accept-language": "zh"})
        gate.wait_reached()
        os.kill(gateway.pid, signal.SIGTERM)
        answer = asked.result()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["connection"] == "close"
        assert "x-should-retry" not in answer.headers
        assert answer.json()["error"]["code"] == "gateway_stopping"
        assert "网关正在重启" in answer.json()["error"]["message"]
        assert ended(gateway) == 0
        (row,) = rows_of(gateway)
    assert (row.state, row.outcome, row.cost_micros) == ("released", "failed", 0)


def test_load_balancers_see_red_while_whoever_still_asks_is_answered(tmp_path: Path, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "second"), openai.answer("kept"), openai.answer("new"))
    kept, later = (None, None)
    with (
        serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": _NEVER_S, "TUWEN_DRAIN_S": _NEVER_S}) as gateway,
        client_of(gateway) as client,
    ):
        kept, later = (http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10) for _ in range(2))
        for connection in (kept, later):
            assert probe(connection, "/readyz") == (200, {"status": "ready"}, None)
        answer = Answer(client, "first")
        os.kill(gateway.pid, signal.SIGTERM)
        wait_until(lambda: probe(new_connection(gateway), "/readyz")[0] == 503)
        assert probe(new_connection(gateway), "/readyz") == (503, {"status": "draining"}, "close")
        assert probe(new_connection(gateway), "/healthz") == (200, {"status": "ok"}, "close")
        header = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
        for connection, said in ((kept, "kept"), (new_connection(gateway), "new")):
            connection.request("POST", "/v1/chat/completions", json.dumps(HI), header)
            response = connection.getresponse()
            assert response.headers["connection"] == "close"
            assert json.loads(response.read())["choices"][0]["message"]["content"] == said
        gate.open()
        assert "[DONE]" in answer.rest()
        later.close()  # no connection is left, so nobody has to notice anything any more
        client.close()
        assert ended(gateway) == 0
        assert {row.outcome for row in rows_of(gateway)} == {"finished"}


def new_connection(gateway: RunningGateway) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)


def probe(connection: http.client.HTTPConnection, path: str) -> tuple[int, object, str | None]:
    """Status, body, and whether the connection is kept."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.headers["connection"]


def test_idle_connection_is_answered_for_the_notice_and_closed_after_it(tmp_path: Path, upstream: Upstream) -> None:
    with serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": "1", "TUWEN_DRAIN_S": _NEVER_S}) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            said = b""
            while not said.endswith(b"}"):
                said += idle.recv(4096)
            told_s = time.monotonic()
            os.kill(gateway.pid, signal.SIGTERM)
            assert idle.recv(4096) == b""
            assert time.monotonic() - told_s >= 1
        assert ended(gateway) == 0


def test_ctrl_c_waits_for_nobody_to_notice(tmp_path: Path, upstream: Upstream) -> None:
    with serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": _NEVER_S, "TUWEN_DRAIN_S": _NEVER_S}) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as idle:
            os.kill(gateway.pid, signal.SIGINT)
            assert idle.recv(1) == b""
        assert ended(gateway) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_stops_at_once_and_in_words(tmp_path: Path, upstream: Upstream, second: signal.Signals) -> None:
    upstream.answer(openai.stream("first", Gate()))
    with (
        serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": "0", "TUWEN_DRAIN_S": _NEVER_S}) as gateway,
        client_of(gateway) as client,
    ):
        answer = Answer(client, "first")
        os.kill(gateway.pid, signal.SIGTERM)
        wait_until_closed(gateway.port)
        os.kill(gateway.pid, second)
        assert_stopped(answer.rest())
        assert ended(gateway) == 0
        (row,) = rows_of(gateway)
    assert (row.state, row.output_tokens) == ("settled", 1)


def test_whatever_a_request_waits_for_it_is_told(tmp_path: Path, upstream: Upstream) -> None:
    """Its turn at a backend, a picture, the OCR, the rest of its own body; and in Baidu's form, where it was asked so.

    Over five seconds on a busy machine: the OCR engine is loaded while the gateway ends.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as silent_host,
        serving(
            tmp_path,
            upstream,
            {
                "TUWEN_DRAIN_NOTICE_S": _NEVER_S,
                "TUWEN_DRAIN_S": _NEVER_S,
                "TUWEN_FETCH_ALLOW": f"127.0.0.1/32:{silent_host.getsockname()[1]}",
                "TUWEN_FETCH_TIMEOUT_S": _NEVER_S,
                "TUWEN_QUEUE_S": _NEVER_S,
            },
        ) as gateway,
        client_of(gateway) as client,
        ThreadPoolExecutor(8) as callers,
    ):
        upstream.answer(openai.stream("first", Gate()))
        first = Answer(client, "first", model="narrow")
        address = f"http://127.0.0.1:{silent_host.getsockname()[1]}/a.jpg"
        picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}
        asked = [
            callers.submit(client.post, "/v1/chat/completions", json={**HI, "model": "narrow"}),
            callers.submit(client.post, "/v1/chat/completions", json={**HI, "messages": [picture]}),
            callers.submit(client.post, "/v1/chat/completions", content=picture_question("page.jpg")),
        ]
        plugin = callers.submit(
            client.post,
            "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/openai-vision",
            json={"query": "hi", "fileurl": address},
        )
        with silent_host.accept()[0], silent_host.accept()[0], half_a_request(gateway) as uploading:
            wait_until(lambda: len(Records(gateway.data_dir / "tuwen.db").open_requests()) >= 3)
            os.kill(gateway.pid, signal.SIGTERM)
            os.kill(gateway.pid, signal.SIGINT)  # of two that are alike, the system may deliver one
            assert b"503 Service Unavailable" in uploading.recv(65536)
        assert_stopped(first.rest())
        for answer in map(Future.result, asked):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_stopping")
        assert plugin.result().json()["error_code"] == 336100
        assert ended(gateway, 2 * _ENDED_S) == 0
        rows = rows_of(gateway)
    assert "Traceback" not in "".join(gateway.output)
    assert {row.error_code for row in rows} == {"gateway_stopping"}
    assert [row.model for row in rows if row.cost_micros or row.state == "settled"] == ["narrow"]


@contextmanager
def half_a_request(gateway: RunningGateway) -> Iterator[socket.socket]:
    """A caller who has sent the half of what he announced."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
        yield connection


def test_caller_who_does_not_read_does_not_keep_the_gateway(tmp_path: Path, upstream: Upstream) -> None:
    """Five seconds are what last words may take."""
    upstream.answer(openai.stream("first", *(["word " * 20_000] * 200), Gate()))
    with serving(tmp_path, upstream, {"TUWEN_DRAIN_NOTICE_S": "0", "TUWEN_DRAIN_S": "0.5"}) as gateway:
        body = json.dumps(STREAMED).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as deaf:
            deaf.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            assert b"200 OK" in deaf.recv(100)
            os.kill(gateway.pid, signal.SIGTERM)
            assert ended(gateway, 2 * _ENDED_S) == 0
        (row,) = rows_of(gateway)
    assert row.state == "settled"
    assert row.output_tokens > 0


def test_several_processes_end_as_one_does(tmp_path: Path, upstream: Upstream, redis_url: str) -> None:
    """Over five seconds: a gateway of two processes starts."""
    environment = {
        "TUWEN_WORKERS": "2",
        "TUWEN_REDIS_URL": redis_url,
        "TUWEN_DRAIN_NOTICE_S": "0.2",
        "TUWEN_DRAIN_S": _NEVER_S,
    }
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "second"), openai.stream("first", Gate()))
    with serving(tmp_path, upstream, environment) as gateway, client_of(gateway) as client:
        finishing, endless = Answer(client, "first"), Answer(client, "first")
        os.kill(gateway.pid, signal.SIGTERM)
        wait_until_closed(gateway.port)
        gate.open()
        assert "[DONE]" in finishing.rest()
        os.kill(gateway.pid, signal.SIGTERM)
        assert_stopped(endless.rest())
        assert ended(gateway) == 0
        assert sorted(row.outcome for row in rows_of(gateway)) == ["failed", "finished"]
