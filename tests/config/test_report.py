"""The catalogue as rows."""

from __future__ import annotations

import pytest

from app.config.report import BackendRow, RoutingRow, backend_rows, routing_rows, tariff_words
from app.core.money import FREE, Tariff
from tests.config.conftest import Desk


def test_a_backend_row_says_what_is_missing_and_what_it_would_serve(desk: Desk) -> None:
    desk.environ = {}
    assert backend_rows(desk.load()) == [
        BackendRow("ocr", "ocr", True, (), ("qwen-vl", "local-ocr-vision")),
        BackendRow("qwen", "openai", False, ("QWEN_KEY",), ("qwen-vl",)),
    ]


def test_a_routing_row_says_rank_and_price(desk: Desk) -> None:
    desk.environ = {}
    assert routing_rows(desk.load()) == [
        RoutingRow(
            "qwen-vl", ("qwen-vl-vision",), 1, "qwen", "qwen-vl-plus", False, "in 4.29, out 12.86", ("QWEN_KEY",)
        ),
        RoutingRow("qwen-vl", ("qwen-vl-vision",), 2, "ocr", "rapidocr", True, "in 4.29, out 12.86"),
        RoutingRow("local-ocr-vision", (), 1, "ocr", "rapidocr", True, "free"),
    ]


@pytest.mark.parametrize(
    ("tariff", "words"),
    [
        (None, "unknown"),
        (FREE, "free"),
        (Tariff(16_000_000, 48_000_000, cached_per_million=1_500_000), "in 16.00, out 48.00, cached 1.50"),
        (Tariff(per_image=1_000, per_call=2_500_000), "0.001 a picture, 2.50 a call"),
    ],
)
def test_a_tariff_reads_as_a_price_list(tariff: Tariff | None, words: str) -> None:
    assert tariff_words(tariff) == words
