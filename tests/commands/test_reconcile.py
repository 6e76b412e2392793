"""`tuwen reconcile`: a cloud's bill beside the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.accounts.records import a_row, an_attempt

Tuwen = Callable[..., Result]
Booked = Callable[..., None]

BILL = "请求ID,应付金额,账单日期\nup-1,0.0064,2025-11-20\nup-2,0.0070004,2025-11-20\nup-9,1,2025-11-20\n"


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    path = tmp_path / "bill.csv"
    path.write_bytes(BILL.encode("gbk"))
    return path


@pytest.fixture
def some_requests(booked: Booked) -> None:
    booked(
        *(
            a_row(
                request_id=f"r{number}",
                day="2025-11-20",
                attempts=(an_attempt(backend_request_id=f"up-{number}", cost_micros=6_400),),
            )
            for number in (1, 2, 3)
        ),
        a_row(request_id="other", day="2025-11-20", attempts=(an_attempt(backend="ocr"),)),
    )


@pytest.mark.usefixtures("some_requests")
def test_drift_is_shown_with_what_makes_it_up(tuwen: Tuwen, bill: Path) -> None:
    lines = tuwen("reconcile", str(bill), "--backend", "qwen").stdout.splitlines()
    cells = [line.split() for line in lines]
    assert ["dearer", "than", "booked", "up-2", "0.007000", "0.006400", "0.000600", "r2"] in cells
    assert ["not", "in", "the", "ledger", "up-9", "1.000000", "0.000000", "1.000000"] in cells
    assert ["not", "in", "the", "bill", "up-3", "0.000000", "0.006400", "-0.006400", "r3"] in cells
    assert "Compared 3 lines by request; 1 requests agree." in lines
    assert "1 amounts of the bill were finer than a micro-yuan; each was rounded half up." in lines
    assert lines[-1] == "The bill wants 1.013400 yuan, booked are 0.019200; the drift is 0.994200."


@pytest.mark.usefixtures("some_requests")
def test_json_holds_all_that_differs(tuwen: Tuwen, bill: Path) -> None:
    result = json.loads(tuwen("reconcile", str(bill), "--backend", "qwen", "--json").stdout)
    assert (result["by"], result["matched"], result["drift_micros"]) == ("request", 1, 994_200)
    assert [entry["name"] for entry in result["missing_in_bill"]] == ["up-3"]
    assert result["dearer"][0]["drift_micros"] == 600


@pytest.mark.usefixtures("some_requests")
def test_columns_can_be_named_and_days_compared(tuwen: Tuwen, tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    path.write_text("when,netto\n2025-11-20,0.019200\n2025-11-21,1\n")
    words = ("--backend", "qwen", "--day-column", "when", "--amount-column", "netto")
    result = tuwen("reconcile", str(path), *words)
    assert "Compared 2 lines by day; 1 days agree." in result.stdout
    assert "the drift is 1.000000." in result.stdout


@pytest.mark.usefixtures("some_requests")
def test_line_that_stands_twice_is_shown(tuwen: Tuwen, bill: Path) -> None:
    bill.write_bytes((BILL + "up-1,0.0064,2025-11-20\n").encode("gbk"))
    result = tuwen("reconcile", str(bill), "--backend", "qwen").stdout
    assert "1 lines stand twice: 0.006400 yuan." in result
    assert "line 5" in result


@pytest.mark.usefixtures("some_requests")
def test_period_that_is_given_decides_what_is_missing_in_the_bill(tuwen: Tuwen, bill: Path) -> None:
    words = ("--backend", "qwen", "--json", "--since", "2025-12-01", "--until", "2025-12-02")
    assert json.loads(tuwen("reconcile", str(bill), *words).stdout)["missing_in_bill"] == []


@pytest.mark.usefixtures("some_requests")
def test_long_lists_are_cut_on_the_terminal_and_say_so(tuwen: Tuwen, tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    path.write_text("id,amount\n" + "".join(f"x{number},1\n" for number in range(25)))
    result = tuwen("reconcile", str(path), "--backend", "qwen").stdout
    assert "5 more; see --json" in result
    assert "25 requests not in the ledger: 25.000000 yuan." in result


def test_what_is_not_to_be_read_is_told_in_a_line(tuwen: Tuwen, booked: Booked, tmp_path: Path) -> None:
    booked()
    path = tmp_path / "bill.csv"
    path.write_text("id,amount\nr1,free\n")
    result = tuwen("reconcile", str(path), "--backend", "qwen")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Line 2 of the bill: 'free'")
    assert tuwen("reconcile", str(tmp_path / "none.csv"), "--backend", "qwen").stderr.endswith(
        "no such file or directory.\n"
    )


@pytest.mark.usefixtures("some_requests")
def test_what_had_no_tariff_is_told(tuwen: Tuwen, booked: Booked, bill: Path) -> None:
    free = an_attempt(backend_request_id="up-9", tariff="null", cost_micros=0)
    booked(a_row(request_id="r9", day="2025-11-20", attempts=(free,)))
    result = tuwen("reconcile", str(bill), "--backend", "qwen").stdout
    assert "1 times the backend was asked without a tariff" in result
    assert "no tariff" in result


@pytest.mark.usefixtures("some_requests")
def test_backend_that_was_never_asked_is_told(tuwen: Tuwen, bill: Path) -> None:
    result = tuwen("reconcile", str(bill), "--backend", "qwem")
    assert result.stderr.startswith("Nothing was booked for the backend qwem in that time.")
    assert tuwen("reconcile", str(bill), "--backend", "qwen").stderr == ""
