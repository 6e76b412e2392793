"""Recipes that end early: callers who leave while the pictures are read, and one clock over both steps."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.http import Gate, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

MODELS = """
[backends.far]
kind = "openai"
base_url = "{url}/v1"

[models.reader]
routes = [{{ backend = "far", model = "remote-reader" }}]

[models.seer]
routes = [{{ backend = "far", model = "remote-seer" }}]

[models.told]
recipe = {{ ocr = "reader", answer = ["seer"] }}
"""
PICTURE = data_url(picture())
DEADLINE_S = 2.0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture
def site(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, MODELS.format(url=upstream.url), deadline_s=DEADLINE_S, heartbeat_s=30) as site:
        yield site


def test_caller_who_leaves_while_the_pictures_are_read_is_booked_with_that_step(
    site: Served, upstream: Upstream
) -> None:
    gate = Gate()
    upstream.answer(openai.stream("TOTAL", gate, "42"))
    body = json.dumps({"model": "told", "stream": True, "messages": question(PICTURE)})
    with closing(HTTPConnection("127.0.0.1", site.port)) as caller:
        caller.request("POST", "/v1/chat/completions", body, site.headers)
        gate.wait_reached()
    request_id = _only_request_id(site)
    row = site.row(request_id)
    assert (row.outcome, row.backend_model) == ("gone", "remote-reader")
    [attempt] = row.attempts
    assert (attempt.model, attempt.outcome, attempt.usage_source) == ("reader", "gone", "counted")
    assert len(upstream.requests) == 1


def _only_request_id(site: Served) -> str:
    while not (rows := site.rows()):
        pass
    [row] = rows
    return row.request_id


def test_both_steps_share_one_deadline(site: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(
        Reply(200, {}, [gate, *openai.answer("TOTAL 42").steps]),
        Reply(200, openai.SSE, [Gate()], "raw"),
    )
    threading.Timer(0.75 * DEADLINE_S, gate.open).start()
    response = site.chat("told", messages=question(PICTURE))
    assert (response.status_code, response.json()["error"]["code"]) == (504, "backend_timeout")
    row = site.booked(response)
    assert [attempt.outcome for attempt in row.attempts] == ["finished", "failed"]
    assert row.total_ms < 1.5 * DEADLINE_S * 1000
