"""The pair that chat clients of the one-api family read. They show the limit less the usage as what is left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_admin import MODELS
from tests.api.test_usage import with_usage
from tests.support.server import Served, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("billing")
    with serving(folder, MODELS) as served:
        yield served


def read(site: Served, prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """What a client reads: the subscription, and the usage of the last 99 days."""
    dates = {"start_date": "2026-08-20", "end_date": "2026-11-28"}
    subscription = site.client.get(f"{prefix}/dashboard/billing/subscription", headers=site.headers)
    usage = site.client.get(f"{prefix}/dashboard/billing/usage", params=dates, headers=site.headers)
    return subscription.json(), usage.json()


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_limit_less_usage_is_what_is_left(site: Served, prefix: str) -> None:
    spender = with_usage(site, budget="10", expires="2099-12-31")
    subscription, usage = read(spender, prefix)
    assert subscription == {
        "object": "billing_subscription",
        "has_payment_method": True,
        "soft_limit_usd": 10.0,
        "hard_limit_usd": 10.0,
        "system_hard_limit_usd": 10.0,
        "access_until": int(datetime(2100, 1, 1).astimezone().timestamp()),
    }
    assert usage == {"object": "list", "total_usage": 30.64}
    left_micros = spender.client.get("/v1/usage", headers=spender.headers).json()["balance"]["left_micros"]
    assert subscription["hard_limit_usd"] - usage["total_usage"] / 100 == pytest.approx(left_micros / 1_000_000)


def test_key_without_a_limit_says_what_clients_know_as_none(site: Served) -> None:
    subscription, usage = read(with_usage(site, day_budget="5"))
    assert (subscription["hard_limit_usd"], subscription["access_until"]) == (100_000_000, 0)
    assert usage["total_usage"] == 30.64
