"""A fleet shares its records, and its gateways come back where they were."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.callers import Question, ask_all
from tests.support.fleet import Fleet, Key, fleet
from tests.support.metered import Metered, metered
from tests.support.services import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


def models_of(upstream: Metered) -> str:
    return f"""
[backends.metered]
kind = "openai"
base_url = "{upstream.base_url}"

[models."m-*"]
routes = [{{ backend = "metered", model = "*" }}]
tariff = {{ input_per_million = "1000.00", output_per_million = "50000.00" }}
"""


def _served_by_all(gateways: Fleet, key: Key) -> list[int]:
    questions = [Question(url, key.key, f"m-0-0-3-x{time.time_ns()}") for url in gateways.urls for _ in range(2)]
    return [got.status for got in ask_all(questions)]


def test_gateway_comes_back_on_its_port_with_its_records_after_a_kill(tmp_path: Path) -> None:
    with metered() as upstream, fleet(tmp_path, models_of(upstream)) as one:
        (node,) = one.nodes
        key = one.new_key("caller", "--budget", "1000.00")
        assert _served_by_all(one, key) == [200, 200]
        url = node.base_url
        node.kill()
        assert _served_by_all(one, key) == [0, 0]
        one.start([node])
        assert node.base_url == url
        assert _served_by_all(one, key) == [200, 200]
        rows = one.records.requests()
        assert [(row.key_id, row.state, row.output_tokens) for row in rows] == [(key.id, "settled", 3)] * 4
        assert {row.model for row in rows} == {seen.model for seen in upstream.log()}
        assert {row.backend_request_id for row in one.records.attempts()} == {
            seen.response_id for seen in upstream.log()
        }
        assert one.records.unbalanced() == {}


def test_gateways_over_postgres_share_keys_and_records(tmp_path: Path, postgres_url: str) -> None:
    with metered() as upstream, fleet(tmp_path, models_of(upstream), count=2, database_url=postgres_url) as both:
        key = both.new_key("caller")
        assert _served_by_all(both, key) == [200] * 4
        assert len(both.records.requests()) == 4
        assert both.records.unbalanced() == {}
        assert both.records.balances()[key.id].spent_micros == sum(row.cost_micros for row in both.records.requests())
