"""The import contracts of pyproject.toml, tried on a toy `app` that breaks them one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(app: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=app.parent,
        env=os.environ | {"PYTHONPATH": str(app.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def toy_app(tmp_path: Path) -> Path:
    """An empty module for each package that the contracts know."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = " ".join(layer for contract in settings["contracts"] for layer in contract.get("layers", ()))
    app = tmp_path / "app"
    for name in layers.replace("|", " ").replace(":", " ").split():
        (app / name.strip("()")).mkdir(parents=True)
        (app / name.strip("()") / "__init__.py").touch()
    (app / "__init__.py").touch()
    return app


def test_an_app_without_imports_keeps_all_contracts(toy_app: Path) -> None:
    done = lint(toy_app)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core", "import app.backends", "Layers"),
        ("media", "import app.store", "Layers"),
        ("backends", "import asyncio", "do no I/O"),
        ("core", "import pydantic", "standard library only"),
        ("gateway", "import starlette", "web framework"),
        ("transports", "import PIL", "picture library"),
        ("accounts", "import sqlalchemy", "database"),
        ("api", "import app.store", "never a transport or a store"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(toy_app: Path, module: str, line: str, contract: str) -> None:
    (toy_app / module / "__init__.py").write_text(f"{line}\n")
    done = lint(toy_app)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), done.stdout


def test_a_package_without_a_place_in_the_layers_is_refused(toy_app: Path) -> None:
    (toy_app / "helpers.py").touch()
    done = lint(toy_app)
    assert done.returncode == 1
    assert "helpers" in done.stdout
