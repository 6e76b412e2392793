"""Money is set aside before a backend is asked, and given back when all is booked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from app.accounts.interfaces import LedgerRow
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Received, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of, serving

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[backends.gone]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.m]
routes = [{{ backend = "fake", model = "m" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00" }}
max_output = 1000

[models.per-call]
routes = [{{ backend = "fake", model = "m" }}]
tariff = {{ per_call = "0.5" }}

[models.second-best]
routes = [{{ backend = "gone", model = "m" }}, {{ backend = "fake", model = "m" }}]
tariff = {{ per_call = "0.5" }}

[models.free]
routes = [{{ backend = "fake", model = "m" }}]
tariff = "free"

[models.unpriced]
routes = [{{ backend = "fake", model = "m" }}]

[models.tiered]
routes = [{{ backend = "fake", model = "m" }}]
tariff = {{ per_call = "0.5", volume = "calls", tiers = [{{ from = 2, per_call = "0.25" }}] }}
"""
PROMPT_MICROS = 4
"""Of "hi", one token by our estimate."""


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def _site(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("gateway"), MODELS.format(url=_upstream.url)) as site:
        yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.forget()
    return _upstream


@pytest.fixture
def site(_site: Served, upstream: Upstream) -> Served:
    return _site


def budgeted(site: Served, yuan: str, **terms: str) -> tuple[Served, str]:
    """The gateway as a key with a budget sees it, and the key's id."""
    key, key_id = site.new_key(budget=yuan, **terms)
    return site.as_key(key), key_id


def test_row_and_hold_are_durable_before_the_backend_is_asked(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "1.00")
    seen: list[tuple[int, int]] = []

    def look(_: Received) -> None:
        with closing(sqlite3.connect(site.settings.data_dir / "tuwen.db")) as connection:
            row = connection.execute("SELECT state, hold_micros FROM ledger WHERE key_id = ?", (key_id,)).fetchone()
            held = connection.execute("SELECT held_micros FROM balances WHERE key_id = ?", (key_id,)).fetchone()
        seen.append((row, held))

    upstream.answer(openai.answer("yes"), expect=look)
    assert mine.chat(max_tokens=100).status_code == 200
    hold_micros = 2 * PROMPT_MICROS + 100 * 12  # an estimate is held with a tenth on top, here a whole token
    assert seen == [(("dispatched", hold_micros), (hold_micros,))]


def test_answer_is_booked_and_the_rest_given_back(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "1.00")
    upstream.answer(openai.answer("yes"))
    response = mine.chat(max_tokens=100)
    cost_micros = 120 * 4 + 8 * 12
    row, balance = site.booked(response), site.balance(key_id)
    assert (row.state, row.hold_micros, row.cost_micros, row.lease_until) == ("settled", 0, cost_micros, None)
    assert (balance.spent_micros, balance.held_micros) == (cost_micros, 0)
    assert response.headers["x-tuwen-cost"] == "0.000576"


@pytest.mark.parametrize("stream", [True, False])
def test_balance_that_does_not_carry_it_is_insufficient_quota(site: Served, upstream: Upstream, stream: bool) -> None:
    mine, key_id = budgeted(site, "0.001")
    response = mine.chat(stream=stream)  # up to 1 000 tokens of answer: 0.012 yuan
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "0.012008" in error["message"]
    assert "0.001000" in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert not upstream.requests
    assert site.balance(key_id).held_micros == 0
    assert response.headers["x-request-id"] not in {row.request_id for row in site.rows()}


@pytest.mark.parametrize(("bound", "words"), [("day_budget", "today"), ("month_budget", "this month")])
def test_budget_of_a_day_or_month_is_named(site: Served, bound: str, words: str) -> None:
    key, _ = site.new_key(**{bound: "0.001"})
    response = site.as_key(key).chat()
    assert response.status_code == 429
    assert words in response.json()["error"]["message"]


def test_a_budget_carries_exactly_as_many_calls_as_it_pays_for(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "1.00")
    upstream.answer(openai.answer("1"), openai.answer("2"))
    assert [mine.chat("per-call").status_code for _ in range(3)] == [200, 200, 429]
    assert site.balance(key_id).spent_micros == 1_000_000


def test_next_route_is_held_once_and_only_the_one_that_answered_is_paid(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "0.50")
    upstream.answer(openai.answer("yes"))
    row = site.booked(mine.chat("second-best"))
    ends = [(each.outcome, each.cost_micros) for each in row.attempts]
    assert ends == [("failed", 0), ("failed", 0), ("finished", 500_000)]
    assert site.balance(key_id).spent_micros == row.cost_micros == 500_000


def test_what_failed_before_its_first_word_is_released(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "1.00")
    upstream.answer(*[openai.reply({"error": {"message": "no"}}, 500)] * 2)
    row = site.booked(mine.chat())
    assert (row.state, row.outcome, row.cost_micros) == ("released", "failed", 0)
    assert (site.balance(key_id).spent_micros, site.balance(key_id).held_micros) == (0, 0)


def test_caller_who_leaves_pays_the_deltas_that_were_sent(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "1.00")
    upstream.answer(openai.stream("one ", "two ", "three ", Gate(), "never"))
    with mine.client.stream("POST", "/v1/chat/completions", json=asking("m"), headers=mine.headers) as response:
        request_id = response.headers["x-request-id"]
        text = ""
        for line in response.iter_lines():
            text += line
            if "three" in text:
                break
    row = site.row(request_id)
    assert (row.outcome, row.output_tokens, row.usage_source) == ("gone", 3, "counted")
    assert row.cost_micros == PROMPT_MICROS + 3 * 12 == site.balance(key_id).spent_micros


def test_answer_that_breaks_is_paid_as_far_as_it_came(site: Served, upstream: Upstream) -> None:
    mine, _ = budgeted(site, "1.00")
    text, row = broken_after(mine, upstream, "one ", "two ")
    assert "error" in events_of(text)[-1]
    assert (row.state, row.outcome, row.output_tokens, row.usage_source) == ("settled", "failed", 2, "counted")


def test_long_deltas_are_estimated_by_their_text(site: Served, upstream: Upstream) -> None:
    _, row = broken_after(site, upstream, "word " * 100, "word " * 100)
    assert (row.output_tokens, row.usage_source) == (250, "estimated")


def test_stream_tells_its_cost_with_its_usage(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("yes"))
    response = site.chat(stream=True, stream_options={"include_usage": True})
    assert '"cost":0.000576' in events_of(response.text)[-2]


def test_key_with_a_budget_may_not_ask_what_nobody_can_price(site: Served, upstream: Upstream) -> None:
    mine, _ = budgeted(site, "1.00")
    response = mine.chat("unpriced")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "model_without_tariff")
    assert not upstream.requests
    upstream.answer(openai.answer("yes"))
    assert "x-tuwen-cost" not in site.chat("unpriced").headers


def test_free_models_answer_a_key_that_has_nothing_left(site: Served, upstream: Upstream) -> None:
    mine, _ = budgeted(site, "0")
    upstream.answer(openai.answer("yes"))
    assert mine.chat("free").status_code == 200
    assert mine.chat("per-call").status_code == 429


def test_tier_begins_with_the_call_after_its_edge(site: Served, upstream: Upstream) -> None:
    mine, key_id = budgeted(site, "10.00")
    upstream.answer(*(openai.answer("yes") for _ in range(4)))
    costs = [mine.chat("tiered").json()["usage"]["cost"] for _ in range(4)]
    assert costs == [0.5, 0.5, 0.25, 0.25]
    assert site.balance(key_id).spent_micros == 1_500_000


def broken_after(site: Served, upstream: Upstream, *words: str) -> tuple[str, LedgerRow]:
    """What a caller gets, and what is booked, of a stream whose connection ends once these words have arrived."""
    gate, row = Gate(), openai.DIALECTS["generic"]
    chunks = [openai.chunk(row, {"content": word}) for word in words]
    upstream.answer(Reply(200, openai.SSE, [*chunks, gate, Cut()]))
    with site.client.stream("POST", "/v1/chat/completions", json=asking("m"), headers=site.headers) as response:
        text = ""
        for line in response.iter_lines():
            text += line + "\n"
            if text.count(words[-1]) >= words.count(words[-1]):
                gate.open()
    return text, site.row(response.headers["x-request-id"])


def asking(model: str) -> dict[str, object]:
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
