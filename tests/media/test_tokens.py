from __future__ import annotations

import pytest

from app.core.types import Detail
from app.media.tokens import TextTokens, image_tokens, text_tokens

TABLE = [  # width, height, Qwen2.5-VL usual and largest, Qwen3-VL, DeepSeek-VL2, Ark low and high
    (28, 28, 4, 4, 64, 421, 1, 1),
    (100, 100, 16, 16, 64, 421, 12, 12),
    (512, 512, 324, 324, 256, 1023, 334, 334),
    (640, 480, 391, 391, 300, 1023, 391, 391),
    (1024, 768, 999, 999, 768, 1415, 1003, 1003),
    (1280, 720, 1196, 1196, 880, 1807, 1175, 1175),
    (1920, 1080, 1222, 2691, 2040, 1807, 1312, 2644),
    (1080, 1920, 1222, 2691, 2040, 1835, 1312, 2644),
    (4000, 3000, 1230, 15301, 2494, 2017, 1312, 5120),
]


@pytest.mark.parametrize(("width", "height", "usual", "largest", "qwen3", "deepseek", "low", "high"), TABLE)
def test_published_check_values_hold(  # noqa: PLR0917 - one argument for each column of the table
    width: int, height: int, usual: int, largest: int, qwen3: int, deepseek: int, low: int, high: int
) -> None:
    assert image_tokens("qwen2.5-vl", width, height) == usual
    assert image_tokens("qwen2.5-vl", width, height, max_pixels=12_845_056) == largest
    assert image_tokens("qwen3-vl", width, height) == qwen3
    assert image_tokens("deepseek-vl2", width, height) == deepseek
    assert image_tokens("ark", width, height, "low") == low
    assert image_tokens("ark", width, height, "high") == high


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_flat_families_charge_every_picture_alike(detail: Detail) -> None:
    assert image_tokens("spark-general", 10, 10, detail) == image_tokens("spark-general", 4000, 3000, detail) == 273
    assert image_tokens("glm-4v", 10, 10, detail) == image_tokens("glm-4v", 4000, 3000, detail) == 1030


def test_ark_takes_auto_for_low() -> None:
    assert image_tokens("ark", 4000, 3000, "auto") == 1312


def test_unknown_family_counts_as_qwen() -> None:
    assert image_tokens("default", 1024, 768) == image_tokens("what", 1024, 768) == 999


def test_third_picture_turns_deepseek_tiling_off() -> None:
    assert image_tokens("deepseek-vl2", 4000, 3000, image_count=2) == 2017
    assert image_tokens("deepseek-vl2", 4000, 3000, image_count=3) == 421


@pytest.mark.parametrize(
    "family", ["qwen2.5-vl", "qwen3-vl", "deepseek-vl2", "ark", "glm-4v", "spark-general", "default"]
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (16_384, 1), (1, 16_384), (7000, 7000)])
def test_every_picture_costs_something_sensible(family: str, width: int, height: int) -> None:
    assert 1 <= image_tokens(family, width, height) <= 16_384


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("The quick brown fox jumps over the lazy dog", 11),
        ("图问", 2),
        ("这张图里写了什么？", 6),
        ("日本語のテキスト", 6),
        ("한국어", 2),
        ("发票 invoice", 4),
        ("😀😀😀", 2),
    ],
)
def test_text_is_counted_by_script(text: str, tokens: int) -> None:
    assert text_tokens(text) == tokens


@pytest.mark.parametrize("text", ["The quick brown fox", "这张图里写了什么？", "发票 invoice 😀 ½"])
def test_text_that_comes_in_pieces_counts_as_much_as_the_whole(text: str) -> None:
    counted = TextTokens()
    for piece in [*text, ""]:
        counted.add(piece)
    assert counted.tokens == text_tokens(text)
