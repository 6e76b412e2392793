"""GET /v1/usage and the one-api pair: what a key used, told to whoever holds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.accounts.records import a_row, an_attempt
from tests.api.bookings import book
from tests.api.test_admin import MODELS, refused
from tests.support.server import Served, serving

NOW = float(round(time.time())) + 0.25
TODAY = time.strftime("%Y-%m-%d", time.localtime(NOW))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("usage")
    with serving(folder, MODELS) as served:
        yield served


def with_usage(site: Served, **terms: Any) -> Served:
    """The gateway asked with a key that has spent 0.30 yuan today and 0.0064 forty days ago."""
    key, key_id = site.new_key("spender", **terms)
    for at, cost_micros, model in ((NOW - 40 * 86_400, 6_400, "old"), (NOW, 300_000, "qwen")):
        day = time.strftime("%Y-%m-%d", time.localtime(at))
        row = a_row(
            request_id=f"{key_id}-{model}", key_id=key_id, started_at=at, day=day, model=model, hold_micros=400_000,
            cost_micros=cost_micros, attempts=(an_attempt(cost_micros=cost_micros),),
        )  # fmt: skip
        book(site, row)
    return site.as_key(key)


def usage(site: Served, **query: str) -> dict[str, Any]:
    response = site.client.get("/v1/usage", params=query, headers=site.headers)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def test_key_sees_where_it_stands_and_what_it_used(site: Served) -> None:
    told = usage(with_usage(site, budget="10", day_budget="1"))
    balance = told["balance"]
    assert (told["object"], told["currency"], told["key"]["name"]) == ("usage", "CNY", "spender")
    assert (balance["budget_micros"], balance["spent_micros"], balance["held_micros"]) == (10_000_000, 306_400, 0)
    assert (balance["day"], balance["day_micros"], balance["left_micros"]) == (TODAY, 300_000, 700_000)
    assert [(group["model"], group["cost_micros"]) for group in told["by_model"]] == [("qwen", 300_000)]
    assert [(group["day"], group["requests"]) for group in told["by_day"]] == [(TODAY, 1)]


def test_usage_of_another_period_is_asked_for(site: Served) -> None:
    told = usage(with_usage(site), since="60d", until="30d")
    assert [group["model"] for group in told["by_model"]] == ["old"]
    assert datetime.fromisoformat(told["since"]) < datetime.fromisoformat(told["until"])
    assert (told["balance"]["budget_micros"], told["balance"]["left_micros"]) == (None, None)


def test_key_sees_nothing_of_others(site: Served) -> None:
    with_usage(site)
    mine, _ = site.new_key()
    told = usage(site.as_key(mine), since="60d")
    assert (told["by_day"], told["by_model"], told["balance"]["spent_micros"]) == ([], [], 0)


@pytest.mark.parametrize("path", ["/v1/usage", "/dashboard/billing/subscription", "/v1/dashboard/billing/usage"])
def test_usage_needs_a_key(site: Served, path: str) -> None:
    assert refused(site.client.get(path, headers={"authorization": "Bearer none"}), 401)["code"] == "invalid_api_key"


def test_time_that_is_none_is_named(site: Served) -> None:
    assert refused(site.client.get("/v1/usage?since=moon"))["param"] == "since"
    assert refused(site.client.get("/v1/usage?key=key_2"))["param"] == "key"


def test_where_nobody_needs_a_key_nothing_is_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, MODELS, open_access=True) as site:
        told = site.client.get("/v1/usage", headers={"authorization": ""}).json()
        assert told["balance"]["left_micros"] is None
        billing = site.client.get("/dashboard/billing/subscription", headers={"authorization": ""}).json()
        assert (billing["hard_limit_usd"], billing["access_until"]) == (100_000_000, 0)
        refused(site.client.get("/admin/keys", headers={"authorization": ""}), 401)
        assert site.client.get("/admin/keys").status_code == 200
