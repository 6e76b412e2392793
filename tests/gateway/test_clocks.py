"""How long a silent, slow or absent backend is waited for, and what the caller is told. Clocks are set to tenths."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.api.pictures import data_url, picture
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Reply, Step
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of, serving

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[backends.deaf]
kind = "openai"
base_url = "http://127.0.0.1:{deaf}/v1"

[models.m]
routes = [{{ backend = "fake", model = "remote" }}]

[models.deaf]
routes = [{{ backend = "deaf", model = "remote" }}]

[models.two]
routes = [{{ backend = "deaf", model = "first" }}, {{ backend = "fake", model = "second" }}]

[backends.fetching]
kind = "ccai"
access_key_id = "LTAIfakefakefake"
access_key_secret = "s"
workspace_id = "llm-x"
app_id = "00000000000000000000000000000000"
base_url = "{url}"

[models.fetching]
routes = [{{ backend = "fetching", model = "x" }}, {{ backend = "fake", model = "second" }}]

[models.three]
routes = [
  {{ backend = "fake", model = "first" }},
  {{ backend = "fake", model = "second" }},
  {{ backend = "fake", model = "third" }},
]
"""


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def fake() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def _site(fake: Upstream, deaf_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = MODELS.format(url=fake.url, deaf=deaf_port)
    clocks = {"connect_s": 0.3, "first_event_s": 0.4, "idle_s": 0.4, "deadline_s": 1.5, "heartbeat_s": 5}
    with serving(tmp_path_factory.mktemp("clocks"), models, **clocks) as served:
        yield served


@pytest.fixture(scope="module")
def _patient(fake: Upstream, deaf_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = MODELS.format(url=fake.url, deaf=deaf_port)
    with serving(tmp_path_factory.mktemp("patient"), models, attempts=3) as served:  # one for each route
        yield served


@pytest.fixture
def patient(_patient: Served, fake: Upstream) -> Served:
    """A gateway whose clocks are as they come: they do not run out on a busy machine."""
    fake.forget()
    return _patient


@pytest.fixture
def site(_site: Served, fake: Upstream) -> Served:
    fake.forget()
    return _site


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("stream", [True, False])
def test_backend_that_never_answers_is_504_and_its_connection_closed(
    site: Served, fake: Upstream, stream: bool
) -> None:
    fake.answer(openai.Reply(200, openai.SSE, [Gate()], "raw"))
    assert code_of(site.chat(stream=stream)) == (504, "backend_timeout")
    fake.requests[0].wait_closed()


def test_comments_and_empty_deltas_do_not_count_as_an_answer(site: Served, fake: Upstream) -> None:
    fake.answer(Reply(200, openai.SSE, [b": ping\n\n", b": ping\n\n", Gate()]))
    assert code_of(site.chat(stream=True)) == (504, "backend_timeout")


def test_usage_before_any_word_does_not_count_as_an_answer(site: Served, fake: Upstream) -> None:
    usage = openai.event({"choices": [], "usage": openai.USAGE})
    fake.answer(Reply(200, openai.SSE, [usage, Gate()]))
    assert code_of(site.chat(stream=True)) == (504, "backend_timeout")


def test_usage_before_any_word_leaves_the_way_to_another_route_open(patient: Served, fake: Upstream) -> None:
    usage = openai.event({"choices": [], "usage": openai.USAGE})
    fake.answer(Reply(200, openai.SSE, [usage, Cut()]), openai.stream("well"))
    response = patient.chat("three", stream=True)
    assert '"content":"well"' in response.text
    assert [attempt.outcome for attempt in patient.booked(response).attempts] == ["failed", "finished"]


def test_silence_after_text_ends_the_stream_with_an_error(site: Served, fake: Upstream) -> None:
    fake.answer(openai.stream("half", Gate()))
    response = site.chat(stream=True)
    data = [json.loads(item) for item in events_of(response.text)]
    assert data[1]["choices"][0]["delta"]["content"] == "half"
    assert data[-1]["error"]["code"] == "backend_timeout"
    fake.requests[0].wait_closed()
    assert site.booked(response).outcome == "failed"


@pytest.mark.parametrize("then", [Gate(), Cut(), Cut(reset=True)], ids=["silence", "an end", "a reset"])
@pytest.mark.parametrize("stream", [True, False])
def test_answer_that_said_it_is_finished_is_whole_whatever_comes_then(
    site: Served, fake: Upstream, stream: bool, then: Step
) -> None:
    finished = openai.stream("all of it").steps[:3]
    fake.answer(Reply(200, openai.SSE, [*finished, Gate() if isinstance(then, Gate) else then]))
    response = site.chat(stream=stream)
    assert '"finish_reason":"stop"' in response.text
    assert "all of it" in response.text
    assert "error" not in response.text
    booked = site.booked(response)
    assert (booked.outcome, booked.usage_source) == ("finished", "counted" if stream else "estimated")


def test_connection_that_is_taken_and_left_is_a_timeout(site: Served) -> None:
    assert code_of(site.chat("deaf"))[0] == 504


def test_slow_first_route_gives_way_to_the_second(site: Served, fake: Upstream) -> None:
    fake.answer(openai.answer("from the second"))
    assert site.chat("two").json()["choices"][0]["message"]["content"] == "from the second"


def test_answer_that_does_not_end_meets_the_deadline(fake: Upstream, deaf_port: int, tmp_path: Path) -> None:
    fake.answer(openai.stream("word", Gate()))
    patient = {"first_event_s": 30, "idle_s": 30, "deadline_s": 0.5}
    with serving(tmp_path, MODELS.format(url=fake.url, deaf=deaf_port), **patient) as site:
        data = events_of(site.chat(stream=True).text)
    assert "word" in data[1]
    assert json.loads(data[-1])["error"]["code"] == "backend_timeout"


def test_pictures_that_do_not_come_in_time_are_the_callers_to_mend(
    fake: Upstream, deaf_port: int, tmp_path: Path
) -> None:
    fake.forget()
    models = MODELS.format(url=fake.url, deaf=deaf_port)
    allowed = (f"127.0.0.1/32:{deaf_port}",)
    with serving(tmp_path, models, fetch_allow=allowed, deadline_s=0.5) as site:
        part = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{deaf_port}/a.png"}}
        response = site.chat(messages=[{"role": "user", "content": [part]}])
    assert code_of(response) == (400, "image_fetch_failed")
    assert fake.requests == []


def test_routes_are_tried_in_order_until_one_answers(patient: Served, fake: Upstream) -> None:
    fake.answer(openai.error(503), openai.error(429), openai.answer("third time"))
    response = patient.chat("three")
    assert response.json()["choices"][0]["message"]["content"] == "third time"
    assert [request.json["model"] for request in fake.requests] == ["first", "second", "third"]
    assert patient.booked(response).backend_model == "third"


def test_route_whose_pictures_nobody_can_publish_gives_way_to_the_next(patient: Served, fake: Upstream) -> None:
    fake.answer(openai.answer("from bytes"))
    part = {"type": "image_url", "image_url": {"url": data_url(picture((96, 80)))}}
    response = patient.chat("fetching", messages=[{"role": "user", "content": [part]}])
    assert response.json()["choices"][0]["message"]["content"] == "from bytes"
    assert [attempt.backend_model for attempt in patient.booked(response).attempts] == ["second"]


def test_last_fault_is_told_where_no_route_answers(patient: Served, fake: Upstream) -> None:
    fake.answer(openai.error(503), openai.error(503), openai.error(429))
    assert code_of(patient.chat("three")) == (429, "rate_limit_exceeded")


def test_refusal_is_not_asked_again_elsewhere(patient: Served, fake: Upstream) -> None:
    fake.answer(openai.error(400, code="content_filter"))
    assert code_of(patient.chat("three")) == (400, "content_filter")
    assert len(fake.requests) == 1


def test_route_is_not_changed_once_text_was_given(patient: Served, fake: Upstream) -> None:
    fake.answer(Reply(200, openai.SSE, openai.stream("half").steps[:2]))
    response = patient.chat("three", stream=True)
    assert "half" in response.text
    assert "error" in events_of(response.text)[-1]
    assert len(fake.requests) == 1
