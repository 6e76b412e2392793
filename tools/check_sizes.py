"""Refuses functions over 60 lines and modules over 400: `python tools/check_sizes.py app tests`.

A function's lines count from its `def` to its last line; decorators are not counted, docstrings are.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 400


@dataclass(frozen=True, slots=True)
class Oversize:
    """A function or module that is too long. `name` is empty for a module."""

    path: Path
    line: int
    name: str
    lines: int
    allowed: int

    def __str__(self) -> str:
        what = f"function {self.name}" if self.name else "module"
        return f"{self.path}:{self.line}: {what} has {self.lines} lines, {self.allowed} are allowed"


def python_files(places: Iterable[Path]) -> Iterator[Path]:
    """The Python files among and below `places`, in order."""
    for place in places:
        yield from sorted(place.rglob("*.py")) if place.is_dir() else [place]


def oversizes(path: Path) -> Iterator[Oversize]:
    """What is too long in one file.

    Raises:
        SyntaxError: the file is no Python.
    """
    source = path.read_text(encoding="utf-8")
    module_lines = len(source.splitlines())
    if module_lines > MAX_MODULE_LINES:
        yield Oversize(path, 1, "", module_lines, MAX_MODULE_LINES)
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield Oversize(path, node.lineno, node.name, lines, MAX_FUNCTION_LINES)


def main(arguments: list[str]) -> int:
    """Prints one line per finding; the exit status is 1 if there was any, or if there was nothing to look at."""
    files = list(python_files(Path(argument) for argument in arguments))
    if not files:
        print("check_sizes: no Python files there", file=sys.stderr)
        return 1
    found = [oversize for path in files for oversize in oversizes(path)]
    for oversize in found:
        print(oversize)
    print(f"sizes: {len(files)} modules, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
