"""The line of every key, in files as people write them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.config.locate import KeyPath, key_lines

REALISTIC = '''\
# comment, with "quotes" and [brackets]

[backends.qwen]          # a header with a comment
kind = "openai"
base_url = "https://dashscope.example/v1#not-a-comment"
limits = { rpm = 60, "tpm" = 1_000, concurrency = 2 }
note = """
[not.a.header]
key = "not a key" \\""" still inside
"""
literal = \'\'\'
it's "fine"
\'\'\'
released = 1979-05-27 07:32:00

[models."qwen2.5-vl"]
routes = [
  { backend = "qwen", model = "a" },   # first
  # a comment of its own line
  { backend = "qwen", model = "b" },
]
tariff.input_per_million = "4.00"
tariff . output_per_million = "12.00"
aliases = ["x,]}", 'y#', ]

[models.'single "quoted"'.limits]
rpm = 1

[[extra.list]]
a = 1
[extra.list.deep]
b = 2
[[extra.list]]
a = 3
[extra.list.deep]
b = 4
"esc\\u0061ped" = true
empty = []
none = {}
nested = [[1, 2], [{ x = [3] }]]
'''


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found |= paths_of(child, (*path, key))
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("backends", "qwen"), 3),
        (("backends", "qwen", "base_url"), 5),
        (("backends", "qwen", "limits", "tpm"), 6),
        (("backends", "qwen", "literal"), 11),
        (("backends", "qwen", "released"), 14),
        (("models", "qwen2.5-vl"), 16),
        (("models", "qwen2.5-vl", "routes"), 17),
        (("models", "qwen2.5-vl", "routes", 0, "model"), 18),
        (("models", "qwen2.5-vl", "routes", 1), 20),
        (("models", "qwen2.5-vl", "routes", 1, "model"), 20),
        (("models", "qwen2.5-vl", "tariff"), 22),
        (("models", "qwen2.5-vl", "tariff", "output_per_million"), 23),
        (("models", "qwen2.5-vl", "aliases", 1), 24),
        (("models", 'single "quoted"', "limits", "rpm"), 27),
        (("extra", "list", 0, "deep", "b"), 32),
        (("extra", "list", 1, "a"), 34),
        (("extra", "list", 1, "deep", "b"), 36),
        (("extra", "list", 1, "deep", "escaped"), 37),
        (("extra", "list", 1, "deep", "nested", 1, 0, "x", 0), 40),
    ],
)
def test_every_key_has_the_line_it_stands_on(path: KeyPath, line: int) -> None:
    assert key_lines(REALISTIC)[path] == line


@pytest.mark.parametrize("text", [REALISTIC, REALISTIC.replace("\n", "\r\n"), "", "# only a comment", "a = 1"])
def test_the_keys_found_are_the_keys_tomllib_finds(text: str) -> None:
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))


def test_the_keys_of_the_built_in_file_are_the_keys_tomllib_finds() -> None:
    text = (Path(__file__).parents[2] / "models.toml").read_text(encoding="utf-8")
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))


def test_strings_that_end_in_quotes_end_where_they_end() -> None:
    text = 'a = """x"""""\nb = \'\'\'y\'\'\'\'\nc = ""\nd = 4\n'
    assert tomllib.loads(text)["d"] == 4
    assert key_lines(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}


def test_text_that_is_no_toml_is_not_walked_forever() -> None:
    with pytest.raises(ValueError, match="line 2"):
        key_lines('a = 1\nb = "open')
