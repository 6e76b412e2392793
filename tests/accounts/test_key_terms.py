"""What an operator may write about a key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from app.accounts.balances import Budget
from app.accounts.key_terms import Terms, read_credit, read_name, read_note, read_terms, read_top_up_id
from app.core.errors import InvalidRequest
from app.core.limits import Limits

NOW = datetime(2026, 11, 28, 12).astimezone().timestamp()


def test_terms_hold_what_was_written_and_nothing_else() -> None:
    assert read_terms({}, now=NOW) == Terms()
    terms = read_terms({"budget": "10.00", "rpm": 60, "owner": " ops "}, now=NOW)
    assert terms.fields == {"rpm": 60, "owner": "ops"}
    assert terms.bounds == {"total_micros": 10_000_000}
    assert (terms.budget, terms.limits) == (Budget(total_micros=10_000_000), Limits(rpm=60))


def test_every_term_is_read() -> None:
    written = {
        "name": " laptop ", "models": ["m", "q-*", "m"], "tags": ["a", "a", "b"], "expires": "2026-12-31",
        "tpm": "1000", "concurrency": 2, "day_budget": "1", "month_budget": "0.5",
        "model_limits": {"m": {"rpm": "5"}, "n": {"tpm": None}},
    }  # fmt: skip
    terms = read_terms(written, now=NOW)
    assert terms.fields == {
        "name": "laptop",
        "models": ("m", "q-*"),
        "tags": ("a", "b"),
        "expires_at": datetime(2027, 1, 1).astimezone().timestamp(),
        "tpm": 1000,
        "concurrency": 2,
        "model_limits": {"m": Limits(rpm=5)},
    }
    assert terms.bounds == {"day_micros": 1_000_000, "month_micros": 500_000}


def test_none_lifts() -> None:
    names = ("owner", "models", "tags", "expires", "budget", "rpm", "model_limits")
    terms = read_terms(dict.fromkeys(names), now=NOW)
    assert terms.fields == {
        "owner": "", "models": (), "tags": (), "expires_at": None, "rpm": None, "model_limits": {},
    }  # fmt: skip
    assert terms.bounds == {"total_micros": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", "x"), ("budget", "1000000000.000001"), ("rpm", 0), ("rpm", "-1"), ("rpm", "1" * 30), ("rpm", True),
        ("rpm", 1.5), ("models", [""]), ("models", ["*x"]), ("models", ["\n"]), ("models", ["x" * 257]),
        ("models", [str(number) for number in range(201)]), ("tags", ["x" * 101]), ("tags", ["\t"]), ("owner", "a\x00"),
        ("expires", "moon"), ("expires", "2026-11-27"), ("expires", "0h"), ("name", " "),
        ("model_limits", {"m": {"rps": 1}}), ("model_limits", {"": {}}), ("model_limits", {"m*": {"rpm": 1}}),
    ],
)  # fmt: skip
def test_term_that_cannot_be_meant_is_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_terms({name: value}, now=NOW)
    assert caught.value.param == name
    assert str(caught.value).isprintable()


def test_limit_of_a_model_is_named_with_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_terms({"model_limits": {"m": {"rpm": 0}}}, now=NOW)
    assert caught.value.param == "model_limits.m.rpm"


def test_credit_is_an_amount_with_or_without_a_minus() -> None:
    assert (read_credit("2.50"), read_credit("-0.000001")) == (2_500_000, -1)


@pytest.mark.parametrize("text", ["", "0", "-0.0", "--1", "- 1", "1e3", "+1"])
def test_what_is_nothing_to_credit_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_credit(text)
    assert caught.value.param == "amount"


def test_notes_and_ids_and_names_can_be_shown() -> None:
    assert (read_note("发票 7"), read_top_up_id("order-7"), read_name(" x ")) == ("发票 7", "order-7", "x")
    for read, text in ((read_note, "\n"), (read_note, "x" * 501), (read_top_up_id, ""), (read_top_up_id, "x" * 101)):
        with pytest.raises(InvalidRequest):
            read(text)
