"""What is asked again, where and when; and what never is. A real gateway, a scripted upstream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from email.utils import formatdate
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Received, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of, serving

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[backends.slow]
kind = "openai"
base_url = "{url}/v1"
clocks = {{ first_event_s = 0.2 }}

[backends.shared]
kind = "openai"
base_url = "{url}/v1"
accounts = [{{ api_key = "sk-first" }}, {{ api_key = "sk-second" }}]

[models.m]
routes = [{{ backend = "fake", model = "remote" }}]
tariff = {{ per_call = "1.00" }}

[models.two]
routes = [{{ backend = "fake", model = "first" }}, {{ backend = "fake", model = "second" }}]

[models.patient]
routes = [{{ backend = "slow", model = "first" }}, {{ backend = "fake", model = "second" }}]

[models.impatient]
routes = [{{ backend = "slow", model = "only" }}]

[models.equals]
routes = [
  {{ backend = "fake", model = "left", weight = 1 }},
  {{ backend = "fake", model = "right", weight = 1 }},
  {{ backend = "fake", model = "last" }},
]

[models.accounts]
routes = [{{ backend = "shared", model = "remote" }}]
"""
PASSING = {
    "503": openai.error(503),
    "500": openai.error(500),
    "502 in HTML": Reply(502, {"content-type": "text/html"}, [b"<html>nginx</html>"], "length"),
    "429": openai.error(429, code="rate_limit_exceeded"),
    "closed": Reply(200, {}, [Cut()], "raw"),
    "reset": Reply(200, {}, [Cut(reset=True)], "raw"),
    "empty": Reply(200, {}, [b""], "length"),
    "HTML": Reply(200, {"content-type": "text/html"}, [b"<html>login</html>"], "length"),
}
LASTING = {
    "400": openai.error(400),
    "401": openai.error(401),
    "403": openai.error(403),
    "404": openai.error(404),
    "content": openai.error(400, code="content_filter"),
    "too long": openai.error(400, code="context_length_exceeded"),
    "redirect": Reply(302, {"location": "http://127.0.0.1:1/"}, [b""], "length"),
}


@pytest.fixture(scope="module")
def fake() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def _site(fake: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("retrying"), MODELS.format(url=fake.url)) as site:
        yield site


@pytest.fixture
def upstream(fake: Upstream) -> Upstream:
    fake.forget()
    return fake


@pytest.fixture
def site(_site: Served, upstream: Upstream) -> Served:
    return _site


@pytest.fixture
def fresh_site(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    """Whose backends nobody knows anything of."""
    with serving(tmp_path, MODELS.format(url=upstream.url)) as site:
        yield site


def models_of(upstream: Upstream) -> list[str]:
    return [request.json["model"] for request in upstream.requests]


def metrics_of(site: Served) -> str:
    return site.client.get("/metrics", headers=site.headers).text


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("stream", [True, False])
def test_fault_that_may_pass_is_met_by_another_attempt(
    site: Served, upstream: Upstream, fault: Reply, stream: bool
) -> None:
    upstream.answer(fault, openai.stream("well") if stream else openai.answer("well"))
    response = site.chat(stream=stream)
    assert (response.status_code, "well" in response.text) == (200, True)
    row = site.booked(response)
    assert [(each.outcome, each.cost_micros) for each in row.attempts] == [("failed", 0), ("finished", 1_000_000)]


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
def test_fault_that_will_not_pass_is_told_at_once(site: Served, upstream: Upstream, fault: Reply) -> None:
    upstream.answer(fault)
    assert site.chat("two").status_code in (400, 502)
    assert len(upstream.requests) == 1


def test_backend_that_fails_again_is_left_for_the_next(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(503), openai.error(503), openai.answer("from the second"))
    assert "from the second" in fresh_site.chat("two").text
    assert models_of(upstream) == ["first", "first", "second"]


def test_nothing_is_repeated_once_the_caller_has_a_word(site: Served, upstream: Upstream) -> None:
    upstream.answer(Reply(200, openai.SSE, [*openai.stream("half").steps[:2], Cut()]))
    data = events_of(site.chat("two", stream=True).text)
    assert "half" in data[1]
    assert '"error"' in data[-1]
    assert not any('"finish_reason":"' in item or item == "[DONE]" for item in data)
    assert len(upstream.requests) == 1


def test_wait_that_the_backend_asks_for_is_kept_where_it_fits(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(429, headers={"retry-after": "1"}), openai.answer("well"))
    began_s = time.monotonic()
    assert site.chat().status_code == 200
    assert time.monotonic() - began_s >= 1


def test_wait_that_ends_at_a_date_is_kept_where_it_fits(site: Served, upstream: Upstream) -> None:
    dates = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:01 GMT"}
    upstream.answer(openai.error(429, headers=dates), openai.answer("well"))
    began_s = time.monotonic()
    assert site.chat().status_code == 200
    assert time.monotonic() - began_s >= 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("date", [{"date": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}])
def test_date_that_is_too_far_is_the_callers(
    site: Served, upstream: Upstream, status: int, date: dict[str, str]
) -> None:
    until = "Wed, 21 Oct 2015 07:28:20 GMT" if date else formatdate(time.time() + 20.5, usegmt=True)
    upstream.answer(openai.error(status, headers={**date, "retry-after": until}))
    response = site.chat()
    assert response.status_code == status
    assert 19 <= int(response.headers["retry-after"]) <= 21
    assert len(upstream.requests) == 1


def test_backend_that_is_down_for_a_while_it_names_is_asked_after_it(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(503, headers={"retry-after": "1"}), openai.answer("well"))
    began_s = time.monotonic()
    assert site.chat().status_code == 200
    assert time.monotonic() - began_s >= 1


def test_wait_that_is_too_long_is_the_callers(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(429, headers={"retry-after": "20"}))
    response = site.chat()
    assert (response.status_code, response.headers["retry-after"]) == (429, "20")
    assert len(upstream.requests) == 1


def test_nobody_waits_for_a_busy_backend_while_there_is_another(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(429, headers={"retry-after": "5"}), openai.answer("elsewhere"))
    began_s = time.monotonic()
    assert "elsewhere" in fresh_site.chat("two").text
    assert time.monotonic() - began_s < 4
    assert models_of(upstream) == ["first", "second"]


def test_backend_that_was_waited_for_is_not_asked_twice(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(Reply(200, openai.SSE, [Gate()], "raw"), openai.answer("in time"))
    assert "in time" in fresh_site.chat("patient").text
    assert models_of(upstream) == ["first", "second"]


def test_sdks_do_not_repeat_what_may_have_been_paid(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(Reply(200, openai.SSE, [Gate()], "raw"), openai.error(503), openai.error(503))
    late = fresh_site.chat("impatient", stream=True)
    assert (late.status_code, late.headers["x-should-retry"]) == (504, "false")
    refused = fresh_site.chat()
    assert (refused.status_code, refused.headers.get("x-should-retry")) == (503, None)


def test_most_attempts_are_bounded(upstream: Upstream, tmp_path: Path) -> None:
    with serving(tmp_path, MODELS.format(url=upstream.url), attempts=1) as site:
        upstream.answer(openai.error(503))
        assert site.chat("two").status_code == 503
    assert models_of(upstream) == ["first"]


def test_callers_together_do_not_press_on_a_backend_that_is_down(fresh_site: Served, upstream: Upstream) -> None:
    gate = Gate()
    asked: Counter[str] = Counter()

    def first_a_fault(request: Received) -> Reply:
        question = request.json["messages"][0]["content"]
        asked[question] += 1
        return openai.error(503) if asked[question] == 1 else openai.stream(gate, "well")

    def ask(number: int) -> int:
        messages = [{"role": "user", "content": f"question {number}"}]
        return fresh_site.chat(stream=True, messages=messages).status_code

    upstream.answer(*[first_a_fault] * 50)
    with ThreadPoolExecutor(40) as callers:
        answers = [callers.submit(ask, number) for number in range(40)]
        upstream.wait_for_requests(50, timeout_s=20)
        while sum(answer.done() for answer in answers) < 30:  # those that were not asked again
            wait([answer for answer in answers if not answer.done()], timeout=10, return_when=FIRST_COMPLETED)
        gate.open()
        assert sorted(answer.result() for answer in answers) == [200] * 10 + [503] * 30
    assert "tuwen_retries_refused_total 30.0" in metrics_of(fresh_site)


def test_backend_that_is_down_is_left_alone_for_a_while(fresh_site: Served, upstream: Upstream) -> None:
    upstream.otherwise(lambda request: openai.error(503) if request.json["model"] == "first" else openai.answer("well"))
    try:
        assert [fresh_site.chat("two").status_code for _ in range(6)] == [200] * 6
    finally:
        upstream.otherwise(None)
    assert models_of(upstream).count("first") == 4  # twice two; the third fault has shut it
    assert 'tuwen_backend_shut{backend="fake"} 1.0' in metrics_of(fresh_site)


def test_models_only_route_is_never_shut(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(*[openai.error(503)] * 8, openai.answer("back again"))
    assert [fresh_site.chat().status_code for _ in range(5)] == [503] * 4 + [200]


def test_fault_moves_on_to_an_equal_route_before_the_lower(fresh_site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(503), openai.answer("well"))
    assert fresh_site.chat("equals").status_code == 200
    assert sorted(models_of(upstream)) == ["left", "right"]


def test_account_that_is_refused_gives_way_to_the_other_and_the_operator_is_told(
    fresh_site: Served, upstream: Upstream
) -> None:
    bad = "sk-first"
    upstream.otherwise(lambda request: openai.error(401) if request.key == bad else openai.answer("well"))
    try:
        with capture_logs() as lines:
            answers = [fresh_site.chat("accounts") for _ in range(8)]
    finally:
        upstream.otherwise(None)
    assert {answer.status_code for answer in answers} <= {200, 502}
    assert [request.key for request in upstream.requests].count(bad) <= 1
    asked_first = [answer for answer in answers if answer.status_code == 502]
    assert len(asked_first) == [request.key for request in upstream.requests].count(bad)
    alerts = [line for line in lines if line["log_level"] == "error"]
    assert [line["backend"] for line in alerts] == ["shared#1"] * len(alerts)
    assert len(alerts) == len(asked_first)
