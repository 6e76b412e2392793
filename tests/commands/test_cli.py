"""What every command does alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from app import __version__
from app.commands.errors import OneLineErrors

Tuwen = Callable[..., Result]


def assert_failed(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("keys create", ("Missing argument", "tuwen keys create --help")),
        ("keys", ()),
        ("serve --port red", ("--port", "integer")),
        ("usage --by moon", ("'--by': 'moon' is not one of 'day', 'model', 'key', 'backend'. See",)),
        ("paint", ("No such command 'paint'. See",)),
        ("aks", ("Did you mean 'ask'? See 'tuwen --help'.",)),
        ("usage --json --csv", ("Choose one",)),
    ],
)
def test_command_typed_wrongly_gets_one_line_and_exit_code_2(line: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "app.cli", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words)
    if words:
        assert done.stderr.count("\n") == 1


def test_setting_that_is_wrong_gets_one_line_that_names_it(tuwen: Tuwen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_PORT", "red")
    assert_failed(tuwen("keys", "list"), 1, "TUWEN_PORT", "red")


def test_secret_that_is_none_gets_one_line(tuwen: Tuwen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_SECRET", "hunter2")
    assert_failed(tuwen("keys", "create", "laptop"), 1, "too short")


def test_records_that_are_missing_are_not_made_by_looking(tuwen: Tuwen, data_dir: Path) -> None:
    for words in (("keys", "list"), ("keys", "revoke", "key_1"), ("usage",), ("usage", "--rows", "3")):
        assert_failed(tuwen(*words), 1, str(data_dir / "tuwen.db"), "TUWEN_DATA_DIR")
    assert not data_dir.exists()


def test_records_that_are_no_database_get_one_line(tuwen: Tuwen, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "tuwen.db").write_text("a letter to my aunt, longer than the header of a database" * 10)
    assert_failed(tuwen("usage"), 1, "not a database")


@pytest.mark.parametrize(
    ("raised", "exit_code", "line"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a.png"),
            1,
            "a.png: no such file or directory.\n",
        ),
        (OSError("no file in sight"), 1, "no file in sight\n"),
        (typer.Abort(), 1, ""),
        (KeyboardInterrupt(), 130, ""),
        (typer.TyperException("told"), 1, "told\n"),
    ],
)
def test_whatever_ends_a_command_there_is_no_traceback(raised: BaseException, exit_code: int, line: str) -> None:
    app = typer.Typer(cls=OneLineErrors)

    @app.command()
    def end() -> None:
        raise raised

    @app.command()
    def other() -> None: ...

    result = CliRunner().invoke(app, ["end"])
    assert (result.exit_code, result.stderr) == (exit_code, line)


def test_version_is_said(tuwen: Tuwen) -> None:
    assert tuwen("--version").stdout == f"tuwen {__version__}\n"


def test_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = {"sqlalchemy", "fastapi", "aiohttp", "pydantic", "rich", "PIL", "numpy"}
    code = "import sys, app.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_reader_that_leaves_ends_the_command_quietly(data_dir: Path, tuwen: Tuwen) -> None:
    tuwen("keys", "create", "laptop")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "app.cli", "keys", "list"]
    repository = Path(__file__).parents[2]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=repository)
    os.close(write)
    assert data_dir.exists()
    assert (done.returncode, done.stderr) == (1, "")
