"""`tuwen export`: every request of a period."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app.accounts import reports
from tests.accounts.records import a_row, an_attempt

Tuwen = Callable[..., Result]
Booked = Callable[..., None]

HOUR_AGO = time.time() - 3600


@pytest.fixture
def seven_rows(booked: Booked, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take several pages."""
    monkeypatch.setattr(reports, "_PAGE_ROWS", 3)
    booked(
        *(a_row(request_id=f"r{at}", started_at=HOUR_AGO + at, attempts=(an_attempt(),)) for at in range(6)),
        a_row(request_id="=other", started_at=HOUR_AGO + 6, key_id="key_2", model="own", backend="b"),
        a_row(request_id="old", started_at=HOUR_AGO - 40 * 86_400),
    )


@pytest.mark.usefixtures("seven_rows")
def test_csv_holds_every_request_once_newest_first(tuwen: Tuwen) -> None:
    rows = list(csv.DictReader(tuwen("export").stdout.splitlines()))
    assert [row["request_id"] for row in rows] == ["'=other", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert (rows[1]["cost_micros"], rows[1]["cost_yuan"], rows[1]["key_id"]) == ("6400", "0.006400", "key_000000000001")


@pytest.mark.usefixtures("seven_rows")
def test_json_lines_hold_the_backends_that_were_asked(tuwen: Tuwen) -> None:
    rows = [json.loads(line) for line in tuwen("export", "--form", "jsonl").stdout.splitlines()]
    assert len(rows) == 7
    assert [attempt["backend"] for attempt in rows[1]["attempts"]] == ["qwen"]


@pytest.mark.usefixtures("seven_rows")
@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--key", "key_2"), 1),
        (("--model", "own"), 1),
        (("--backend", "qwen"), 6),
        (("--since", "60d"), 8),
        (("--since", "60d", "--until", "30d"), 1),
        (("--since", "0h"), 0),
    ],
)
def test_export_is_of_what_was_asked_for(tuwen: Tuwen, words: tuple[str, ...], count: int) -> None:
    assert len(tuwen("export", *words).stdout.splitlines()) == 1 + count


@pytest.mark.usefixtures("seven_rows")
def test_export_goes_into_a_file(tuwen: Tuwen, tmp_path: Path) -> None:
    result = tuwen("export", "--out", str(tmp_path / "rows.csv"))
    assert (result.stdout, result.stderr) == ("", f"Wrote 7 requests to {tmp_path / 'rows.csv'}.\n")
    assert (tmp_path / "rows.csv").read_text().count("\n") == 8


@pytest.mark.usefixtures("seven_rows")
def test_file_that_cannot_be_written_is_named(tuwen: Tuwen, tmp_path: Path) -> None:
    result = tuwen("export", "--out", str(tmp_path / "nowhere" / "rows.csv"))
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path / 'nowhere' / 'rows.csv'}: no such file or directory.\n"
