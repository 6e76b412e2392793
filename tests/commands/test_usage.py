"""`tuwen usage`: sums, rows, and forms for programs."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import Result

from app.accounts.reports import Only
from app.accounts.usage import NO_TARIFF
from app.commands.errors import CommandFailed
from app.commands.wanted import Wanted, wanted
from tests.accounts.records import a_row, an_attempt

Tuwen = Callable[..., Result]
Booked = Callable[..., None]

HOUR_AGO = time.time() - 3600


@pytest.fixture
def some_usage(booked: Booked) -> None:
    booked(
        a_row(request_id="1", started_at=HOUR_AGO, model="qwen", cost_micros=6_400),
        a_row(request_id="2", started_at=HOUR_AGO + 1, model="qwen", cost_micros=1_000_001),
        a_row(request_id="3", started_at=HOUR_AGO + 2, model="own", tariff=NO_TARIFF, cost_micros=0),
        a_row(
            request_id="4", started_at=HOUR_AGO + 3, model="own", outcome="failed", error_code="backend_timeout",
            input_tokens=0, output_tokens=0, image_count=0, cost_micros=0, first_event_ms=None,
        ),
        a_row(request_id="old", started_at=HOUR_AGO - 40 * 86_400, model="old"),
    )  # fmt: skip


@pytest.mark.usefixtures("some_usage")
def test_usage_is_added_up_per_model_in_yuan_with_six_decimals(tuwen: Tuwen) -> None:
    head, own, qwen, total = tuwen("usage", "--by", "model").stdout.splitlines()
    assert head.split() == ["MODEL", "REQUESTS", "FAILED", "INPUT", "OUTPUT", "PICTURES", "COST", "(YUAN)"]
    assert own.split() == ["own", "2", "1", "1000", "200", "1", "0.000000", "and", "1", "without", "a", "tariff"]
    assert qwen.split() == ["qwen", "2", "0", "2000", "400", "2", "1.006401"]
    assert total.split()[:7] == ["total", "4", "1", "3000", "600", "3", "1.006401"]


@pytest.mark.usefixtures("some_usage")
def test_usage_is_added_up_per_day_unless_told(tuwen: Tuwen) -> None:
    head, *days = tuwen("usage").stdout.splitlines()
    assert head.startswith("DAY")
    assert days[0].split()[0] == datetime.fromtimestamp(HOUR_AGO).astimezone().strftime("%Y-%m-%d")


@pytest.mark.usefixtures("some_usage")
def test_usage_per_key_names_it(tuwen: Tuwen) -> None:
    [group] = json.loads(tuwen("usage", "--by", "key", "--json").stdout)
    assert (group["key"], group["requests"]) == ("key_000000000001", 4)


@pytest.mark.usefixtures("some_usage")
def test_since_reaches_back(tuwen: Tuwen) -> None:
    assert "old" in tuwen("usage", "--by", "model", "--since", "9w").stdout
    assert "old" in tuwen("usage", "--by", "model", "--since", "2020-01-01").stdout
    assert json.loads(tuwen("usage", "--since", "0h", "--json").stdout) == []


@pytest.mark.usefixtures("some_usage")
def test_json_of_sums_carries_micros_and_yuan(tuwen: Tuwen) -> None:
    own, qwen = json.loads(tuwen("usage", "--by", "model", "--json").stdout)
    assert (own["model"], own["unpriced"]) == ("own", 1)
    assert (qwen["cost_micros"], qwen["cost_yuan"]) == (1_006_401, "1.006401")


@pytest.mark.usefixtures("some_usage")
def test_csv_of_sums_has_a_head(tuwen: Tuwen) -> None:
    head, own, qwen = csv.reader(io.StringIO(tuwen("usage", "--by", "model", "--csv").stdout))
    assert (head[0], head[-1], own[0], qwen[0], qwen[-1]) == ("model", "cost_yuan", "own", "qwen", "1.006401")


@pytest.mark.usefixtures("some_usage")
def test_single_rows_come_newest_first_one_line_each(tuwen: Tuwen) -> None:
    head, failed, own, qwen = tuwen("usage", "--rows", "3").stdout.splitlines()
    assert head.split()[:3] == ["TIME", "MODEL", "BACKEND"]
    assert "failed: backend_timeout" in failed
    assert "0.000000" in failed, "what failed costs nothing, with or without a tariff"
    assert "no tariff" in own
    assert "1.000001" in qwen
    assert "finished" in qwen


@pytest.mark.usefixtures("some_usage")
def test_json_of_rows_says_that_a_cost_is_unknown(tuwen: Tuwen) -> None:
    failed, own, qwen = json.loads(tuwen("usage", "--rows", "3", "--json").stdout)
    assert (failed["cost_micros"], failed["cost_yuan"]) == (0, "0.000000")
    assert (own["cost_micros"], own["cost_yuan"]) == (None, None)
    assert (qwen["cost_micros"], qwen["cost_yuan"], qwen["request_id"]) == (1_000_001, "1.000001", "2")
    assert datetime.fromisoformat(qwen["started_at"]).timestamp() == pytest.approx(HOUR_AGO + 1, abs=0.001)


@pytest.fixture
def a_recipe(booked: Booked) -> None:
    read = an_attempt(model="reader", backend="ocr", tariff=NO_TARIFF, cost_micros=0, total_ms=70)
    answered = an_attempt(number=2, outcome="failed", error_code="backend_timeout")
    booked(a_row(started_at=HOUR_AGO, model="mixed", attempts=(read, answered)))


@pytest.mark.usefixtures("a_recipe")
def test_backends_asked_for_one_request_stand_below_it(tuwen: Tuwen) -> None:
    _, row, first, second = (line.split() for line in tuwen("usage", "--rows", "1").stdout.splitlines())
    assert "mixed" in row
    assert first == ["1.", "reader", "ocr", "1000", "200", "1", "no", "tariff", "70", "finished"]
    assert second[:3] == ["2.", "qwen-vl-vision", "qwen"]
    assert second[-3:] == ["880", "failed:", "backend_timeout"]


@pytest.mark.usefixtures("a_recipe")
def test_json_of_rows_has_the_attempts_with_their_costs(tuwen: Tuwen) -> None:
    [row] = json.loads(tuwen("usage", "--rows", "1", "--json").stdout)
    costs = [(attempt["number"], attempt["cost_micros"], attempt["cost_yuan"]) for attempt in row["attempts"]]
    assert costs == [(1, None, None), (2, 6_400, "0.006400")]


@pytest.mark.usefixtures("a_recipe")
def test_csv_of_rows_has_one_line_per_request(tuwen: Tuwen) -> None:
    head, row = csv.reader(io.StringIO(tuwen("usage", "--rows", "1", "--csv").stdout))
    assert ("attempts" in head, len(row)) == (False, len(head))


def test_csv_of_rows_runs_no_formula(tuwen: Tuwen, booked: Booked) -> None:
    booked(a_row(started_at=HOUR_AGO, model="=cmd|calc", backend_request_id=None))
    [row] = csv.DictReader(io.StringIO(tuwen("usage", "--rows", "1", "--csv").stdout))
    assert (row["model"], row["backend_request_id"], row["input_tokens"]) == ("'=cmd|calc", "", "1000")


@pytest.mark.usefixtures("some_usage", "a_recipe")
def test_usage_is_of_the_key_model_backend_and_period_that_were_asked_for(tuwen: Tuwen, booked: Booked) -> None:
    booked(a_row(request_id="other", started_at=HOUR_AGO, key_id="key_2", model="qwen"))

    def models(*words: str) -> dict[str, int]:
        groups = json.loads(tuwen("usage", "--by", "model", "--json", *words).stdout)
        return {group["model"]: group["requests"] for group in groups}

    assert models("--key", "key_2") == {"qwen": 1}
    assert models("--model", "own") == {"own": 2}
    assert models("--backend", "ocr") == {"mixed": 1}
    assert models("--since", "50d", "--until", "30d") == {"old": 1}
    rows = json.loads(tuwen("usage", "--rows", "9", "--json", "--key", "key_2").stdout)
    assert [row["request_id"] for row in rows] == ["other"]


@pytest.mark.usefixtures("a_recipe")
def test_usage_per_backend_counts_each_that_was_asked(tuwen: Tuwen) -> None:
    groups = json.loads(tuwen("usage", "--by", "backend", "--json").stdout)
    assert [(group["backend"], group["requests"], group["failed"]) for group in groups] == [
        ("ocr", 1, 0),
        ("qwen", 1, 1),
    ]


def test_usage_of_nothing_is_an_empty_table(tuwen: Tuwen, booked: Booked, data_dir: Path) -> None:
    booked()
    assert data_dir.exists()
    result = tuwen("usage")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1


NOW = datetime(2026, 11, 20, 12, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "back"), [("12h", timedelta(hours=12)), ("7d", timedelta(days=7)), ("2w", timedelta(weeks=2))]
)
def test_span_reaches_back_from_now(text: str, back: timedelta) -> None:
    assert wanted(text, text, now=NOW) == Wanted((NOW - back).timestamp(), Only(until=(NOW - back).timestamp()))


def test_day_begins_at_local_midnight_and_ends_at_the_next() -> None:
    of = wanted("2026-11-01", "2026-11-01", now=NOW)
    assert of.since == datetime(2026, 11, 1).astimezone().timestamp()
    assert of.only.until == datetime(2026, 11, 2).astimezone().timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7y", "99999w", "2026-13-01", "0001-01-01"])
def test_time_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CommandFailed, match="write a span as 7d") as caught:
        wanted(text, None, now=NOW)
    assert caught.value.exit_code == 2
    with pytest.raises(CommandFailed, match="--until"):
        wanted("1d", text, now=NOW)
