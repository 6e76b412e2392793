"""/admin/usage, /requests, /export and /reconcile, over HTTP."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.accounts import reports
from app.accounts.usage import NO_TARIFF
from tests.accounts.records import a_row, an_attempt
from tests.api.bookings import book
from tests.api.test_admin import MODELS, refused
from tests.support.server import Served, serving

HOUR_AGO = float(round(time.time())) - 3600 + 0.25
DAY = time.strftime("%Y-%m-%d", time.localtime(HOUR_AGO))


def some_rows() -> list[Any]:
    read = an_attempt(backend="ocr", model="reader", tariff=NO_TARIFF, cost_micros=0)
    answered = an_attempt(number=2, backend_request_id="up-mixed")
    mixed = a_row(request_id="mixed", started_at=HOUR_AGO + 9, day=DAY, model="mixed", attempts=(read, answered))
    plain = [
        a_row(
            request_id=f"r{number}",
            started_at=HOUR_AGO + number // 2,  # two in the same moment
            day=DAY,
            model="qwen",
            attempts=(an_attempt(backend_request_id=f"up-{number}"),),
        )
        for number in range(6)
    ]
    other = a_row(request_id="other", started_at=HOUR_AGO + 8, day=DAY, key_id="key_2", backend="b", model="own")
    old = a_row(request_id="old", started_at=HOUR_AGO - 40 * 86_400, model="old")
    return [*plain, other, mixed, old]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("reports")
    with serving(folder, MODELS, max_body_bytes=64 * 1024) as served:
        book(served, *some_rows())
        yield served


def told(site: Served, path: str, **query: str | int) -> Any:
    response = site.client.get(f"/admin/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ({"by": "model"}, {"mixed": 1, "own": 1, "qwen": 6}),
        ({"by": "day"}, {DAY: 8}),
        ({"by": "key"}, {"key_000000000001": 7, "key_2": 1}),
        ({"by": "backend"}, {"b": 1, "ocr": 1, "qwen": 7}),
        ({"by": "model", "key": "key_2"}, {"own": 1}),
        ({"by": "model", "model": "qwen"}, {"qwen": 6}),
        ({"by": "model", "backend": "ocr"}, {"mixed": 1}),
        ({"by": "model", "since": "60d", "until": "30d"}, {"old": 1}),
    ],
)
def test_usage_is_added_up_as_asked(site: Served, query: dict[str, str], groups: dict[str, int]) -> None:
    answer = told(site, "usage", **query)
    assert answer["by"] == query["by"]
    assert {group[query["by"]]: group["requests"] for group in answer["data"]} == groups


def test_sums_carry_micros_and_yuan(site: Served) -> None:
    [group] = told(site, "usage", by="model", model="qwen")["data"]
    assert (group["cost_micros"], group["cost_yuan"], group["input_tokens"]) == (38_400, "0.038400", 6000)


def test_pages_of_requests_hold_each_once_newest_first(site: Served) -> None:
    pages, after = [], None
    while True:
        page = told(site, "requests", limit=3, **({"after": after} if after else {}))
        pages.append([row["request_id"] for row in page["data"]])
        after = page["next"]
        if after is None:
            break
    assert pages == [["mixed", "other", "r5"], ["r4", "r3", "r2"], ["r1", "r0"]]


def test_requests_are_narrowed_down_and_carry_their_attempts(site: Served) -> None:
    [row] = told(site, "requests", backend="ocr")["data"]
    assert [(each["backend"], each["cost_micros"]) for each in row["attempts"]] == [("ocr", None), ("qwen", 6_400)]
    assert told(site, "requests", key="key_2", model="qwen")["data"] == []


def test_one_request_is_shown_with_what_backends_said(site: Served) -> None:
    row = told(site, "requests/mixed")
    assert (row["model"], len(row["attempts"]), row["detail"]) == ("mixed", 2, None)
    failed = site.chat(model="m")
    assert failed.status_code == 503
    deadline = time.monotonic() + 5
    while (shown := told(site, f"requests/{failed.headers['x-request-id']}"))["detail"] is None:
        assert time.monotonic() < deadline, "details were not written"
    assert shown["detail"]["faults"][0]["backend"] == "gone"
    assert "unknown" in refused(site.client.get("/admin/requests/unknown"), 404)["message"]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("usage?by=moon", "by"), ("usage?since=yesterday", "since"), ("usage?until=2026-13-01", "until"),
        ("usage?sinse=7d", "sinse"), ("requests?limit=0", "limit"), ("requests?limit=501", "limit"),
        ("requests?after=x", "after"), ("export?form=xml", "form"), ("export?since=", "since"),
    ],
)  # fmt: skip
def test_question_that_cannot_be_meant_is_named(site: Served, path: str, param: str) -> None:
    assert refused(site.client.get(f"/admin/{path}"))["param"] == param


def test_export_is_a_file_of_every_request(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_PAGE_ROWS", 3)
    response = site.client.get("/admin/export")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="tuwen-usage.csv"'
    rows = list(csv.DictReader(io.StringIO(response.text)))
    ours = [row["request_id"] for row in rows if row["request_id"] in {each.request_id for each in some_rows()}]
    assert ours == ["mixed", "other", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert rows[-1]["cost_yuan"] == "0.006400"


def test_export_in_json_lines_is_narrowed_down(site: Served) -> None:
    response = site.client.get("/admin/export", params={"form": "jsonl", "model": "mixed"})
    assert response.headers["content-type"] == "application/x-ndjson"
    [row] = map(json.loads, response.text.splitlines())
    assert (row["request_id"], len(row["attempts"])) == ("mixed", 2)
    assert site.client.get("/admin/export", params={"form": "jsonl", "model": "none"}).text == ""


BILL = f"请求ID,应付金额,账单日期\nup-0,0.0064,{DAY}\nup-1,0.0070,{DAY}\nup-x,1,{DAY}\nup-mixed,0.0064,{DAY}\n"


def reconciled(site: Served, bill: bytes, **query: str) -> httpx2.Response:
    headers = {"content-type": "text/csv"}
    return site.client.post("/admin/reconcile", params={"backend": "qwen", **query}, content=bill, headers=headers)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_bill_is_compared_with_the_ledger(site: Served, encoding: str) -> None:
    result = reconciled(site, BILL.encode(encoding)).json()
    assert (result["by"], result["lines"], result["matched"]) == ("request", 4, 2)
    assert [(each["name"], each["drift_micros"]) for each in result["dearer"]] == [("up-1", 600)]
    assert [each["name"] for each in result["missing_in_ledger"]] == ["up-x"]
    assert [each["name"] for each in result["missing_in_bill"]] == ["up-2", "up-3", "up-4", "up-5"]
    assert result["drift_micros"] == 600 + 1_000_000 - 4 * 6_400
    assert result["bill_micros"] - result["booked_micros"] == result["drift_micros"]


def test_columns_and_period_of_a_bill_can_be_named(site: Served) -> None:
    result = reconciled(
        site, b"no,netto\nup-0,0.0064\n", id_column="no", amount_column="netto", since="60d", until="30d"
    )
    assert [each["request_ids"] for each in result.json()["missing_in_bill"]] == [["old"]]
    assert [each["name"] for each in result.json()["missing_in_ledger"]] == ["up-0"]


def test_what_is_no_bill_is_told(site: Served) -> None:
    assert "Line 2" in refused(reconciled(site, b"id,amount\nr,free\n"))["message"]
    assert refused(reconciled(site, b""))["param"] == "bill"
    assert refused(site.client.post("/admin/reconcile", content=b"id,amount\nr,1\n"))["param"] == "backend"
    assert refused(reconciled(site, BILL.encode(), since="moon"))["param"] == "since"
    refused(reconciled(site, b"x" * (64 * 1024 + 1)), 413)
    form = site.client.post("/admin/reconcile?backend=qwen", files={"bill": BILL.encode()})
    assert "--data-binary" in refused(form, 415)["message"]
