from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.check_coverage import main


def covered_file(lines: int, missing: list[int] = [], branches: list[list[int]] = []) -> dict[str, Any]:  # noqa: B006 - read only
    """A file of a coverage report in which `missing` lines and `branches` were not run."""
    return {
        "missing_lines": missing,
        "missing_branches": branches,
        "summary": {
            "num_statements": lines,
            "covered_lines": lines - len(missing),
            "num_branches": 10,
            "covered_branches": 10 - len(branches),
        },
    }


def status_of(tmp_path: Path, files: dict[str, Any]) -> int:
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": files}))
    return main([str(report)])


def test_a_gap_in_the_core_is_refused_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"app/core/money.py": covered_file(1000, [17, 20, 21, 22]), "app/main.py": covered_file(10)}
    assert status_of(tmp_path, files) == 1
    assert "app/core/money.py: 99.6 %, not run: 17, 20-22" in capsys.readouterr().out


def test_a_branch_never_taken_in_a_backend_is_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(tmp_path, {"app/backends/ocr.py": covered_file(1000, [], [[4, 9]])}) == 1
    assert "not run: 4->9" in capsys.readouterr().out


def test_gaps_elsewhere_are_allowed_up_to_five_percent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"app/accounts/keys.py": covered_file(90)}
    assert status_of(tmp_path, whole | {"app/main.py": covered_file(90, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])}) == 0
    assert "95.0 % overall" in capsys.readouterr().out
    assert status_of(tmp_path, whole | {"app/main.py": covered_file(90, list(range(1, 12)))}) == 1
    assert "misses most: app/main.py" in capsys.readouterr().out


def test_an_empty_report_is_no_success(tmp_path: Path) -> None:
    assert status_of(tmp_path, {}) == 1
