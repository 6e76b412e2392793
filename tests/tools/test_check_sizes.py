from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_sizes import main


def function(name: str, lines: int, *, head: str = "def") -> str:
    """A function of so many lines, its `def` included."""
    return f"{head} {name}():\n" + "    pass\n" * (lines - 1)


def test_a_function_of_sixty_lines_passes_and_one_of_sixty_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fits.py").write_text(function("fits", 60))
    assert main([str(tmp_path)]) == 0

    long = tmp_path / "long.py"
    long.write_text("import os\n\n\n@cache\n" + function("too_long", 61))
    assert main([str(tmp_path)]) == 1
    assert f"{long}:5: function too_long has 61 lines, 60 are allowed" in capsys.readouterr().out


def test_methods_and_async_functions_are_measured_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = "".join(f"    {line}\n" for line in function("method", 61).splitlines())
    (tmp_path / "m.py").write_text(f"class C:\n{method}\n\n{function('task', 70, head='async def')}")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "function method has 61 lines" in out
    assert "function task has 70 lines" in out


def test_a_module_of_four_hundred_lines_passes_and_one_more_is_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n" * 400)
    assert main([str(module)]) == 0
    module.write_text("x = 1\n" * 401)
    assert main([str(module)]) == 1
    assert f"{module}:1: module has 401 lines, 400 are allowed" in capsys.readouterr().out


def test_a_place_without_python_is_no_success(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
