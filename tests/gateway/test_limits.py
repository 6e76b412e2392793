"""Limits as callers meet them: refusals that say when to come again, queues that wait, headers that tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[backends.narrow]
kind = "openai"
base_url = "{url}/v1"
limits = {{ concurrency = 1 }}

[backends.slow]
kind = "openai"
base_url = "{url}/v1"
limits = {{ rpm = 1 }}

[models.m]
routes = [{{ backend = "fake", model = "m" }}]
tariff = "free"
aliases = ["m-vision"]

[models.other]
routes = [{{ backend = "fake", model = "m" }}]

[models.one-at-once]
routes = [{{ backend = "narrow", model = "m" }}]

[models.one-a-minute]
routes = [{{ backend = "slow", model = "m" }}]

[models.with-a-spare]
routes = [{{ backend = "slow", model = "m" }}, {{ backend = "fake", model = "spare" }}]
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture
def site(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("gateway"), MODELS.format(url=upstream.url), queue_s=10) as site:
        yield site


def limited(site: Served, **terms: object) -> Served:
    return site.as_key(site.new_key(**terms)[0])


def test_requests_over_the_limit_are_told_when_to_come_again(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    mine = limited(site, rpm=2)
    first, second, third = (mine.chat() for _ in range(3))
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(third.headers["retry-after"]) <= 60
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests" in error["message"]
    assert len(upstream.requests) == 2
    assert len(site.rows()) == 2


def test_tokens_that_were_reserved_too_many_are_given_back(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    mine = limited(site, tpm=1500)
    first = mine.chat(max_tokens=900)  # reserves 901, uses 128
    second = mine.chat(max_tokens=900)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["x-ratelimit-remaining-tokens"] == str(1500 - 128 - 901)
    assert mine.chat(max_tokens=1400).status_code == 429


def test_limits_of_one_model_leave_the_others_alone(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    mine = limited(site, model_limits={"m": {"rpm": 1}})
    assert [mine.chat(name).status_code for name in ("m", "m-vision", "other", "other")] == [200, 429, 200, 200]


def test_key_may_have_so_many_requests_under_way(site: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("one", gate), openai.answer("two"))
    mine = limited(site, concurrency=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(mine.chat, stream=True)
        gate.wait_reached()
        refused = mine.chat()
        gate.open()
        assert running.result().status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert mine.chat().status_code == 200


def test_key_is_for_its_models_only(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    mine = limited(site, models=["m*"])
    refused = mine.chat("other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert refused.json()["error"]["param"] == "model"
    assert mine.chat("m-vision").status_code == 200
    assert len(upstream.requests) == 1


def test_backend_with_no_room_is_waited_for(site: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("one", gate), openai.answer("two"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(site.chat, "one-at-once", stream=True)
        gate.wait_reached()
        second = pool.submit(site.chat, "one-at-once")
        waiting_until(site, "tuwen_queue_waiting", 1)
        assert len(upstream.requests) == 1
        gate.open()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert int(second.result().headers["x-tuwen-queued-ms"]) > 0
    assert "x-tuwen-queued-ms" not in first.result().headers
    assert site.booked(second.result()).queued_ms > 0
    assert reading(site, "tuwen_queue_turns_total") == 1


def test_greedy_key_does_not_starve_another(site: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("one", gate))
    upstream.otherwise(openai.answer("yes"))
    greedy, modest = limited(site), limited(site)
    ended: list[str] = []
    lock = threading.Lock()

    def ask(whose: str, caller: Served) -> None:
        assert caller.chat("one-at-once").status_code == 200
        with lock:
            ended.append(whose)

    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(site.chat, "one-at-once", stream=True)
        gate.wait_reached()
        many = [pool.submit(ask, "greedy", greedy) for _ in range(8)]
        waiting_until(site, "tuwen_queue_waiting", 8)
        single = pool.submit(ask, "modest", modest)
        waiting_until(site, "tuwen_queue_waiting", 9)
        gate.open()
        for future in [first, single, *many]:
            future.result()
    assert ended.index("modest") <= 2  # behind the one or two whose turn came first


def test_wait_that_cannot_end_in_time_is_refused_at_once(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    assert site.chat("one-a-minute").status_code == 200
    refused = site.chat("one-a-minute")  # the minute is longer than the ten seconds anybody waits here
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.elapsed.total_seconds() < 3
    row = site.booked(refused)
    assert (row.state, row.cost_micros) == ("released", 0)
    assert len(upstream.requests) == 1


def test_another_route_takes_what_one_has_no_room_for(site: Served, upstream: Upstream) -> None:
    upstream.otherwise(openai.answer("yes"))
    assert [site.chat("with-a-spare").status_code for _ in range(2)] == [200, 200]
    assert [request.json["model"] for request in upstream.requests] == ["m", "spare"]


def test_metrics_are_for_administrators(site: Served) -> None:
    response = limited(site).client.get("/metrics", headers=limited(site).headers)
    assert response.status_code == 403
    assert b"tuwen_open_requests" in metrics(site).content


def metrics(site: Served) -> httpx2.Response:
    return site.client.get("/metrics")


def reading(site: Served, name: str) -> float:
    """A metric, its labels added up."""
    lines = [line for line in metrics(site).text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def waiting_until(site: Served, name: str, value: float) -> None:
    """Asks until a metric is so high: the only thing that shows from outside that somebody waits."""
    for _ in range(1000):
        if reading(site, name) >= value:
            return
    raise AssertionError(f"{name} is {reading(site, name)}")
