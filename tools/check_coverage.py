"""Holds the coverage of the tests to its bounds: `python tools/check_coverage.py .coverage.json`.

Reads what `coverage json` wrote. `app/core`, `app/backends` and `app/accounts` are pure, so every line and branch of
them can be reached and must be; the whole may miss 5 %.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

WHOLE = ("app/core/", "app/backends/", "app/accounts/")
OVERALL_PERCENT = 95.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of one file was run. A branch is written as (from line, to line); a negative line is the function's exit."""

    path: str
    covered: int
    total: int
    missing_lines: tuple[int, ...]
    missing_branches: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        branches = [f"{start}->{end}" for start, end in self.missing_branches if start not in self.missing_lines]
        missing = list(spans(self.missing_lines)) + branches
        return f"{self.path}: {percent(self.covered, self.total):.1f} %, not run: {', '.join(missing)}"


def spans(lines: Sequence[int]) -> Iterator[str]:
    """Ascending numbers written short: 3, 4, 5, 9 as 3-5, 9."""
    for _, run in groupby(enumerate(lines), key=lambda pair: pair[1] - pair[0]):
        numbers = [line for _, line in run]
        yield str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def percent(covered: int, total: int) -> float:
    return 100.0 * covered / total if total else 100.0


def read_report(report: Mapping[str, Any]) -> list[Coverage]:
    """The files of a coverage report. Lines and branches count alike, as in coverage's own percentage."""
    return [
        Coverage(
            path=path.replace("\\", "/"),
            covered=file["summary"]["covered_lines"] + file["summary"].get("covered_branches", 0),
            total=file["summary"]["num_statements"] + file["summary"].get("num_branches", 0),
            missing_lines=tuple(file["missing_lines"]),
            missing_branches=tuple((start, end) for start, end in file.get("missing_branches", ())),
        )
        for path, file in sorted(report["files"].items())
    ]


def verdict(files: list[Coverage]) -> tuple[bool, list[str]]:
    """Whether the bounds hold, and the lines that say so. The files that miss most come first."""
    gaps = [file for file in files if file.path.startswith(WHOLE) and file.covered < file.total]
    overall = percent(sum(file.covered for file in files), sum(file.total for file in files))
    lines = [f"must be run whole: {file}" for file in gaps]
    if overall < OVERALL_PERCENT:
        partial = sorted((file for file in files if file.covered < file.total), key=lambda f: f.covered - f.total)
        lines += [f"misses most: {file}" for file in partial[:10]]
    lines.append(
        f"coverage: {overall:.1f} % overall ({OVERALL_PERCENT:.0f} needed), "
        f"{len(gaps)} gaps in core, backends and accounts (0 allowed)"
    )
    return not gaps and overall >= OVERALL_PERCENT, lines


def main(arguments: list[str]) -> int:
    """Prints the verdict; the exit status is 1 if a bound does not hold."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if not report["files"]:
        print("check_coverage: the report names no file", file=sys.stderr)
        return 1
    holds, lines = verdict(read_report(report))
    print("\n".join(lines))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
