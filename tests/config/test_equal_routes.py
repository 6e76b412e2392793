"""Several accounts at one backend, routes that share their place, and clocks of a backend's own."""

from __future__ import annotations

import pytest

from app.config.catalog import Pace, Route
from app.config.report import backend_rows, routing_rows
from app.core.limits import Limits
from tests.config.conftest import Desk

TWO_ACCOUNTS = """
[backends.pool]
kind = "openai"
base_url = "https://pool.example/v1"
limits = { rpm = 60 }
accounts = [{ api_key = "env::FIRST" }, { api_key = "env::SECOND", limits = { rpm = 600 } }]

[models.m]
routes = [{ backend = "pool", model = "remote" }, { backend = "ocr", model = "rapidocr" }]
"""


def routes_of(desk: Desk, text: str) -> list[tuple[str, int, int]]:
    model = desk.load_with(text).find("m")
    assert model is not None
    return [(route.backend.name, route.rank, route.weight) for route in model.routes]


def test_each_account_is_a_backend_of_its_own_and_equal_to_the_others(desk: Desk) -> None:
    desk.environ = {"FIRST": "sk-1", "SECOND": "sk-2"}
    assert routes_of(desk, TWO_ACCOUNTS) == [("pool#1", 0, 1), ("pool#2", 0, 1), ("ocr", 1, 1)]
    backends = desk.load().backends
    assert "pool" not in backends
    assert [backends[name].limits for name in ("pool#1", "pool#2")] == [Limits(rpm=60), Limits(rpm=600)]
    keys = [getattr(backends[name].options, "api_key", None) for name in ("pool#1", "pool#2")]
    assert [key.get_secret_value() for key in keys if key] == ["sk-1", "sk-2"]


def test_account_without_its_variable_is_left_out_and_named(desk: Desk) -> None:
    desk.environ = {"SECOND": "sk-2"}
    model = desk.load_with(TWO_ACCOUNTS).find("m")
    assert model is not None
    assert [route.backend.name for route in model.usable_routes] == ["pool#2", "ocr"]
    missing = {row.name: row.missing_env for row in backend_rows(desk.load())}
    assert (missing["pool#1"], missing["pool#2"]) == (("FIRST",), ())


def test_neighbours_with_a_weight_share_their_place(desk: Desk) -> None:
    text = """
[models.m]
routes = [
  { backend = "ocr", model = "a", weight = 3 },
  { backend = "ocr", model = "b", weight = 1 },
  { backend = "ocr", model = "c" },
  { backend = "ocr", model = "d", weight = 2 },
  { backend = "ocr", model = "e", weight = 2 },
]
"""
    assert [(rank, weight) for _, rank, weight in routes_of(desk, text)] == [(0, 3), (0, 1), (1, 1), (2, 2), (2, 2)]
    rows = [(row.rank, row.weight) for row in routing_rows(desk.load()) if row.model == "m"]
    assert rows == [(1, 3), (1, 1), (2, None), (3, 2), (3, 2)]


def test_route_for_text_keeps_its_place(desk: Desk) -> None:
    text = '[models.m]\nroutes = [{ backend = "ocr", model = "a", weight = 3 }]\ntext_model = "t"\n'
    model = desk.load_with(text).find("m")
    assert model is not None
    [route] = model.routes
    assert route.for_text == Route(route.backend, "t", vision=False, rank=0, weight=3)


def test_backend_has_clocks_of_its_own(desk: Desk) -> None:
    catalog = desk.load_with('[backends.slow]\nkind = "ocr"\nclocks = { first_event_s = 300, idle_s = 90.5 }\n')
    assert catalog.backends["slow"].pace == Pace(None, 300, 90.5)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("accounts = 3", "backends.pool.accounts: must be a list of tables"),
        ("accounts = [3]", "backends.pool.accounts: must be a list of tables"),
        ('accounts = [{ api_kye = "x" }]', "backends.pool.accounts[0].api_kye: unknown key; did you mean api_key?"),
        ('accounts = [{ kind = "ocr" }]', "backends.pool.accounts[0].kind: belongs into the section"),
        ("accounts = [{}, { limits = { rpm = 0 } }]", "backends.pool.accounts[1].limits.rpm: "),
        ("clocks = { idle_s = 0 }", "backends.pool.clocks.idle_s: "),
        ("clocks = { idle = 5 }", "backends.pool.clocks.idle: unknown key; did you mean idle_s?"),
    ],
)
def test_mistakes_are_named_where_they_stand(desk: Desk, section: str, complaint: str) -> None:
    text = f'[backends.pool]\nkind = "openai"\nbase_url = "https://pool.example/v1"\n{section}\n'
    [line] = desk.complaints_about(text)
    assert complaint in line


@pytest.mark.parametrize("weight", ["0", "1001", '"3"'])
def test_weight_is_a_whole_number_within_bounds(desk: Desk, weight: str) -> None:
    text = f'[models.m]\nroutes = [{{ backend = "ocr", model = "a", weight = {weight} }}]\n'
    [line] = desk.complaints_about(text)
    assert 'models."m".routes[0].weight' in line or "models.m.routes[0].weight" in line
