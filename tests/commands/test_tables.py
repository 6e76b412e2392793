"""Tables, on terminals of several widths and elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from app.commands.tables import print_table

COLUMNS = ("NAME", "LIMITS", "MODELS", ">COST")
ROWS = [("one", "", "first-vision, second-vision", "1.00"), ("二号", "", "third-vision", "10.00")]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """The lines of the table on a terminal so many characters wide; 0: not on a terminal."""

    def lines(width_chars: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width_chars or 20))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: width_chars > 0)
        print_table(COLUMNS, ROWS, total=("total", "", "", "11.00"))
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return lines


WHOLE = [
    "NAME   MODELS                        COST",
    "one    first-vision, second-vision   1.00",
    "二号   third-vision                 10.00",
    "total                               11.00",
]


@pytest.mark.parametrize("width_chars", [0, 41, 80])
def test_row_has_one_line_where_there_is_room(printed: Callable[[int], list[str]], width_chars: int) -> None:
    assert printed(width_chars) == WHOLE


def test_narrow_terminal_gets_cells_of_several_lines_broken_between_words(printed: Callable[[int], list[str]]) -> None:
    assert printed(28) == [
        "NAME   MODELS           COST",
        "one    first-vision,    1.00",
        "       second-vision",
        "二号   third-vision    10.00",
        "total                  11.00",
    ]


def test_terminal_too_narrow_for_the_longest_words_is_left_to_break_the_lines(
    printed: Callable[[int], list[str]],
) -> None:
    assert printed(20) == WHOLE


def test_table_without_rows_has_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [])
    assert capsys.readouterr().out == "NAME  LIMITS  MODELS  COST\n"
