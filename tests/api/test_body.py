"""The look over a body before it is decoded. Tried on the functions themselves: JSON has more shapes than requests."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.body import parse_body, top_level_keys
from app.api.intake import Intake
from app.core.errors import InvalidRequest

PLACE = Intake(1 << 30, now_s=time.monotonic).place()
REQUEST = '"model":"m","messages":[{"role":"user","content":"x"}]'

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '\\"', ":", "a:{", "]}", "?", "x" * 300, "y" * 300]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(words, values, max_size=6), st.booleans(), st.sampled_from([None, 0, "\t"]))
def test_keys_are_those_a_json_parser_finds(
    document: dict[str, Any], ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert top_level_keys(text.encode()) == set(document)


async def test_fields_with_long_names_are_ignored_like_others() -> None:
    _, unknown = await parse_body(f'{{{REQUEST},"{"k" * 300}":1,"{"j" * 300}":2}}'.encode(), PLACE)
    assert unknown == {"k" * 300: 1, "j" * 300: 2}


async def test_numbers_are_counted_too() -> None:
    with pytest.raises(InvalidRequest, match="too many"):
        await parse_body(f'{{{REQUEST},"skipped":[{"1.5," * 300_000}1]}}'.encode(), PLACE)


async def test_key_given_twice_is_found_quickly_among_many() -> None:
    many = ",".join(f'"{number}":1' for number in range(19_000))
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="`18999` is given twice"):
        await parse_body(f'{{{REQUEST},{many},"18999":1}}'.encode(), PLACE)
    assert time.process_time() - began < 0.5, "each key is compared with each other"


@pytest.mark.parametrize("written", ["a\nb\u202e", "x" * 100_000, "` - at `$.seed", " - at `$.seed` x"])
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"model":"m","messages":[{"role":%s,"content":"x"}]}', "messages[0].role"),
        ('{"model":"m","messages":[{"role":"user","content":[{"type":%s}]}]}', "messages[0].content[0].type"),
        ('{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":%s}', "tool_choice"),
    ],
)
async def test_callers_own_words_bend_neither_message_nor_param(body: str, param: str, written: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await parse_body((body % json.dumps(written)).encode(), PLACE)
    assert refusal.value.param == param
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


async def test_odd_key_given_twice_is_told_in_one_short_line() -> None:
    key = json.dumps("a\nb" * 1000)
    with pytest.raises(InvalidRequest) as refusal:
        await parse_body(f"{{{REQUEST},{key}:1,{key}:2}}".encode(), PLACE)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250
