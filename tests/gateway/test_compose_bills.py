"""What recipes cost, and what happens where one of their steps fails: one row, an attempt for each backend asked."""

from __future__ import annotations

import json

from tests.api.pictures import question
from tests.fakes import openai
from tests.fakes.http import Cut
from tests.fakes.upstream import Upstream
from tests.gateway.recipes import BLANK, RECEIPT
from tests.support.server import Served, events_of


def test_one_row_is_the_sum_of_both_steps(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("TOTAL 42"), openai.answer("42"))
    response = site.chat("told", messages=question(BLANK))
    row = site.booked(response)
    read, answered = row.attempts
    assert (row.model, row.backend, row.backend_model, row.outcome) == ("told", "far", "remote-seer", "finished")
    assert [(attempt.number, attempt.model, attempt.outcome) for attempt in row.attempts] == [
        (1, "reader", "finished"),
        (2, "seer", "finished"),
    ]
    assert (read.cost_micros, answered.cost_micros) == (10_000 + 2_000, 120 * 4 + 8 * 12)
    assert (row.cost_micros, row.tariff) == (12_576, answered.tariff)
    assert (row.input_tokens, row.output_tokens, row.image_count) == (240, 16, 2)
    usage = response.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (240, 16)


def test_usage_of_a_recipe_is_as_sure_as_its_weakest_step(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("42"))
    row = site.booked(site.chat("seeing", messages=question(RECEIPT)))
    assert [attempt.usage_source for attempt in row.attempts] == ["counted", "upstream"]
    assert (row.usage_source, row.cost_micros) == ("counted", 120 * 4 + 8 * 12)


def test_usage_chunk_of_a_stream_is_the_sum(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("TOTAL"), openai.stream("42"))
    response = site.chat("told", messages=question(BLANK), stream=True, stream_options={"include_usage": True})
    *_, usage, _ = (json.loads(item) if item != "[DONE]" else {} for item in events_of(response.text))
    assert usage["usage"]["total_tokens"] == 256


def test_recipe_with_a_step_without_a_tariff_has_no_known_cost(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("TOTAL 42"), openai.answer("42"))
    row = site.booked(site.chat("unpriced", messages=question(BLANK)))
    assert (row.tariff, row.cost_micros) == ("null", 120 * 4 + 8 * 12)


def test_answer_that_fails_costs_what_the_reading_did(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("TOTAL 42"), openai.error(400, code="content_filter"))
    response = site.chat("told", messages=question(BLANK))
    assert response.status_code == 400
    row = site.booked(response)
    read, answered = row.attempts
    assert (row.outcome, row.cost_micros, read.cost_micros, answered.cost_micros) == ("failed", 12_000, 12_000, 0)
    assert (read.outcome, answered.outcome) == ("finished", "failed")
    assert (answered.error_code, read.error_code) == (row.error_code, None)


def test_answer_that_breaks_off_is_an_error_in_the_stream(site: Served, upstream: Upstream) -> None:
    broken = openai.stream("It is")
    upstream.answer(openai.Reply(200, openai.SSE, [*broken.steps[:2], Cut()]))
    response = site.chat("seeing", messages=question(RECEIPT), stream=True)
    assert "[DONE]" not in response.text
    row = site.booked(response)
    assert [attempt.outcome for attempt in row.attempts] == ["finished", "failed"]
    assert (row.outcome, row.usage_source) == ("failed", "counted")


def test_answer_that_fails_after_the_regions_were_given_is_an_error_in_the_stream(
    site: Served, upstream: Upstream
) -> None:
    upstream.answer(openai.error(401))
    response = site.chat("seeing", messages=question(RECEIPT), stream=True, ocr={"regions": True})
    assert response.status_code == 200
    *before, last = (json.loads(item) for item in events_of(response.text))
    assert any("ocr_regions" in chunk["choices"][0]["delta"] for chunk in before)
    assert last["error"]["code"] == "backend_misconfigured"
    assert site.booked(response).outcome == "failed"


def test_route_that_failed_before_another_answered_is_an_attempt_of_its_step(site: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("TOTAL 42"), openai.answer("42"))
    row = site.booked(site.chat("with-second-try", messages=question(BLANK)))
    assert [(attempt.model, attempt.backend, attempt.outcome, attempt.error_code) for attempt in row.attempts] == [
        ("reader", "far", "finished", None),
        ("second-try", "gone", "failed", "backend_unavailable"),
        ("second-try", "gone", "failed", "backend_unavailable"),
        ("second-try", "far", "finished", None),
    ]
    assert (row.attempts[1].cost_micros, row.outcome, row.error_code) == (0, "finished", None)


def test_pictures_that_cannot_be_read_are_an_error_though_the_answering_model_sees(
    site: Served, upstream: Upstream
) -> None:
    response = site.chat("unread", messages=question(BLANK))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "backend_unavailable")
    assert upstream.requests == []
    attempts = site.booked(response).attempts
    assert {(attempt.model, attempt.outcome, attempt.error_code) for attempt in attempts} == {
        ("gone-reader", "failed", "backend_unavailable")
    }


def test_reader_that_breaks_off_is_an_error_before_the_stream(site: Served, upstream: Upstream) -> None:
    half = openai.stream("TOT")
    upstream.answer(openai.Reply(200, openai.SSE, [*half.steps[:2], Cut()]))
    response = site.chat("told", messages=question(BLANK), stream=True)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "backend_protocol_error")
    [attempt] = site.booked(response).attempts
    assert (attempt.outcome, attempt.usage_source, attempt.model) == ("failed", "counted", "reader")


def test_broken_picture_is_the_callers_fault(site: Served, upstream: Upstream) -> None:
    response = site.chat("seeing", messages=question("data:image/png;base64,AAAA"))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_image_format")
    assert upstream.requests == []
